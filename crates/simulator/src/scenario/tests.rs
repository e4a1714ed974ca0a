use std::collections::{BTreeMap, BTreeSet};

use alipay::{Trust, Verdict, receive};
use chrono::Duration;
use payment::BillDay;

use super::*;
use crate::delivery::{DeliveryKind, Expected};
use crate::testing::{KEYS, merchant, two_days};
use crate::trade::Mishap;

#[test]
fn the_same_plan_and_keys_make_the_same_bytes() {
    let one = plan(&two_days(7, 120), &KEYS).unwrap();
    let two = plan(&two_days(7, 120), &KEYS).unwrap();
    assert_eq!(one.deliveries, two.deliveries);
    assert_eq!(one.bills, two.bills);
    assert_eq!(one.key, two.key);
}

#[test]
fn other_keys_change_the_signatures_alone() {
    let one = plan(&two_days(7, 60), &KEYS).unwrap();
    let two = plan(&two_days(7, 60), &Keys::generate().unwrap()).unwrap();
    assert_eq!(one.bills, two.bills);
    assert_eq!(one.key, two.key);
    let facts = |scenario: &Scenario| -> Vec<_> {
        let one = scenario.deliveries.iter();
        one.map(|one| (one.what, one.sent_at, one.notify_id.clone())).collect()
    };
    assert_eq!(facts(&one), facts(&two));
    assert_ne!(one.deliveries, two.deliveries);
}

#[test]
fn another_seed_is_another_world() {
    let one = plan(&two_days(1, 60), &KEYS).unwrap();
    let two = plan(&two_days(2, 60), &KEYS).unwrap();
    assert_ne!(one.bills, two.bills);
    assert_ne!(one.key.differences, two.key.differences);
}

/// Twenty worlds without their signatures, which take the most time and change none of this.
fn twenty() -> impl Iterator<Item = (Plan, Vec<Trade>, AnswerKey)> {
    (0..20).map(|seed| {
        let plan = two_days(seed, 1000);
        let trades = world::trades(&plan, &mut Dice::seeded(seed)).unwrap();
        let key = answer::key(&plan, &trades, &bill::sheets(&plan, &trades), &[]);
        (plan, trades, key)
    })
}

#[test]
fn every_kind_of_difference_is_planted_and_every_trade_has_one_at_most() {
    for (plan, trades, key) in twenty() {
        let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
        for difference in &key.differences {
            *by_kind.entry(difference.kind).or_default() += 1;
        }
        let sets = 2;
        let expected = [
            ("amount", 2 * sets),
            ("conflict", sets),
            ("duplicate_in_bill", sets),
            ("fee", sets),
            ("missing_in_bill", 2 * sets),
            ("missing_in_ledger", 3 * sets),
            ("order_no", 3 * sets),
            ("receipt", sets),
            ("status", sets),
        ];
        assert_eq!(by_kind, BTreeMap::from(expected), "seed {}", plan.seed);
        assert_eq!(key.carried.len(), 4 * sets);
        let of_trades: BTreeSet<_> = key
            .differences
            .iter()
            .map(|difference| &difference.trade_no)
            .chain(key.carried.iter().map(|carried| &carried.trade_no))
            .collect();
        assert_eq!(of_trades.len(), key.differences.len() + key.carried.len());
        assert_eq!(trades.len(), 1000);
    }
}

#[test]
fn everything_happens_on_the_simulated_days_and_mishaps_keep_away_from_midnight() {
    for (plan, trades, _) in twenty() {
        let first = plan.first_day;
        let last = first.next();
        for trade in &trades {
            let payments = trade.payment.iter().flat_map(|one| [one.at, one.completed_at]);
            let refunds = trade.refunds.iter().flat_map(|one| [one.at, one.completed_at]);
            let moments: Vec<_> = payments.chain(refunds).collect();
            for at in moments.iter().chain([&trade.created_at]) {
                assert!(*at >= first.start() && *at < last.end(), "{trade:?}");
            }
            match trade.mishap {
                Some(Mishap::AcrossMidnight { .. }) => {
                    let days: BTreeSet<_> = moments.iter().copied().map(BillDay::of).collect();
                    assert_eq!(days, BTreeSet::from([first, last]));
                }
                Some(_) => {
                    for at in moments {
                        let day = BillDay::of(at);
                        assert!(at - day.start() > Duration::minutes(15), "{trade:?}");
                        assert!(day.end() - at > Duration::minutes(15), "{trade:?}");
                    }
                }
                None => {
                    if let Some(payment) = trade.payment {
                        assert_eq!(BillDay::of(payment.at), BillDay::of(payment.completed_at));
                    }
                    for refund in &trade.refunds {
                        assert_eq!(BillDay::of(refund.at), BillDay::of(refund.completed_at));
                    }
                }
            }
        }
    }
}

