use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use payment::{Fact, Fen, OutTradeNo, Reported, RequestNo, Told};

/// What the facts known about one trade amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    pub out_trade_no: OutTradeNo,
    pub state: State,
    pub created_at: Option<DateTime<Utc>>,
    /// Told by a payment, or by `WAIT_BUYER_PAY` for a trade not paid yet.
    pub total: Option<Fen>,
    pub paid: Option<Paid>,
    pub closed_at: Option<DateTime<Utc>>,
    /// By request number.
    pub refunds: BTreeMap<RequestNo, Refund>,
    pub conflicts: BTreeSet<Conflict>,
    pub doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    pub total: Fen,
    /// 商家实收. Assumed to be the total until a message or the bill tells it.
    pub receipt: Fen,
    pub receipt_known: bool,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// What went back to the buyer, positive.
    pub amount: Fen,
    /// The merchant's part of it: in proportion to the payment's receipt until the bill tells it.
    pub receipt: Fen,
    /// The amount was told for this refund alone (by the bill or a query), not inferred from a cumulative figure.
    pub confirmed: bool,
    pub at: DateTime<Utc>,
    pub has_conflict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Opened by the buyer, not paid.
    Waiting,
    /// Paid; perhaps refunded in part.
    Paid,
    /// Paid and fully refunded: what Alipay calls `TRADE_CLOSED` after a payment.
    Refunded,
    /// Closed without a payment.
    Closed,
    /// Paid, and past its refund window.
    Finished,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Paid => "paid",
            State::Refunded => "refunded",
            State::Closed => "closed",
            State::Finished => "finished",
        }
    }
}

/// One value of several told for the same thing. All of them are in the set, the one that stands too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    pub subject: Subject,
    /// Of a refund; empty otherwise.
    pub request_no: String,
    pub told: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Total,
    Receipt,
    Refund,
    OutTradeNo,
}

impl Subject {
    pub fn as_str(self) -> &'static str {
        match self {
            Subject::Total => "total",
            Subject::Receipt => "receipt",
            Subject::Refund => "refund",
            Subject::OutTradeNo => "out_trade_no",
        }
    }
}

/// No two messages contradict each other, and yet something does not fit; more facts may settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A refund's cumulative figure is not larger than the one before: perhaps it is not cumulative.
    RefundStep,
    /// More was refunded than paid.
    RefundExceedsTotal,
    /// Closed after a payment, which means fully refunded, but the refunds known are less.
    ClosedUnrefunded,
    /// Refunded, but no message told the payment.
    RefundWithoutPayment,
}

impl Doubt {
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::RefundStep => "refund_step",
            Doubt::RefundExceedsTotal => "refund_exceeds_total",
            Doubt::ClosedUnrefunded => "closed_unrefunded",
            Doubt::RefundWithoutPayment => "refund_without_payment",
        }
    }
}

impl Trade {
    /// What all refunds amount to; as much as fits, where they do not.
    pub fn refunded(&self) -> Fen {
        let sum = Fen::checked_sum(self.refunds.values().map(|refund| refund.amount));
        sum.unwrap_or(Fen::new(i64::MAX))
    }

    /// Whether messages contradict each other about the trade itself; refunds have their own.
    pub fn has_conflict(&self) -> bool {
        self.conflicts.iter().any(|conflict| conflict.subject != Subject::Refund)
    }
}

