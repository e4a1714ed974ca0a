use std::collections::{BTreeMap, BTreeSet};

use payment::{BillDay, Business, Fen, RequestNo, TradeNo};
use serde::Serialize;

use crate::bill::Sheet;
use crate::delivery::{Delivery, Expected};
use crate::scenario::Plan;
use crate::trade::{Mishap, Refund, Trade};

/// What was planted, and so what must be found: no more, no less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AnswerKey {
    /// Every difference, by day and trade; each trade has one at most.
    pub differences: Vec<Planted>,
    /// Movements that the two sides put on different days.
    pub carried: Vec<Carried>,
    /// Deliveries that must be answered `success`, the quarantined ones among them.
    pub accepted: u64,
    /// Deliveries that must be answered with a failure.
    pub refused: u64,
    /// Deliveries that are genuine and not for us: answered `success`, then set aside.
    pub quarantined: u64,
    /// Different notifications (`notify_id`) among the accepted deliveries that are not
    /// quarantined.
    pub notifications: u64,
    /// What each day's reconciliation must count, in order of the days.
    pub days: Vec<DayTotals>,
}

/// One difference between the ledger and a bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The day whose reconciliation shows it.
    pub day: BillDay,
    /// The name of its kind: `missing_in_ledger`, `missing_in_bill`, `amount`, `receipt`, `fee`,
    /// `order_no`, `status`, `duplicate_in_bill` or `conflict`.
    pub kind: &'static str,
    /// Which trade.
    pub trade_no: TradeNo,
    /// Which refund; `None` on payments.
    pub request_no: Option<RequestNo>,
    /// The figure in dispute (订单金额, 商家实收 or 服务费, by kind; else 商家实收) in the bill.
    pub bill_fen: Option<Fen>,
    /// The same figure as the ledger knows it.
    pub ledger_fen: Option<Fen>,
}

/// A movement that one side has before midnight and the other after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Which trade.
    pub trade_no: TradeNo,
    /// Which refund; `None` on payments.
    pub request_no: Option<RequestNo>,
    /// The earlier day: one side has it.
    pub from_day: BillDay,
    /// The next day: the other side has it.
    pub to_day: BillDay,
}

/// Counts and signed sums of 商家实收 of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayTotals {
    /// Which day.
    pub day: BillDay,
    /// Rows of the bill, repeated ones counted as often as they stand there.
    pub bill_rows: u64,
    /// Their sum.
    pub bill_net_fen: Fen,
    /// 交易 rows of the bill.
    pub payments: u64,
    /// Their sum.
    pub payments_receipt_fen: Fen,
    /// 退款 rows of the bill.
    pub refunds: u64,
    /// Their sum; negative.
    pub refunds_receipt_fen: Fen,
    /// Payments and refunds that notifications told, by their own times.
    pub ledger_movements: u64,
    /// Their sum.
    pub ledger_net_fen: Fen,
}

pub(crate) fn key(
    plan: &Plan,
    trades: &[Trade],
    sheets: &[Sheet],
    deliveries: &[Delivery],
) -> AnswerKey {
    let mut differences: Vec<Planted> =
        trades.iter().filter_map(|trade| planted(plan, trade)).collect();
    differences.sort_by(|a, b| a.day.cmp(&b.day).then_with(|| a.trade_no.cmp(&b.trade_no)));
    let answered = |expected| count(deliveries.iter().filter(|one| one.expected == expected));
    AnswerKey {
        differences,
        carried: trades.iter().filter_map(carried).collect(),
        accepted: answered(Expected::Success),
        refused: answered(Expected::Fail),
        quarantined: count(deliveries.iter().filter(|one| one.what.is_quarantined())),
        notifications: count(
            deliveries
                .iter()
                .filter(|one| one.expected == Expected::Success && !one.what.is_quarantined())
                .map(|one| &one.notify_id)
                .collect::<BTreeSet<_>>()
                .into_iter(),
        ),
        days: totals(trades, sheets),
    }
}

