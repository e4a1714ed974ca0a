use chrono::{DateTime, Duration, Utc};
use payment::{Fen, IdError, NotifyId, to_local};
use serde_json::json;

use crate::dice::Dice;
use crate::form::Param;
use crate::trade::{Discount, Ending, Mishap, Trade};

/// One thing that Alipay tells about a trade; all its deliveries carry the same `notify_id`.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) notify_id: NotifyId,
    /// When it is first sent.
    pub(crate) at: DateTime<Utc>,
    pub(crate) says: Says,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Waiting,
    /// Paid, with so much more than the order's amount (0 unless that is the mishap).
    Paid {
        more_fen: i64,
    },
    /// The refund of that index happened.
    Refunded {
        index: usize,
    },
    TimedOut,
    Finished,
}

/// Everything Alipay tells of a trade, in the order it happened; without what is lost.
pub(crate) fn notices(
    trade: &Trade,
    dice: &mut Dice,
    next: &mut u64,
) -> Result<Vec<Notice>, IdError> {
    let mut told = Vec::new();
    if trade.mishap == Some(Mishap::PaymentLost) {
        return Ok(Vec::new());
    }
    if trade.waited {
        told.push((trade.created_at, Says::Waiting));
    }
    if trade.mishap != Some(Mishap::ToldByRefund)
        && let Some(payment) = trade.payment_heard()
    {
        let says = match trade.ending {
            Ending::FinishedAtOnce => Says::Finished,
            Ending::Open | Ending::TimedOut { .. } | Ending::Finished { .. } => {
                Says::Paid { more_fen: 0 }
            }
        };
        told.push((payment.at, says));
        if let Some(Mishap::ToldTwoAmounts { more_fen }) = trade.mishap {
            told.push((payment.at, Says::Paid { more_fen }));
        }
    }
    for (index, refund) in trade.refunds.iter().enumerate().skip(trade.refunds_lost()) {
        told.push((refund.at, Says::Refunded { index }));
    }
    match trade.ending {
        Ending::TimedOut { at } => told.push((at, Says::TimedOut)),
        Ending::Finished { at } => told.push((at, Says::Finished)),
        Ending::Open | Ending::FinishedAtOnce => {}
    }
    told.into_iter()
        .map(|(happened_at, says)| {
            let at = happened_at + Duration::seconds(dice.between(1, 3));
            Ok(Notice { notify_id: notify_id(at, dice, next)?, at, says })
        })
        .collect()
}

/// 34 digits, never the same twice in one scenario; they begin with the first delivery's day and
/// time.
pub(crate) fn notify_id(
    at: DateTime<Utc>,
    dice: &mut Dice,
    next: &mut u64,
) -> Result<NotifyId, IdError> {
    *next += 1;
    let stamp: String = to_local(at).chars().filter(char::is_ascii_digit).collect();
    let (day, time) = stamp.split_at_checked(8).unwrap_or((&stamp, ""));
    let infix = if dice.percent(50) { "00222" } else { "01222" };
    NotifyId::parse(&format!("{day}{infix}{time}{}{next:010}", dice.digits(5)))
}

/// The parameters of one delivery, unsigned: `sign` stands among them without a value.
pub(crate) fn params(trade: &Trade, notice: &Notice, sent_at: DateTime<Utc>) -> Vec<Param> {
    let says = notice.says;
    let mut params = vec![
        Param::new("notify_type", "trade_status_sync"),
        Param::new("notify_id", notice.notify_id.as_str()),
        Param::new("notify_time", to_local(sent_at)),
        Param::new("charset", trade.charset.as_str()),
        Param::new("version", "1.0"),
        Param::new("sign_type", "RSA2"),
        Param::new("sign", ""),
        Param::new("app_id", trade.app_id.as_str()),
        Param::new("auth_app_id", trade.app_id.as_str()),
        Param::new("seller_id", trade.seller_id.as_str()),
        Param::new("seller_email", "shop***@example.com"),
        Param::new("trade_no", trade.trade_no.as_str()),
        Param::new("out_trade_no", trade.out_trade_no.as_str()),
        Param::new("trade_status", status(trade, says)),
        Param::new("total_amount", yuan(trade.price.total_fen + more_fen(says))),
        Param::new("subject", trade.charset.encode(trade.goods.subject)),
        Param::new("gmt_create", to_local(trade.created_at)),
        Param::new(trade.buyer.id.0, trade.buyer.id.1.as_str()),
        Param::new("buyer_logon_id", trade.buyer.logon_id.as_str()),
    ];
    if let Some(body) = trade.goods.body {
        params.push(Param::new("body", trade.charset.encode(body)));
    }
    if let Some(passback) = trade.goods.passback_params {
        params.push(Param::new("passback_params", trade.charset.encode(passback)));
    }
    match says {
        Says::Waiting => {}
        Says::TimedOut => {
            if let Ending::TimedOut { at } = trade.ending {
                params.push(Param::new("gmt_close", to_local(at)));
            }
        }
        Says::Paid { .. } | Says::Finished => payment_params(trade, says, &mut params),
        Says::Refunded { index } => refund_params(trade, index, &mut params),
    }
    params
}

