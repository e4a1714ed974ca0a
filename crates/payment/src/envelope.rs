use chrono::{DateTime, Utc};

use crate::{AppId, Provider};

/// What travels through the log: the bytes as they came, and what is needed to find their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// CloudEvents' `id`. Of a received message: new with every append, for tracing. Of the ledger's events: made of
    /// what they tell, the same on every repetition, one per fact and app.
    pub id: String,
    pub topic: Topic,
    pub kind: Kind,
    pub provider: Provider,
    pub app_id: AppId,
    /// Messages of one key stay in one partition, in order: `{app_id}/{out_trade_no}`.
    pub key: String,
    pub source: Source,
    /// CloudEvents' `sequence`, of the ledger's events only: grows over the events of one trade, and over those of one
    /// difference, with gaps.
    pub sequence: Option<i64>,
    pub received_at: DateTime<Utc>,
    /// Why the message was set aside; only in [`Topic::Quarantine`] and [`Topic::DeadLetters`].
    pub reason: Option<String>,
    /// Of a received message the raw signed body, untouched; of the ledger's events a JSON object.
    pub body: Vec<u8>,
}

/// Where a message lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Genuine messages addressed to us.
    Notifications,
    /// Genuine messages that failed a check, with the reason.
    Quarantine,
    /// Messages that could not be applied, with the reason.
    DeadLetters,
    /// What changed in the ledger, for the merchant's own systems.
    LedgerEvents,
}

impl Topic {
    pub const ALL: [Topic; 4] =
        [Topic::Notifications, Topic::Quarantine, Topic::DeadLetters, Topic::LedgerEvents];
    /// What the consumer reads. The others are written for people and other programs.
    pub const CONSUMED: [Topic; 2] = [Topic::Notifications, Topic::Quarantine];

    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Notifications => "notifications",
            Topic::Quarantine => "quarantine",
            Topic::DeadLetters => "dead-letters",
            Topic::LedgerEvents => "ledger-events",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Topic::ALL.into_iter().find(|topic| topic.as_str() == name)
    }
}

/// What a message tells: CloudEvents' `type`. Part of the interface: names are added, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    NotificationReceived,
    NotificationQuarantined,
    /// A message of the log could not be applied.
    MessageDead,
    TradePaid,
    TradeRefunded,
    /// Closed without a payment.
    TradeClosed,
    /// A payment's or a refund's figures are others than were told before.
    TradeCorrected,
    /// Two messages contradict each other about a trade.
    TradeConflict,
    /// A day's comparison found a difference, for the first time or again.
    DifferenceOpened,
    DifferenceResolved,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::NotificationReceived,
        Kind::NotificationQuarantined,
        Kind::MessageDead,
        Kind::TradePaid,
        Kind::TradeRefunded,
        Kind::TradeClosed,
        Kind::TradeCorrected,
        Kind::TradeConflict,
        Kind::DifferenceOpened,
        Kind::DifferenceResolved,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NotificationReceived => "suanpan.notification.received",
            Kind::NotificationQuarantined => "suanpan.notification.quarantined",
            Kind::MessageDead => "suanpan.message.dead",
            Kind::TradePaid => "suanpan.trade.paid",
            Kind::TradeRefunded => "suanpan.trade.refunded",
            Kind::TradeClosed => "suanpan.trade.closed",
            Kind::TradeCorrected => "suanpan.trade.corrected",
            Kind::TradeConflict => "suanpan.trade.conflict",
            Kind::DifferenceOpened => "suanpan.difference.opened",
            Kind::DifferenceResolved => "suanpan.difference.resolved",
        }
    }

    /// The kind of that name, `None` where there is none.
    pub fn named(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Alipay called us.
    Notification,
    /// We asked Alipay.
    Query,
    /// Our own ledger, from what it was told.
    Ledger,
}

impl Source {
    pub const ALL: [Source; 3] = [Source::Notification, Source::Query, Source::Ledger];

    pub fn as_str(self) -> &'static str {
        match self {
            Source::Notification => "notification",
            Source::Query => "query",
            Source::Ledger => "ledger",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Source::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_name_of_one_thing() {
        for topic in Topic::ALL {
            assert_eq!(Topic::named(topic.as_str()), Some(topic));
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        for source in Source::ALL {
            assert_eq!(Source::named(source.as_str()), Some(source));
        }
        assert_eq!(Kind::named("suanpan.trade.Paid"), None);
    }
}