fn planted(plan: &Plan, trade: &Trade) -> Option<Planted> {
    let payment = trade.payment?;
    let receipt_fen = trade.price.receipt_fen();
    let on_payment = |kind, bill_fen: Option<i64>, ledger_fen: Option<i64>| {
        Some(Planted {
            day: BillDay::of(payment.at),
            kind,
            trade_no: trade.trade_no.clone(),
            request_no: None,
            bill_fen: bill_fen.map(Fen::new),
            ledger_fen: ledger_fen.map(Fen::new),
        })
    };
    let on_refund = |kind, figures: fn(&Refund) -> (Option<i64>, Option<i64>)| {
        let refund = trade.refunds.first()?;
        let (bill_fen, ledger_fen) = figures(refund);
        Some(Planted {
            day: BillDay::of(refund.at),
            kind,
            trade_no: trade.trade_no.clone(),
            request_no: Some(refund.request_no.clone()),
            bill_fen: bill_fen.map(Fen::new),
            ledger_fen: ledger_fen.map(Fen::new),
        })
    };
    match trade.mishap? {
        Mishap::PaymentLost => on_payment("missing_in_ledger", Some(receipt_fen), None),
        Mishap::RefundLost | Mishap::EarlierRefundLost => {
            on_refund("missing_in_ledger", |refund| (Some(-refund.receipt_fen), None))
        }
        Mishap::PaymentRowMissing => on_payment("missing_in_bill", None, Some(receipt_fen)),
        Mishap::RefundRowMissing => {
            on_refund("missing_in_bill", |refund| (None, Some(-refund.receipt_fen)))
        }
        Mishap::PaymentAmountOff { off_fen } => {
            let total_fen = trade.price.total_fen;
            on_payment("amount", Some(total_fen + off_fen), Some(total_fen))
        }
        Mishap::RefundAmountOff { off_fen } => {
            let total = |refund: &Refund| (Some(-refund.amount_fen), Some(-refund.amount_fen));
            let mut planted = on_refund("amount", total)?;
            planted.bill_fen = planted.bill_fen?.checked_add(Fen::new(off_fen));
            Some(planted)
        }
        Mishap::ReceiptOff { off_fen } => {
            on_payment("receipt", Some(receipt_fen + off_fen), Some(receipt_fen))
        }
        Mishap::FeeOff { off_fen } => {
            let fee_fen = trade.fee_fen(plan.fee_rate_ppm);
            on_payment("fee", Some(fee_fen + off_fen), Some(fee_fen))
        }
        Mishap::OrderNoOther | Mishap::OrderNoSwapped => {
            on_payment("order_no", Some(receipt_fen), Some(receipt_fen))
        }
        Mishap::ClosedYetBilled => on_payment("status", Some(receipt_fen), None),
        Mishap::RowTwice => on_payment("duplicate_in_bill", Some(receipt_fen), None),
        Mishap::ToldTwoAmounts { .. } => {
            on_payment("conflict", Some(receipt_fen), Some(receipt_fen))
        }
        Mishap::AcrossMidnight { .. } | Mishap::ToldByRefund | Mishap::RefundToldFirst => None,
    }
}

fn carried(trade: &Trade) -> Option<Carried> {
    let Some(Mishap::AcrossMidnight { what, .. }) = trade.mishap else { return None };
    let (at, completed_at, request_no) = match what {
        Business::Payment => {
            let payment = trade.payment?;
            (payment.at, payment.completed_at, None)
        }
        Business::Refund => {
            let refund = trade.refunds.first()?;
            (refund.at, refund.completed_at, Some(refund.request_no.clone()))
        }
    };
    Some(Carried {
        trade_no: trade.trade_no.clone(),
        request_no,
        from_day: BillDay::of(at.min(completed_at)),
        to_day: BillDay::of(at.max(completed_at)),
    })
}

fn totals(trades: &[Trade], sheets: &[Sheet]) -> Vec<DayTotals> {
    let mut ledger: BTreeMap<BillDay, (u64, i64)> = BTreeMap::new();
    for (day, receipt_fen) in trades.iter().flat_map(movements) {
        let (count, net_fen) = ledger.entry(day).or_default();
        *count += 1;
        *net_fen += receipt_fen;
    }
    sheets
        .iter()
        .map(|sheet| {
            let of = |business| {
                let rows = || sheet.rows.iter().filter(move |row| row.business == business);
                (count(rows()), Fen::new(rows().map(|row| row.receipt_fen).sum()))
            };
            let (payments, payments_receipt_fen) = of(Business::Payment);
            let (refunds, refunds_receipt_fen) = of(Business::Refund);
            let (ledger_movements, ledger_net_fen) =
                ledger.get(&sheet.day).copied().unwrap_or_default();
            DayTotals {
                day: sheet.day,
                bill_rows: payments + refunds,
                bill_net_fen: Fen::new(sheet.rows.iter().map(|row| row.receipt_fen).sum()),
                payments,
                payments_receipt_fen,
                refunds,
                refunds_receipt_fen,
                ledger_movements,
                ledger_net_fen: Fen::new(ledger_net_fen),
            }
        })
        .collect()
}

/// What the ledger books of a trade: the day by the notification's time, and 商家实收, signed. A refund
/// after one that was lost tells the sum of both; the bill, which knows the first, leaves the
/// second its own amount.
fn movements(trade: &Trade) -> Vec<(BillDay, i64)> {
    let payment =
        trade.payment_heard().map(|payment| (BillDay::of(payment.at), trade.price.receipt_fen()));
    let refunds = trade
        .refunds
        .iter()
        .skip(trade.refunds_lost())
        .map(|refund| (BillDay::of(refund.at), -refund.receipt_fen));
    payment.into_iter().chain(refunds).collect()
}

fn count(items: impl Iterator) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