/// Folds the facts of one trade. Order and repetition do not matter: every choice below is a minimum over
/// the set. `None` for no facts.
pub fn fold<'f>(facts: impl IntoIterator<Item = &'f Fact>) -> Option<Trade> {
    let facts: BTreeSet<&Fact> = facts.into_iter().collect();
    let mut conflicts = BTreeSet::new();

    let out_trade_nos: BTreeSet<&OutTradeNo> =
        facts.iter().map(|fact| &fact.out_trade_no).collect();
    let out_trade_no = (*out_trade_nos.first()?).clone();
    note(&mut conflicts, Subject::OutTradeNo, "", &out_trade_nos);

    let paid = fold_paid(&facts, &mut conflicts);
    let (refunds, step_doubt) = fold_refunds(&facts, paid.as_ref(), &mut conflicts);
    let refunded = Fen::checked_sum(refunds.values().map(|refund| refund.amount));

    let mut created = None;
    let mut created_total = None;
    let mut closed_at = None;
    let (mut closed, mut finished) = (false, false);
    for fact in &facts {
        match &fact.told {
            Told::Created { total, at } => {
                created = earliest(created, Some(*at));
                created_total =
                    created_total.map_or(Some(*total), |known: Fen| Some(known.min(*total)));
            }
            Told::Closed { at } => {
                closed = true;
                closed_at = earliest(closed_at, *at);
            }
            Told::Finished => finished = true,
            Told::Paid { .. } | Told::Refunded { .. } => {}
        }
    }

    let fully_refunded = match &paid {
        Some(paid) => !refunds.is_empty() && refunded.is_none_or(|sum| sum >= paid.total),
        None => !refunds.is_empty() && closed,
    };
    let state = if paid.is_some() || !refunds.is_empty() {
        match (fully_refunded || closed, finished) {
            (true, _) => State::Refunded,
            (false, true) => State::Finished,
            (false, false) => State::Paid,
        }
    } else if finished {
        State::Finished
    } else if closed {
        State::Closed
    } else {
        State::Waiting
    };
    let doubt = step_doubt.or(match &paid {
        None if !refunds.is_empty() => Some(Doubt::RefundWithoutPayment),
        None => None,
        Some(paid) if refunded.is_none_or(|sum| sum > paid.total) => {
            Some(Doubt::RefundExceedsTotal)
        }
        Some(_) if closed && !fully_refunded => Some(Doubt::ClosedUnrefunded),
        Some(_) => None,
    });
    Some(Trade {
        out_trade_no,
        state,
        created_at: created,
        total: paid.map(|paid| paid.total).or(created_total),
        paid,
        closed_at,
        refunds,
        conflicts,
        doubt,
    })
}

/// The smallest total and the smallest receipt told stand: books never claim more than was said.
fn fold_paid(facts: &BTreeSet<&Fact>, conflicts: &mut BTreeSet<Conflict>) -> Option<Paid> {
    let mut receipts: BTreeMap<Fen, BTreeSet<Fen>> = BTreeMap::new();
    let mut paid_at = None;
    for fact in facts {
        if let Told::Paid { total, receipt, at } = &fact.told {
            receipts.entry(*total).or_default().extend(*receipt);
            paid_at = earliest(paid_at, Some(*at));
        }
    }
    note(conflicts, Subject::Total, "", &receipts.keys().collect());
    // Another total brings another receipt with it: one contradiction, not two. What is noted must only ever
    // grow with the facts, since conflicts are written for good.
    for of_total in receipts.values() {
        note(conflicts, Subject::Receipt, "", of_total);
    }
    let total = *receipts.keys().next()?;
    let receipt = receipts.values().flatten().min().copied();
    Some(Paid {
        total,
        receipt: receipt.unwrap_or(total).min(total),
        receipt_known: receipt.is_some(),
        at: paid_at?,
    })
}

/// What was told about one refund request.
#[derive(Default)]
struct ToldRefund {
    cumulative: BTreeSet<Fen>,
    single: BTreeSet<Fen>,
    receipt: BTreeSet<Fen>,
    at: Option<DateTime<Utc>>,
}

