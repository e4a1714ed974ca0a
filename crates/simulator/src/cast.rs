use payment::Business;

use crate::dice::Dice;
use crate::scenario::Plan;
use crate::trade::{Mishap, Side};

/// Every mishap happens once, and once more for each of so many trades.
const TRADES_PER_SET: u32 = 1000;

/// Deals out the mishaps, one entry per trade. Where the trades are too few for all of them, as
/// many as fit.
pub(crate) fn cast(plan: &Plan, dice: &mut Dice) -> Vec<Option<Mishap>> {
    let trades = usize::try_from(plan.trades).unwrap_or(usize::MAX);
    let mut cast = Vec::new();
    for _ in 0..=plan.trades / TRADES_PER_SET {
        for group in one_of_each(plan, dice) {
            if cast.len() + group.len() <= trades {
                cast.extend(group.into_iter().map(Some));
            }
        }
    }
    cast.resize(trades, None);
    dice.shuffle(&mut cast);
    cast
}

/// Each group happens whole or not at all.
fn one_of_each(plan: &Plan, dice: &mut Dice) -> Vec<Vec<Mishap>> {
    let mut off = || if dice.percent(50) { 1 } else { -1 };
    let mut groups = vec![
        vec![Mishap::PaymentLost],
        vec![Mishap::PaymentRowMissing],
        vec![Mishap::PaymentAmountOff { off_fen: off() }],
        vec![Mishap::OrderNoOther],
        vec![Mishap::ClosedYetBilled],
        vec![Mishap::RowTwice],
        vec![Mishap::RefundLost],
        vec![Mishap::RefundRowMissing],
        vec![Mishap::RefundAmountOff { off_fen: off() }],
        vec![Mishap::OrderNoSwapped, Mishap::OrderNoSwapped],
        vec![Mishap::EarlierRefundLost],
    ];
    groups.push(vec![Mishap::ReceiptOff { off_fen: -dice.between(1, 99) }]);
    groups.push(vec![Mishap::FeeOff { off_fen: -dice.between(1, 3) }]);
    groups.push(vec![Mishap::ToldTwoAmounts { more_fen: dice.between(1, 500) }]);
    groups.push(vec![Mishap::RefundToldFirst]);
    groups.push(vec![Mishap::ToldByRefund]);
    // Only a midnight between two simulated days has a bill on both sides.
    if plan.days > 1 {
        for what in [Business::Payment, Business::Refund] {
            for first in [Side::Notification, Side::Bill] {
                groups.push(vec![Mishap::AcrossMidnight { what, first }]);
            }
        }
    }
    groups
}
