use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use payment::Fen;

use crate::trade::{Doubt, Trade};

/// What the ledger says of one trade: as it stands in the tables, or as the facts make it.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Sheet {
    pub(super) trade: Option<TradeSheet>,
    /// By request number.
    pub(super) refunds: BTreeMap<String, RefundSheet>,
    /// Subject, request number, value told.
    pub(super) conflicts: BTreeSet<(String, String, String)>,
    /// By request number, empty for the payment; none that is zero.
    pub(super) balances: BTreeMap<String, Balance>,
}

/// Of `alipay:clearing`, `merchant:discount` and `sales`.
pub(super) type Balance = [i128; 3];

#[derive(PartialEq, Eq)]
pub(super) struct TradeSheet {
    pub(super) out_trade_no: String,
    pub(super) state: String,
    pub(super) total_fen: Option<i64>,
    pub(super) receipt_fen: Option<i64>,
    pub(super) receipt_known: bool,
    pub(super) refunded_fen: i64,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) paid_at: Option<DateTime<Utc>>,
    pub(super) closed_at: Option<DateTime<Utc>>,
    pub(super) has_conflict: bool,
    pub(super) doubt: Option<String>,
}

#[derive(PartialEq, Eq)]
pub(super) struct RefundSheet {
    pub(super) amount_fen: i64,
    pub(super) receipt_fen: i64,
    pub(super) confirmed: bool,
    pub(super) refunded_at: Option<DateTime<Utc>>,
    pub(super) has_conflict: bool,
}

impl Sheet {
    pub(super) fn of(trade: &Trade) -> Sheet {
        let mut sheet = Sheet {
            trade: Some(TradeSheet {
                out_trade_no: trade.out_trade_no.to_string(),
                state: trade.state.as_str().to_owned(),
                total_fen: trade.total.map(Fen::get),
                receipt_fen: trade.paid.map(|paid| paid.receipt.get()),
                receipt_known: trade.paid.is_some_and(|paid| paid.receipt_known),
                refunded_fen: trade.refunded().get(),
                created_at: trade.created_at,
                paid_at: trade.paid.map(|paid| paid.at),
                closed_at: trade.closed_at,
                has_conflict: trade.has_conflict(),
                doubt: trade.doubt.map(Doubt::as_str).map(str::to_owned),
            }),
            ..Sheet::default()
        };
        let balance = |total: Fen, receipt: Fen| {
            let [total, receipt] = [total, receipt].map(|fen| i128::from(fen.get()));
            [receipt, total - receipt, -total]
        };
        if let Some(paid) = &trade.paid {
            sheet.balances.insert(String::new(), balance(paid.total, paid.receipt));
        }
        for (request_no, refund) in &trade.refunds {
            let amounts = balance(refund.amount, refund.receipt).map(|fen| -fen);
            sheet.balances.insert(request_no.to_string(), amounts);
            sheet.refunds.insert(
                request_no.to_string(),
                RefundSheet {
                    amount_fen: refund.amount.get(),
                    receipt_fen: refund.receipt.get(),
                    confirmed: refund.confirmed,
                    refunded_at: Some(refund.at),
                    has_conflict: refund.has_conflict,
                },
            );
        }
        sheet.balances.retain(|_, balance| *balance != Balance::default());
        for conflict in &trade.conflicts {
            let (request_no, told) = (conflict.request_no.clone(), conflict.told.clone());
            sheet.conflicts.insert((conflict.subject.as_str().to_owned(), request_no, told));
        }
        sheet
    }

    /// One line a figure: what it is, and its value.
    pub(super) fn lines(&self) -> BTreeMap<String, String> {
        fn text<T: ToString>(value: &Option<T>) -> String {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        }
        let mut lines = BTreeMap::new();
        let mut line = |what: String, value: String| lines.insert(what, value);
        if let Some(trade) = &self.trade {
            line("trade.out_trade_no".to_owned(), trade.out_trade_no.clone());
            line("trade.state".to_owned(), trade.state.clone());
            line("trade.total_fen".to_owned(), text(&trade.total_fen));
            line("trade.receipt_fen".to_owned(), text(&trade.receipt_fen));
            line("trade.receipt_known".to_owned(), trade.receipt_known.to_string());
            line("trade.refunded_fen".to_owned(), trade.refunded_fen.to_string());
            line("trade.created_at".to_owned(), text(&trade.created_at));
            line("trade.paid_at".to_owned(), text(&trade.paid_at));
            line("trade.closed_at".to_owned(), text(&trade.closed_at));
            line("trade.has_conflict".to_owned(), trade.has_conflict.to_string());
            line("trade.doubt".to_owned(), text(&trade.doubt));
        }
        for (request_no, refund) in &self.refunds {
            let what = |figure: &str| format!("refund {request_no}: {figure}");
            line(what("amount_fen"), refund.amount_fen.to_string());
            line(what("receipt_fen"), refund.receipt_fen.to_string());
            line(what("confirmed"), refund.confirmed.to_string());
            line(what("refunded_at"), text(&refund.refunded_at));
            line(what("has_conflict"), refund.has_conflict.to_string());
        }
        for (subject, request_no, told) in &self.conflicts {
            line(format!("conflict {subject} {request_no}: {told}"), "told".to_owned());
        }
        for (request_no, balance) in &self.balances {
            for (account, fen) in
                ["alipay:clearing", "merchant:discount", "sales"].iter().zip(balance)
            {
                let of = if request_no.is_empty() { "payment" } else { request_no };
                line(format!("journal of {of}: {account}"), fen.to_string());
            }
        }
        lines
    }
}
