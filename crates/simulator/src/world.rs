use chrono::{DateTime, Duration, Utc};
use payment::{AppId, BillDay, Business, IdError, OutTradeNo, RequestNo, SellerId, TradeNo};

use crate::cast::cast;
use crate::dice::Dice;
use crate::scenario::Plan;
use crate::shop;
use crate::story::Story;
use crate::trade::{
    Charset, Discount, Ending, Mishap, Payment, Price, Refund, Side, Trade, compact,
};

/// Every trade of the plan, in order of its number.
pub(crate) fn trades(plan: &Plan, dice: &mut Dice) -> Result<Vec<Trade>, IdError> {
    let mut trades = Vec::new();
    for (number, mishap) in (1..).zip(cast(plan, dice)) {
        trades.push(trade(plan, dice, number, mishap)?);
    }
    swap_order_numbers(&mut trades);
    Ok(trades)
}

/// A trade of somebody else's that must not be taken for ours. Its numbers follow the plan's own.
pub(crate) fn foreign(
    plan: &Plan,
    dice: &mut Dice,
    number: u32,
    app_id: AppId,
    seller_id: SellerId,
) -> Result<Trade, IdError> {
    let trade = trade(plan, dice, plan.trades.saturating_add(number), Some(Mishap::PaymentLost))?;
    Ok(Trade { app_id, seller_id, mishap: None, ..trade })
}

/// What is settled about a trade before its times and refunds are.
struct Outline {
    number: u32,
    mishap: Option<Mishap>,
    story: Story,
    price: Price,
    day: BillDay,
}

fn trade(
    plan: &Plan,
    dice: &mut Dice,
    number: u32,
    mishap: Option<Mishap>,
) -> Result<Trade, IdError> {
    let story = match mishap {
        None => Story::by_chance(dice),
        Some(mishap) => Story::with(mishap),
    };
    let days = match mishap {
        // The midnight must have a simulated day behind it.
        Some(Mishap::AcrossMidnight { .. }) => plan.days.saturating_sub(1),
        Some(_) | None => plan.days,
    };
    let skipped = dice.between(0, i64::from(days) - 1);
    let day = (0..skipped).fold(plan.first_day, |day, _| day.next());
    let outline = Outline { number, mishap, story, price: price(dice, story, mishap), day };

    let created_at = created_at(dice, &outline);
    let payment = match story {
        Story::TimedOut | Story::Waiting => None,
        Story::Paid
        | Story::PartlyRefunded { .. }
        | Story::FullyRefunded { .. }
        | Story::Finished
        | Story::FinishedAtOnce => Some(paid(dice, mishap, created_at)),
    };
    let refunds = match payment {
        Some(payment) => refunds(plan, dice, &outline, payment)?,
        None => Vec::new(),
    };
    let stamp = compact(day);
    let out_trade_no = OutTradeNo::parse(&format!("ORD{stamp}{number:08}"))?;
    let billed_as = match mishap {
        Some(Mishap::OrderNoOther) => OutTradeNo::parse(&format!("OLD{stamp}{number:08}"))?,
        Some(_) | None => out_trade_no.clone(),
    };
    let charset = match dice.between(0, 99) {
        0..=11 => Charset::Gbk,
        12..=19 => Charset::Utf8UpperCase,
        _ => Charset::Utf8,
    };
    Ok(Trade {
        mishap,
        app_id: plan.app_id.clone(),
        seller_id: plan.seller_id.clone(),
        trade_no: TradeNo::parse(&format!("{stamp}22001{}{number:010}", dice.digits(5)))?,
        out_trade_no,
        billed_as,
        charset,
        goods: shop::goods(dice),
        buyer: shop::buyer(dice),
        store: shop::store(dice),
        price: outline.price,
        created_at,
        waited: story == Story::Waiting || (mishap.is_none() && dice.percent(20)),
        payment,
        refunds,
        ending: ending(dice, &outline, created_at, payment),
    })
}

fn ending(
    dice: &mut Dice,
    outline: &Outline,
    created_at: DateTime<Utc>,
    payment: Option<Payment>,
) -> Ending {
    if outline.mishap == Some(Mishap::ClosedYetBilled) {
        return Ending::TimedOut { at: created_at + Duration::minutes(15) };
    }
    match (outline.story, payment) {
        (Story::TimedOut, _) => Ending::TimedOut { at: created_at + Duration::minutes(15) },
        (Story::Finished, Some(payment)) => {
            Ending::Finished { at: payment.at + Duration::minutes(dice.between(30, 180)) }
        }
        (Story::FinishedAtOnce, _) => Ending::FinishedAtOnce,
        (
            Story::Paid
            | Story::PartlyRefunded { .. }
            | Story::FullyRefunded { .. }
            | Story::Waiting
            | Story::Finished,
            _,
        ) => Ending::Open,
    }
}

