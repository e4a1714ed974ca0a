use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::{AppId, Fen, OutTradeNo, RequestNo, TradeNo};

/// One thing known about a trade, told by a verified notification, a gateway answer or a bill row.
///
/// Facts form a set: equal facts are one fact, however often and in whatever order they are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fact {
    pub app_id: AppId,
    pub trade_no: TradeNo,
    pub out_trade_no: OutTradeNo,
    pub told: Told,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// The buyer has opened the trade and not paid yet (`WAIT_BUYER_PAY`).
    Created { total: Fen, at: DateTime<Utc> },
    /// The buyer has paid. `receipt` (商家实收) is `None` where the message does not tell it, as in refunds.
    Paid { total: Fen, receipt: Option<Fen>, at: DateTime<Utc> },
    /// Money went back. `receipt` is the merchant's part of it, known only from bills.
    Refunded { request_no: RequestNo, reported: Reported, receipt: Option<Fen>, at: DateTime<Utc> },
    /// The trade is closed: unpaid, or fully refunded if it was paid.
    Closed { at: Option<DateTime<Utc>> },
    /// The refund window is over.
    Finished,
}

/// What the amount told with a refund means. `refund_fee` in notifications is documented as the trade's
/// cumulative refund, though one source reads it as the single refund's amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reported {
    /// Everything refunded on the trade so far, this refund included.
    Cumulative(Fen),
    /// This refund alone.
    Single(Fen),
}

impl Fact {
    /// Identifies the fact by its content: equal digests, equal facts. Stable over versions; stored.
    pub fn digest(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update(text.as_bytes());
            hash.update([0]);
        };
        field(self.app_id.as_str());
        field(self.trade_no.as_str());
        field(self.out_trade_no.as_str());
        field(self.told.kind());
        let fen = |fen: Fen| fen.get().to_string();
        let moment = |at: DateTime<Utc>| at.timestamp_micros().to_string();
        match &self.told {
            Told::Created { total, at } => {
                field(&fen(*total));
                field(&moment(*at));
            }
            Told::Paid { total, receipt, at } => {
                field(&fen(*total));
                field(&receipt.map(fen).unwrap_or_default());
                field(&moment(*at));
            }
            Told::Refunded { request_no, reported, receipt, at } => {
                field(request_no.as_str());
                match reported {
                    Reported::Cumulative(amount) => field(&format!("cumulative {amount}")),
                    Reported::Single(amount) => field(&format!("single {amount}")),
                }
                field(&receipt.map(fen).unwrap_or_default());
                field(&moment(*at));
            }
            Told::Closed { at } => field(&at.map(moment).unwrap_or_default()),
            Told::Finished => {}
        }
        let digest = hash.finalize();
        let mut short = [0; 16];
        short.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        short
    }
}

impl Told {
    /// The name of the kind, as stored.
    pub fn kind(&self) -> &'static str {
        match self {
            Told::Created { .. } => "created",
            Told::Paid { .. } => "paid",
            Told::Refunded { .. } => "refunded",
            Told::Closed { .. } => "closed",
            Told::Finished => "finished",
        }
    }
}
