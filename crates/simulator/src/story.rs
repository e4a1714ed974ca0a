use payment::Business;

use crate::dice::Dice;
use crate::trade::Mishap;

/// How a trade goes, whatever is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    Paid,
    PartlyRefunded {
        refunds: usize,
    },
    /// The last of the refunds empties the trade.
    FullyRefunded {
        refunds: usize,
    },
    TimedOut,
    Finished,
    FinishedAtOnce,
    Waiting,
}

impl Story {
    pub(crate) fn by_chance(dice: &mut Dice) -> Self {
        match dice.between(0, 99) {
            0..=59 => Story::Paid,
            60..=71 => {
                Story::PartlyRefunded { refunds: usize::try_from(dice.between(1, 3)).unwrap_or(1) }
            }
            72..=77 => Story::FullyRefunded { refunds: 1 },
            78..=81 => {
                Story::FullyRefunded { refunds: usize::try_from(dice.between(2, 3)).unwrap_or(2) }
            }
            82..=88 => Story::TimedOut,
            89..=92 => Story::Finished,
            93..=94 => Story::FinishedAtOnce,
            _ => Story::Waiting,
        }
    }

    /// The story that a mishap needs to happen in.
    pub(crate) fn with(mishap: Mishap) -> Self {
        match mishap {
            Mishap::PaymentLost
            | Mishap::PaymentRowMissing
            | Mishap::PaymentAmountOff { .. }
            | Mishap::ReceiptOff { .. }
            | Mishap::FeeOff { .. }
            | Mishap::OrderNoOther
            | Mishap::OrderNoSwapped
            | Mishap::ClosedYetBilled
            | Mishap::RowTwice
            | Mishap::ToldTwoAmounts { .. }
            | Mishap::AcrossMidnight { what: Business::Payment, .. } => Story::Paid,
            Mishap::RefundLost
            | Mishap::RefundRowMissing
            | Mishap::RefundAmountOff { .. }
            | Mishap::AcrossMidnight { what: Business::Refund, .. }
            | Mishap::ToldByRefund
            | Mishap::RefundToldFirst => Story::PartlyRefunded { refunds: 1 },
            Mishap::EarlierRefundLost => Story::PartlyRefunded { refunds: 2 },
        }
    }
}