/// Mishaps keep away from midnight, so that a difference is never mistaken for a movement still to
/// come; so do trades with something to happen later, so that it happens on a simulated day.
fn created_at(dice: &mut Dice, outline: &Outline) -> DateTime<Utc> {
    let day = outline.day;
    let seconds = |seconds| Duration::seconds(seconds);
    match (outline.mishap, outline.story) {
        (Some(Mishap::AcrossMidnight { what: Business::Payment, .. }), _) => {
            day.end() - seconds(dice.between(120, 400))
        }
        (Some(_), _) => day.start() + seconds(dice.between(20 * 60, 20 * 3600)),
        (None, Story::Paid | Story::FinishedAtOnce) => {
            day.start() + seconds(dice.between(0, 86_400 - 200))
        }
        (
            None,
            Story::PartlyRefunded { .. }
            | Story::FullyRefunded { .. }
            | Story::TimedOut
            | Story::Finished
            | Story::Waiting,
        ) => day.start() + seconds(dice.between(0, 20 * 3600)),
    }
}

fn paid(dice: &mut Dice, mishap: Option<Mishap>, created_at: DateTime<Utc>) -> Payment {
    if let Some(Mishap::AcrossMidnight { what: Business::Payment, first }) = mishap {
        let (at, completed_at) = around_midnight(dice, BillDay::of(created_at), first);
        return Payment { at, completed_at };
    }
    let at = created_at + Duration::seconds(dice.between(3, 180));
    let completed_at = match mishap {
        Some(_) => at,
        None => a_moment_later(dice, at),
    };
    Payment { at, completed_at }
}

/// When the notification and the bill say it happened.
fn around_midnight(
    dice: &mut Dice,
    before: BillDay,
    first: Side,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let early = before.end() - Duration::seconds(dice.between(1, 9));
    let late = before.end() + Duration::seconds(dice.between(0, 9));
    match first {
        Side::Notification => (early, late),
        Side::Bill => (late, early),
    }
}

/// The bill's second is not always the notification's; the day is.
fn a_moment_later(dice: &mut Dice, at: DateTime<Utc>) -> DateTime<Utc> {
    let whole = DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at);
    let later = whole + Duration::seconds(dice.between(0, 1));
    if BillDay::of(later) == BillDay::of(at) { later } else { whole }
}

fn refunds(
    plan: &Plan,
    dice: &mut Dice,
    outline: &Outline,
    payment: Payment,
) -> Result<Vec<Refund>, IdError> {
    let Outline { number, price, .. } = outline;
    let (count, last_takes_all) = match outline.story {
        Story::PartlyRefunded { refunds } => (refunds, false),
        Story::FullyRefunded { refunds } => (refunds, true),
        Story::Paid
        | Story::TimedOut
        | Story::Finished
        | Story::FinishedAtOnce
        | Story::Waiting => {
            return Ok(Vec::new());
        }
    };
    let stamp = compact(outline.day);
    let times = refund_times(plan, dice, outline.mishap, payment, count);
    let most_fen = price.total_fen / (i64::try_from(count).unwrap_or(i64::MAX - 1) + 1);
    let mut refunded_fen = 0;
    let mut receipt_taken_fen = 0;
    let mut refunds = Vec::new();
    for (index, (at, completed_at)) in (1..).zip(times) {
        let amount_fen = if last_takes_all && index == count {
            price.total_fen - refunded_fen
        } else {
            // At least 2, so that a row that is 1 fen off still says something.
            dice.between(2, most_fen)
        };
        refunded_fen += amount_fen;
        // The merchant's discount goes back in proportion, to the fen at the end.
        let discount_fen = price.merchant_discount_fen() * refunded_fen / price.total_fen;
        let receipt_fen = refunded_fen - discount_fen - receipt_taken_fen;
        receipt_taken_fen += receipt_fen;
        refunds.push(Refund {
            request_no: RequestNo::parse(&format!("RF{stamp}{number:08}{index:02}"))?,
            amount_fen,
            receipt_fen,
            at,
            completed_at,
        });
    }
    Ok(refunds)
}

