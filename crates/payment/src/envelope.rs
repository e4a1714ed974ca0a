use chrono::{DateTime, Utc};

use crate::{AppId, Provider};

/// What travels through the log: the signed bytes as they came, and what is needed to find their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Unique per append, for tracing; says nothing about the content.
    pub id: String,
    pub topic: Topic,
    pub provider: Provider,
    pub app_id: AppId,
    /// Messages of one key stay in one partition, in order: `{app_id}/{out_trade_no}`.
    pub key: String,
    pub source: Source,
    pub received_at: DateTime<Utc>,
    /// Why the message was set aside; only in [`Topic::Quarantine`].
    pub reason: Option<String>,
    /// The raw signed body, untouched.
    pub body: Vec<u8>,
}

/// Where a message lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Genuine messages addressed to us.
    Notifications,
    /// Genuine messages that failed a check, with the reason.
    Quarantine,
}

impl Topic {
    pub const ALL: [Topic; 2] = [Topic::Notifications, Topic::Quarantine];

    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Notifications => "notifications",
            Topic::Quarantine => "quarantine",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Topic::ALL.into_iter().find(|topic| topic.as_str() == name)
    }
}

/// Who told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Alipay called us.
    Notification,
    /// We asked Alipay.
    Query,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Notification => "notification",
            Source::Query => "query",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Source::Notification, Source::Query].into_iter().find(|source| source.as_str() == name)
    }
}