fn status(trade: &Trade, says: Says) -> &'static str {
    match says {
        Says::Waiting => "WAIT_BUYER_PAY",
        Says::Paid { .. } => "TRADE_SUCCESS",
        Says::Refunded { index } if empties(trade, index) => "TRADE_CLOSED",
        Says::Refunded { .. } => "TRADE_SUCCESS",
        Says::TimedOut => "TRADE_CLOSED",
        Says::Finished => "TRADE_FINISHED",
    }
}

fn payment_params(trade: &Trade, says: Says, params: &mut Vec<Param>) {
    let Some(payment) = trade.payment else { return };
    let price = trade.price;
    let receipt_fen = price.receipt_fen() + more_fen(says);
    let paid_fen =
        receipt_fen - if price.alipay_discount_fen() > 0 { price.alipay_discount_fen() } else { 0 };
    params.push(Param::new("gmt_payment", to_local(payment.at)));
    params.push(Param::new("receipt_amount", yuan(receipt_fen)));
    params.push(Param::new("invoice_amount", yuan(paid_fen)));
    params.push(Param::new("buyer_pay_amount", yuan(paid_fen)));
    params.push(Param::new("point_amount", yuan(0)));
    let account = json!({"amount": yuan(paid_fen), "fundChannel": "ALIPAYACCOUNT"});
    let (fund_bill_list, voucher) = match price.discount {
        Discount::None => (json!([account]), None),
        Discount::Merchant { fen } => (
            json!([account, {"amount": yuan(fen), "fundChannel": "MCOUPON"}]),
            Some((fen, yuan(fen), yuan(0))),
        ),
        Discount::Alipay { fen } => (
            json!([account, {"amount": yuan(fen), "fundChannel": "COUPON"}]),
            Some((fen, yuan(0), yuan(fen))),
        ),
    };
    params.push(Param::new("fund_bill_list", fund_bill_list.to_string()));
    if let Some((fen, merchant, other)) = voucher {
        let vouchers = json!([{
            "amount": yuan(fen),
            "merchantContribute": merchant,
            "name": "满减券",
            "otherContribute": other,
            "type": "ALIPAY_BIZ_VOUCHER",
            "voucherId": format!("2088{}", trade.trade_no),
        }]);
        let vouchers = trade.charset.encode(&vouchers.to_string());
        params.push(Param::new("voucher_detail_list", vouchers));
    }
}

/// `refund_fee` is everything refunded on the trade so far.
fn refund_params(trade: &Trade, index: usize, params: &mut Vec<Param>) {
    let (Some(payment), Some(refund)) = (trade.payment, trade.refunds.get(index)) else { return };
    let refunded_fen = trade.refunded_fen(index + 1);
    let gmt_refund = format!("{}.{:03}", to_local(refund.at), refund.at.timestamp_subsec_millis());
    params.push(Param::new("gmt_payment", to_local(payment.at)));
    params.push(Param::new("gmt_refund", gmt_refund));
    params.push(Param::new("refund_fee", yuan(refunded_fen)));
    params.push(Param::new("out_biz_no", refund.request_no.as_str()));
    if empties(trade, index) {
        params.push(Param::new("gmt_close", to_local(refund.at)));
    }
}

/// Whether nothing of the trade is left after that refund.
fn empties(trade: &Trade, index: usize) -> bool {
    trade.refunded_fen(index + 1) >= trade.price.total_fen
}

fn more_fen(says: Says) -> i64 {
    match says {
        Says::Paid { more_fen } => more_fen,
        Says::Waiting | Says::Refunded { .. } | Says::TimedOut | Says::Finished => 0,
    }
}

pub(crate) fn yuan(fen: i64) -> String {
    Fen::new(fen).to_string()
}
