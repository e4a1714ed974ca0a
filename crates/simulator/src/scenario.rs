use payment::{AppId, BillDay, IdError, SellerId};

use crate::answer::{self, AnswerKey};
use crate::bill::{self, BillError, BillOfDay};
use crate::delivery::{self, Delivery};
use crate::dice::Dice;
use crate::key::{KeyError, Keys};
use crate::trade::Trade;
use crate::world;

/// Writes a scenario: same plan, same keys, same bytes; with other keys only the signatures differ.
/// Reads no clock and rolls no dice but the seed's. Signing is nearly all the work: about a second
/// for a thousand trades on one core.
///
/// # Errors
/// When the plan is out of its bounds; everything else would be a fault of the simulator.
pub fn plan(plan: &Plan, keys: &Keys) -> Result<Scenario, PlanError> {
    if !(1..=Plan::MAX_DAYS).contains(&plan.days) {
        return Err(PlanError::Days { given: plan.days });
    }
    if plan.trades > Plan::MAX_TRADES {
        return Err(PlanError::TooManyTrades { given: plan.trades });
    }
    if plan.fee_rate_ppm >= 1_000_000 {
        return Err(PlanError::FeeRate { given_ppm: plan.fee_rate_ppm });
    }
    let mut dice = Dice::seeded(plan.seed);
    let trades = world::trades(plan, &mut dice).map_err(PlanError::Id)?;
    let sheets = bill::sheets(plan, &trades);
    let bills = sheets
        .iter()
        .map(|sheet| bill::write(sheet, plan, &mut dice))
        .collect::<Result<_, _>>()
        .map_err(PlanError::Bill)?;
    let deliveries = delivery::deliveries(plan, &trades, keys, &mut dice)?;
    let key = answer::key(plan, &trades, &sheets, &deliveries);
    Ok(Scenario { plan: plan.clone(), deliveries, bills, key, trades })
}

/// What to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The first simulated day; the others follow it.
    pub first_day: BillDay,
    /// How many days, at least 1.
    pub days: u32,
    /// How many trades of ours over all days. From about 20 on every kind of mishap happens.
    pub trades: u32,
    /// Our app, the one notifications are addressed to.
    pub app_id: AppId,
    /// Our Alipay account (PID).
    pub seller_id: SellerId,
    /// 服务费 in parts per million of 商家实收: 6000 is 0.6 %.
    pub fee_rate_ppm: u32,
}

impl Plan {
    /// Fen add up far below what an `i64` holds.
    pub const MAX_TRADES: u32 = 10_000_000;
    /// Ten years.
    pub const MAX_DAYS: u32 = 3653;

    /// The simulated days in order.
    pub fn all_days(&self) -> Vec<BillDay> {
        std::iter::successors(Some(self.first_day), |day| Some(day.next()))
            .zip(0..self.days)
            .map(|(day, _)| day)
            .collect()
    }
}

/// A world that was played through: what Alipay sends, what it bills, and what a reconciliation
/// must find.
#[derive(Debug)]
pub struct Scenario {
    /// What was asked for.
    pub plan: Plan,
    /// Every post to the notify address, in the order to send them.
    pub deliveries: Vec<Delivery>,
    /// One per simulated day, in order; empty days included.
    pub bills: Vec<BillOfDay>,
    /// What was planted.
    pub key: AnswerKey,
    pub(crate) trades: Vec<Trade>,
}

/// Why a plan cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("a plan has 1 to {max} days, not {given}", max = Plan::MAX_DAYS)]
    Days { given: u32 },
    #[error("a plan has at most {max} trades, not {given}", max = Plan::MAX_TRADES)]
    TooManyTrades { given: u32 },
    #[error("a fee rate is below 1000000 parts per million, not {given_ppm}")]
    FeeRate { given_ppm: u32 },
    #[error("cannot number a trade")]
    Id(#[source] IdError),
    #[error("cannot sign the notifications")]
    Key(#[source] KeyError),
    #[error("cannot write the bills")]
    Bill(#[source] BillError),
}

#[cfg(test)]
mod tests;
