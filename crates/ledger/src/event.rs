//! What the ledger tells: names and bodies of its events. Bodies are JSON objects; amounts are whole fen, times RFC
//! 3339. Nothing of the buyer is in them.

use chrono::{DateTime, NaiveDate, Utc};
use payment::{AppId, Kind};
use serde::Serialize;

use crate::apply::Message;
use crate::difference::Difference;
use crate::fact::Key;
use crate::journal::Figures;
use crate::place::Place;
use crate::trade::{Paid, Refund, Subject};

/// One event, ready to be put into the outbox.
pub(crate) struct Event {
    pub(crate) app_id: AppId,
    pub(crate) kind: Kind,
    /// The same however often it is told, and of no other event of the app.
    pub(crate) id: String,
    pub(crate) key: String,
    /// `None` for a dead letter: its bytes are told as they are.
    pub(crate) body: Option<String>,
}

/// The trade that an event is about.
#[derive(Clone, Copy)]
pub(crate) struct About<'t> {
    pub(crate) key: Key<'t>,
    pub(crate) out_trade_no: &'t str,
}

/// A movement's figures now, and what they changed by: amounts are positive on refunds, too.
pub(crate) struct Correction<'t> {
    pub(crate) entry_id: i64,
    /// Empty for the payment.
    pub(crate) request_no: &'t str,
    pub(crate) is: Figures,
    pub(crate) change: Figures,
}

pub(crate) fn paid(about: About<'_>, paid: &Paid) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        trade_no: &'b str,
        out_trade_no: &'b str,
        total_fen: i64,
        receipt_fen: i64,
        receipt_known: bool,
        paid_at: DateTime<Utc>,
    }
    about.event(
        Kind::TradePaid,
        "paid",
        &Body {
            trade_no: about.trade_no(),
            out_trade_no: about.out_trade_no,
            total_fen: paid.total.get(),
            receipt_fen: paid.receipt.get(),
            receipt_known: paid.receipt_known,
            paid_at: paid.at,
        },
    )
}

pub(crate) fn refunded(about: About<'_>, request_no: &str, refund: &Refund) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        trade_no: &'b str,
        out_trade_no: &'b str,
        request_no: &'b str,
        amount_fen: i64,
        receipt_fen: i64,
        confirmed: bool,
        refunded_at: DateTime<Utc>,
    }
    about.event(
        Kind::TradeRefunded,
        &format!("refunded/{request_no}"),
        &Body {
            trade_no: about.trade_no(),
            out_trade_no: about.out_trade_no,
            request_no,
            amount_fen: refund.amount.get(),
            receipt_fen: refund.receipt.get(),
            confirmed: refund.confirmed,
            refunded_at: refund.at,
        },
    )
}

pub(crate) fn closed(about: About<'_>, closed_at: Option<DateTime<Utc>>) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        trade_no: &'b str,
        out_trade_no: &'b str,
        closed_at: Option<DateTime<Utc>>,
    }
    let body = Body { trade_no: about.trade_no(), out_trade_no: about.out_trade_no, closed_at };
    about.event(Kind::TradeClosed, "closed", &body)
}

pub(crate) fn corrected(about: About<'_>, correction: &Correction<'_>) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        trade_no: &'b str,
        out_trade_no: &'b str,
        business: &'static str,
        request_no: &'b str,
        total_fen: i64,
        receipt_fen: i64,
        change_total_fen: i64,
        change_receipt_fen: i64,
    }
    about.event(
        Kind::TradeCorrected,
        &format!("corrected/{}", correction.entry_id),
        &Body {
            trade_no: about.trade_no(),
            out_trade_no: about.out_trade_no,
            business: if correction.request_no.is_empty() { "payment" } else { "refund" },
            request_no: correction.request_no,
            total_fen: correction.is.total_fen,
            receipt_fen: correction.is.receipt_fen,
            change_total_fen: correction.change.total_fen,
            change_receipt_fen: correction.change.receipt_fen,
        },
    )
}

/// `told`: every value told so far. Their number is part of the id: with another value it is another event.
pub(crate) fn conflict(
    about: About<'_>,
    subject: Subject,
    request_no: &str,
    told: &[&str],
) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        trade_no: &'b str,
        out_trade_no: &'b str,
        subject: &'static str,
        request_no: &'b str,
        told: &'b [&'b str],
    }
    let subject = subject.as_str();
    about.event(
        Kind::TradeConflict,
        &format!("conflict/{subject}/{request_no}/{}", told.len()),
        &Body {
            trade_no: about.trade_no(),
            out_trade_no: about.out_trade_no,
            subject,
            request_no,
            told,
        },
    )
}

/// `state` is the one it has come to by the event that the ledger numbers `event_no`.
pub(crate) fn difference(
    app_id: &AppId,
    difference: &Difference,
    state: &str,
    event_no: i64,
) -> Event {
    #[derive(Serialize)]
    struct Body<'b> {
        difference_id: &'b str,
        day: NaiveDate,
        kind: &'b str,
        business: &'b str,
        trade_no: &'b str,
        request_no: &'b str,
        out_trade_no: &'b str,
        bill_fen: Option<i64>,
        ledger_fen: Option<i64>,
        state: &'b str,
    }
    let id = format!("difference/{}/{event_no}", difference.difference_id);
    // One that is about no order is ordered by itself.
    let of = if difference.out_trade_no.is_empty() {
        format!("difference/{}", difference.difference_id)
    } else {
        difference.out_trade_no.clone()
    };
    Event {
        app_id: app_id.clone(),
        kind: if state == "resolved" { Kind::DifferenceResolved } else { Kind::DifferenceOpened },
        id,
        key: format!("{app_id}/{of}"),
        body: json(&Body {
            difference_id: &difference.difference_id,
            day: difference.day,
            kind: &difference.kind,
            business: &difference.business,
            trade_no: &difference.trade_no,
            request_no: &difference.request_no,
            out_trade_no: &difference.out_trade_no,
            bill_fen: difference.bill_fen,
            ledger_fen: difference.ledger_fen,
            state,
        }),
    }
}

/// Known by its place; what it says of an order is not to be trusted.
pub(crate) fn dead(message: &Message) -> Event {
    let place = Place {
        log_topic: message.log_topic.to_string(),
        partition: message.partition,
        offset: message.offset,
    };
    Event {
        app_id: message.app_id.clone(),
        kind: Kind::MessageDead,
        key: format!("{}/{place}", message.app_id),
        id: place.to_string(),
        body: None,
    }
}

impl<'t> About<'t> {
    fn trade_no(&self) -> &'t str {
        self.key.trade_no.as_str()
    }

    fn event(self, kind: Kind, what: &str, body: &impl Serialize) -> Event {
        let Key { app_id, trade_no } = self.key;
        Event {
            app_id: app_id.clone(),
            kind,
            id: format!("{trade_no}/{what}"),
            key: format!("{app_id}/{}", self.out_trade_no),
            body: json(body),
        }
    }
}

/// Cannot fail on structs of texts, numbers and times; if it did, the outbox refuses a body that is not there.
fn json(body: &impl Serialize) -> Option<String> {
    serde_json::to_string(body).ok()
}