/// Refunds in the order of their times. A cumulative figure makes the step from everything before it;
/// a single figure is the amount itself.
fn fold_refunds(
    facts: &BTreeSet<&Fact>,
    paid: Option<&Paid>,
    conflicts: &mut BTreeSet<Conflict>,
) -> (BTreeMap<RequestNo, Refund>, Option<Doubt>) {
    let mut told: BTreeMap<&RequestNo, ToldRefund> = BTreeMap::new();
    // A message without `out_biz_no` names its refund by the trade: it may be one known by its number.
    let mut unnamed = None;
    for fact in facts {
        if let Told::Refunded { request_no, reported, receipt, at } = &fact.told {
            let refund = told.entry(request_no).or_default();
            match reported {
                Reported::Cumulative(amount) => refund.cumulative.insert(*amount),
                Reported::Single(amount) => refund.single.insert(*amount),
            };
            refund.receipt.extend(*receipt);
            refund.at = earliest(refund.at, Some(*at));
            if request_no.as_str() == fact.trade_no.as_str() {
                unnamed = Some(request_no);
            }
        }
    }
    if let Some(request_no) = unnamed {
        let same = |one: &ToldRefund, other: &ToldRefund| {
            one.at == other.at && one.single.is_empty() && one.cumulative == other.cumulative
        };
        let is_known = told.get(request_no).is_some_and(|unnamed| {
            told.iter().any(|(named, refund)| *named != request_no && same(unnamed, refund))
        });
        // Its contradictions stay noted: they may have been told before its number was.
        if is_known && let Some(unnamed) = told.remove(request_no) {
            note(conflicts, Subject::Refund, request_no.as_str(), &unnamed.cumulative);
        }
    }

    let mut in_order: Vec<(&RequestNo, ToldRefund)> = told.into_iter().collect();
    in_order.sort_by(|(a_no, a), (b_no, b)| {
        (a.at, a.cumulative.first(), a_no).cmp(&(b.at, b.cumulative.first(), b_no))
    });

    let mut refunds = BTreeMap::new();
    let mut doubt = None;
    // What was refunded by the refunds known, and by the latest cumulative figure: that one knows of refunds that
    // nobody told, too, and the next step begins from it.
    let (mut so_far, mut told_so_far) = (Fen::ZERO, Fen::ZERO);
    for (request_no, told) in in_order {
        let mut own = BTreeSet::new();
        note(&mut own, Subject::Refund, request_no.as_str(), &told.cumulative);
        note(&mut own, Subject::Refund, request_no.as_str(), &told.single);
        let (amount, confirmed) = match (told.single.first(), told.cumulative.first()) {
            (Some(single), _) => (*single, true),
            (None, Some(cumulative)) => {
                let step = cumulative.checked_sub(told_so_far).unwrap_or(Fen::ZERO);
                if step <= Fen::ZERO {
                    doubt = Some(Doubt::RefundStep);
                }
                (step.max(Fen::ZERO), false)
            }
            (None, None) => continue,
        };
        let Some(at) = told.at else { continue };
        let before = so_far;
        let plus = |sum: Fen| sum.checked_add(amount).unwrap_or(Fen::new(i64::MAX));
        so_far = plus(so_far);
        told_so_far = plus(told_so_far).max(told.cumulative.first().copied().unwrap_or_default());
        let receipt = told.receipt.first().copied().unwrap_or_else(|| {
            let share = |refunded| paid.map_or(refunded, |paid| receipt_share(paid, refunded));
            share(so_far).checked_sub(share(before)).unwrap_or(amount).min(amount)
        });
        let has_conflict = !own.is_empty();
        conflicts.append(&mut own);
        refunds.insert(request_no.clone(), Refund { amount, receipt, confirmed, at, has_conflict });
    }
    (refunds, doubt)
}

/// The merchant's part of the first `refunded` fen of a payment, in proportion, rounded down, so that the parts
/// of all refunds add up to the receipt when everything has gone back.
fn receipt_share(paid: &Paid, refunded: Fen) -> Fen {
    if paid.receipt == paid.total || paid.total <= Fen::ZERO || refunded > paid.total {
        return refunded;
    }
    let [receipt, total, refunded] =
        [paid.receipt, paid.total, refunded].map(|fen| i128::from(fen.get()));
    i64::try_from(receipt * refunded / total).map_or(paid.receipt, Fen::new)
}

fn earliest(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Notes every value told where more than one was.
fn note<T: ToString>(
    conflicts: &mut BTreeSet<Conflict>,
    subject: Subject,
    request_no: &str,
    values: &BTreeSet<T>,
) {
    if values.len() > 1 {
        conflicts.extend(values.iter().map(|value| Conflict {
            subject,
            request_no: request_no.to_owned(),
            told: value.to_string(),
        }));
    }
}

#[cfg(test)]
mod tests;
