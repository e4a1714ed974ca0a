use chrono::{DateTime, Utc};
use payment::{BillDay, Business, OutTradeNo, RequestNo, TradeNo};

use crate::dice::Dice;
use crate::scenario::Plan;
use crate::trade::{Mishap, Refund, Store, Trade, compact};

mod archive;
mod text;

/// One day's trade bill as Alipay gives it: a zip with 业务明细 and 业务明细(汇总).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillOfDay {
    /// The day it covers.
    pub day: BillDay,
    /// `<PID>0156_YYYYMMDD.csv.zip`
    pub file_name: String,
    /// The file.
    pub zip: Vec<u8>,
}

/// Why a bill cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    #[error("cannot pack the bill")]
    Zip(#[source] zip::result::ZipError),
    #[error("cannot pack the bill")]
    Io(#[source] std::io::Error),
    #[error("the packed bill is not laid out as expected: {what}")]
    Layout { what: &'static str },
}

/// The rows of one day, mishaps included.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) day: BillDay,
    pub(crate) rows: Vec<Row>,
}

/// One row of 业务明细. Amounts carry the bill's signs: refunds and fees are negative.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) trade_no: TradeNo,
    pub(crate) out_trade_no: OutTradeNo,
    pub(crate) business: Business,
    pub(crate) request_no: Option<RequestNo>,
    pub(crate) subject: &'static str,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) completed_at: DateTime<Utc>,
    pub(crate) store: Option<Store>,
    /// 对方账户
    pub(crate) account: String,
    /// 订单金额
    pub(crate) total_fen: i64,
    /// 商家实收
    pub(crate) receipt_fen: i64,
    /// 支付宝红包
    pub(crate) alipay_discount_fen: i64,
    /// 商家优惠
    pub(crate) merchant_discount_fen: i64,
    /// 服务费
    pub(crate) fee_fen: i64,
}

/// One sheet for every simulated day, in order; rows by 完成时间.
pub(crate) fn sheets(plan: &Plan, trades: &[Trade]) -> Vec<Sheet> {
    let mut sheets: Vec<Sheet> =
        plan.all_days().into_iter().map(|day| Sheet { day, rows: Vec::new() }).collect();
    for row in trades.iter().flat_map(|trade| rows(plan, trade)) {
        let day = BillDay::of(row.completed_at);
        if let Ok(found) = sheets.binary_search_by_key(&day, |sheet| sheet.day)
            && let Some(sheet) = sheets.get_mut(found)
        {
            sheet.rows.push(row);
        }
    }
    for sheet in &mut sheets {
        sheet.rows.sort_by(|a, b| {
            a.completed_at.cmp(&b.completed_at).then_with(|| a.trade_no.cmp(&b.trade_no))
        });
    }
    sheets
}

/// Packs one day's bill; large ones are sometimes in two parts.
pub(crate) fn write(sheet: &Sheet, plan: &Plan, dice: &mut Dice) -> Result<BillOfDay, BillError> {
    let account = format!("{}0156", plan.seller_id);
    let stem = format!("{account}_{}", compact(sheet.day));
    let exported_seconds = dice.between(5 * 3600, 8 * 3600);
    let page = text::Page {
        account: &account,
        day: sheet.day,
        exported_at: sheet.day.end() + chrono::Duration::seconds(exported_seconds),
    };
    let mut entries = Vec::new();
    if sheet.rows.len() > 1 && dice.percent(40) {
        let (one, two) = sheet.rows.split_at(sheet.rows.len() / 2);
        entries.push((format!("{stem}_业务明细_1.csv"), text::details(&page, one)));
        entries.push((format!("{stem}_业务明细_2.csv"), text::details(&page, two)));
    } else {
        entries.push((format!("{stem}_业务明细.csv"), text::details(&page, &sheet.rows)));
    }
    let summary = (format!("{stem}_业务明细(汇总).csv"), text::summary(&page, &sheet.rows));
    if dice.percent(50) {
        entries.insert(0, summary);
    } else {
        entries.push(summary);
    }
    let zip = archive::pack(&entries, page.exported_at)?;
    Ok(BillOfDay { day: sheet.day, file_name: format!("{stem}.csv.zip"), zip })
}

/// What the bills say of a trade, on whatever day.
fn rows(plan: &Plan, trade: &Trade) -> Vec<Row> {
    let Some(payment) = trade.payment else { return Vec::new() };
    let mut row = Row {
        trade_no: trade.trade_no.clone(),
        out_trade_no: trade.billed_as.clone(),
        business: Business::Payment,
        request_no: None,
        subject: trade.goods.subject,
        created_at: trade.created_at,
        completed_at: payment.completed_at,
        store: trade.store,
        account: format!("*{}({})", trade.buyer.surname, trade.buyer.logon_id),
        total_fen: trade.price.total_fen,
        receipt_fen: trade.price.receipt_fen(),
        alipay_discount_fen: trade.price.alipay_discount_fen(),
        merchant_discount_fen: trade.price.merchant_discount_fen(),
        fee_fen: trade.fee_fen(plan.fee_rate_ppm),
    };
    let mut refunds: Vec<Row> =
        trade.refunds.iter().map(|refund| refund_row(&row, refund)).collect();
    let mut payments = 1;
    match trade.mishap {
        Some(Mishap::PaymentRowMissing) => payments = 0,
        Some(Mishap::RowTwice) => payments = 2,
        Some(Mishap::RefundRowMissing) => refunds.clear(),
        Some(Mishap::PaymentAmountOff { off_fen }) => {
            row.total_fen += off_fen;
            row.receipt_fen += off_fen;
        }
        Some(Mishap::RefundAmountOff { off_fen }) => {
            for refund in &mut refunds {
                refund.total_fen += off_fen;
                refund.receipt_fen += off_fen;
            }
        }
        Some(Mishap::ReceiptOff { off_fen }) => row.receipt_fen += off_fen,
        Some(Mishap::FeeOff { off_fen }) => row.fee_fen += off_fen,
        None
        | Some(
            Mishap::PaymentLost
            | Mishap::RefundLost
            | Mishap::EarlierRefundLost
            | Mishap::OrderNoOther
            | Mishap::OrderNoSwapped
            | Mishap::ClosedYetBilled
            | Mishap::ToldTwoAmounts { .. }
            | Mishap::AcrossMidnight { .. }
            | Mishap::ToldByRefund
            | Mishap::RefundToldFirst,
        ) => {}
    }
    std::iter::repeat_n(row, payments).chain(refunds).collect()
}

/// A refund's row repeats its payment's numbers and creation time; Alipay's discount stays where it
/// is.
fn refund_row(payment: &Row, refund: &Refund) -> Row {
    Row {
        business: Business::Refund,
        request_no: Some(refund.request_no.clone()),
        completed_at: refund.completed_at,
        total_fen: -refund.amount_fen,
        receipt_fen: -refund.receipt_fen,
        alipay_discount_fen: 0,
        merchant_discount_fen: refund.receipt_fen - refund.amount_fen,
        fee_fen: 0,
        ..payment.clone()
    }
}

#[cfg(test)]
mod tests;