/// `gmt_refund` and 完成时间 of each refund, in order.
fn refund_times(
    plan: &Plan,
    dice: &mut Dice,
    mishap: Option<Mishap>,
    payment: Payment,
    count: usize,
) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let count_i64 = i64::try_from(count).unwrap_or(1);
    match mishap {
        Some(Mishap::AcrossMidnight { first, .. }) => {
            let (at, completed_at) = around_midnight(dice, BillDay::of(payment.at), first);
            vec![(at + Duration::milliseconds(dice.between(1, 999)), completed_at)]
        }
        Some(Mishap::RefundToldFirst) => {
            let at = payment.at + Duration::milliseconds(dice.between(120_000, 480_000));
            vec![(at, a_moment_later(dice, at))]
        }
        Some(_) => (0..count_i64)
            .map(|nth| {
                let after_ms = nth * 3_600_000 + dice.between(600_000, 3_000_000);
                let at = payment.at + Duration::milliseconds(after_ms);
                (at, a_moment_later(dice, at))
            })
            .collect(),
        None => {
            let paid_on = BillDay::of(payment.at);
            let last = plan.all_days().last().copied().unwrap_or(paid_on);
            let on = if paid_on < last && dice.percent(35) { paid_on.next() } else { paid_on };
            let from = on.start().max(payment.at + Duration::minutes(1));
            let slice_ms = (on.end() - from).num_milliseconds() / count_i64;
            (0..count_i64)
                .map(|nth| {
                    let after_ms = nth * slice_ms + dice.between(0, slice_ms - 1_000);
                    let at = from + Duration::milliseconds(after_ms);
                    (at, a_moment_later(dice, at))
                })
                .collect()
        }
    }
}

fn price(dice: &mut Dice, story: Story, mishap: Option<Mishap>) -> Price {
    let refunded = matches!(story, Story::PartlyRefunded { .. } | Story::FullyRefunded { .. });
    let total_fen = if refunded || mishap.is_some() {
        dice.between(1_000, 200_000)
    } else {
        match dice.between(0, 99) {
            0..=4 => 1,
            5..=14 => dice.between(1, 100),
            15..=79 => dice.between(100, 50_000),
            80..=96 => dice.between(50_000, 1_000_000),
            _ => dice.between(1_000_000, 3_000_000),
        }
    };
    let discount = if may_be_discounted(mishap) && total_fen >= 1_000 {
        match dice.between(0, 99) {
            0..=7 => Discount::Merchant { fen: dice.between(1, total_fen / 5) },
            8..=15 => Discount::Alipay { fen: dice.between(1, total_fen / 5) },
            _ => Discount::None,
        }
    } else {
        Discount::None
    };
    Price { total_fen, discount }
}

/// What the merchant gets back of a discounted refund, and receives of a payment that only a refund
/// told, stands in the bill alone: a mishap there could not be told from the truth.
fn may_be_discounted(mishap: Option<Mishap>) -> bool {
    match mishap {
        None
        | Some(
            Mishap::PaymentLost
            | Mishap::PaymentRowMissing
            | Mishap::FeeOff { .. }
            | Mishap::OrderNoOther
            | Mishap::OrderNoSwapped
            | Mishap::RowTwice,
        ) => true,
        Some(
            Mishap::RefundLost
            | Mishap::EarlierRefundLost
            | Mishap::RefundRowMissing
            | Mishap::PaymentAmountOff { .. }
            | Mishap::RefundAmountOff { .. }
            | Mishap::ReceiptOff { .. }
            | Mishap::ClosedYetBilled
            | Mishap::ToldTwoAmounts { .. }
            | Mishap::AcrossMidnight { .. }
            | Mishap::ToldByRefund
            | Mishap::RefundToldFirst,
        ) => false,
    }
}

fn swap_order_numbers(trades: &mut [Trade]) {
    let swapped = |trade: &Trade| trade.mishap == Some(Mishap::OrderNoSwapped);
    let mut ours: Vec<OutTradeNo> = trades
        .iter()
        .filter(|trade| swapped(trade))
        .map(|trade| trade.out_trade_no.clone())
        .collect();
    for pair in ours.chunks_exact_mut(2) {
        pair.reverse();
    }
    for (trade, billed_as) in trades.iter_mut().filter(|trade| swapped(trade)).zip(ours) {
        trade.billed_as = billed_as;
    }
}