#[test]
fn refunds_never_give_back_more_than_was_paid() {
    for (_, trades, _) in twenty() {
        for trade in &trades {
            let amounts: i64 = trade.refunds.iter().map(|refund| refund.amount_fen).sum();
            let receipts: i64 = trade.refunds.iter().map(|refund| refund.receipt_fen).sum();
            assert!(amounts <= trade.price.total_fen, "{trade:?}");
            assert!(receipts <= trade.price.receipt_fen(), "{trade:?}");
            assert!(trade.refunds.iter().all(|refund| refund.amount_fen > 1), "{trade:?}");
            assert!(trade.refunds.is_sorted_by_key(|refund| refund.at), "{trade:?}");
            if amounts == trade.price.total_fen && amounts > 0 {
                assert_eq!(receipts, trade.price.receipt_fen());
            }
        }
    }
}

/// The receiving side was written by others from the same description: the two must agree.
#[test]
fn the_receiving_side_judges_every_delivery_as_expected() {
    for seed in [1, 2] {
        let plan = two_days(seed, 300);
        let scenario = super::plan(&plan, &KEYS).unwrap();
        let app = merchant(&plan, &KEYS);
        let mut kinds = BTreeSet::new();
        for delivery in &scenario.deliveries {
            kinds.insert(delivery.what);
            let verdict = receive(&app, &delivery.body, Trust::Active);
            let fits = match verdict {
                Verdict::Genuine { .. } => {
                    delivery.expected == Expected::Success && !delivery.what.is_quarantined()
                }
                Verdict::SetAside { .. } => delivery.what.is_quarantined(),
                Verdict::Refused(_) => delivery.expected == Expected::Fail,
            };
            assert!(fits, "{:?}: {verdict:?}", delivery.what);
        }
        assert_eq!(kinds.len(), 12, "{kinds:?}");
    }
}

#[test]
fn the_key_counts_what_the_deliveries_say() {
    let scenario = plan(&two_days(3, 200), &KEYS).unwrap();
    let key = &scenario.key;
    assert_eq!(key.accepted + key.refused, u64::try_from(scenario.deliveries.len()).unwrap());
    // Two sets of misdirected notices (200 trades), two of each three set aside.
    assert_eq!(key.quarantined, 4);
    let ids: BTreeSet<_> = scenario
        .deliveries
        .iter()
        .filter(|one| one.what == DeliveryKind::First)
        .map(|one| &one.notify_id)
        .collect();
    // Besides the first ones, two gateway messages and two of the service market.
    assert_eq!(key.notifications, u64::try_from(ids.len()).unwrap() + 4);
    assert!(scenario.deliveries.iter().any(|one| one.what == DeliveryKind::Retry));
}

#[test]
fn a_refund_is_told_before_its_payment() {
    let scenario = plan(&two_days(3, 300), &KEYS).unwrap();
    let trade =
        scenario.trades.iter().find(|one| one.mishap == Some(Mishap::RefundToldFirst)).unwrap();
    let statuses: Vec<bool> = scenario
        .deliveries
        .iter()
        .filter(|one| one.expected == Expected::Success)
        .filter(|one| one.trade_no.as_ref() == Some(&trade.trade_no))
        .map(|one| String::from_utf8_lossy(&one.body).contains("refund_fee="))
        .collect();
    assert_eq!(statuses.first(), Some(&true));
    assert!(statuses.contains(&false));
}

#[test]
fn few_trades_have_as_many_mishaps_as_fit() {
    for trades in [0, 1, 5, 21] {
        let scenario = plan(&two_days(1, trades), &KEYS).unwrap();
        assert!(scenario.key.differences.len() <= usize::try_from(trades).unwrap());
        assert_eq!(scenario.bills.len(), 2);
    }
}

#[test]
fn a_single_day_carries_nothing() {
    let scenario = plan(&Plan { days: 1, ..two_days(1, 100) }, &KEYS).unwrap();
    assert_eq!(scenario.key.carried, []);
    assert_eq!(scenario.bills.len(), 1);
}

#[test]
fn a_plan_that_cannot_be_played_is_refused() {
    let refused = |plan: Plan| super::plan(&plan, &KEYS).unwrap_err().to_string();
    assert_eq!(refused(Plan { days: 0, ..two_days(1, 1) }), "a plan has 1 to 3653 days, not 0");
    assert_eq!(
        refused(Plan { fee_rate_ppm: 1_000_000, ..two_days(1, 1) }),
        "a fee rate is below 1000000 parts per million, not 1000000"
    );
    assert_eq!(
        refused(two_days(1, u32::MAX)),
        "a plan has at most 10000000 trades, not 4294967295"
    );
}
