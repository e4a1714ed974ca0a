use chrono::Duration;
use expect_test::{Expect, expect};
use payment::{AppId, TradeNo};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A trade's facts as text, one a line: `paid 100.00 receipt 95.00 @12`, `refund R1 cumulative 30.00 @30`,
/// `waiting 100.00 @0`, `closed @40`, `finished`. `@` is minutes after the trade began.
fn facts(text: &str) -> Vec<Fact> {
    let start = payment::parse_local("2024-03-05 09:00:00").unwrap();
    let fen = |word: &str| Fen::parse_yuan(word).unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words
                .last()
                .unwrap()
                .strip_prefix('@')
                .map(|minutes| start + Duration::minutes(minutes.parse().unwrap()));
            let told = match words[..] {
                ["waiting", total, _] => Told::Created { total: fen(total), at: at.unwrap() },
                ["paid", total, _] => {
                    Told::Paid { total: fen(total), receipt: None, at: at.unwrap() }
                }
                ["paid", total, "receipt", receipt, _] => {
                    Told::Paid { total: fen(total), receipt: Some(fen(receipt)), at: at.unwrap() }
                }
                ["refund", no, meaning, amount, ..] => Told::Refunded {
                    request_no: RequestNo::parse(no).unwrap(),
                    reported: match meaning {
                        "cumulative" => Reported::Cumulative(fen(amount)),
                        _ => Reported::Single(fen(amount)),
                    },
                    receipt: None,
                    at: at.unwrap(),
                },
                ["closed", _] => Told::Closed { at },
                ["finished"] => Told::Finished,
                _ => panic!("{line}"),
            };
            Fact {
                app_id: AppId::parse("2021000000000001").unwrap(),
                trade_no: TradeNo::parse("T1").unwrap(),
                out_trade_no: OutTradeNo::parse("O1").unwrap(),
                told,
            }
        })
        .collect()
}

fn show(trade: &Trade) -> String {
    let mut text = trade.state.as_str().to_owned();
    if let Some(paid) = &trade.paid {
        text += &format!(" {} receipt {}", paid.total, paid.receipt);
    }
    for (no, refund) in &trade.refunds {
        text += &format!(", {no} {} receipt {}", refund.amount, refund.receipt);
    }
    for conflict in &trade.conflicts {
        text += &format!(", told {} {}", conflict.subject.as_str(), conflict.told);
    }
    if let Some(doubt) = trade.doubt {
        text += &format!(", doubt {}", doubt.as_str());
    }
    text
}

fn check(input: &str, expected: Expect) {
    expected.assert_eq(&show(&fold(&facts(input)).unwrap()));
}

#[test]
fn a_trade_is_what_its_facts_say() {
    check("waiting 100.00 @0", expect!["waiting"]);
    check("waiting 100.00 @0\nclosed @30", expect!["closed"]);
    check(
        "waiting 100.00 @0\npaid 100.00 receipt 100.00 @1",
        expect!["paid 100.00 receipt 100.00"],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R1 cumulative 30.00 @2\nrefund R2 cumulative 50.00 @3",
        expect!["paid 100.00 receipt 100.00, R1 30.00 receipt 30.00, R2 20.00 receipt 20.00"],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R1 cumulative 100.00 @2\nclosed @2",
        expect!["refunded 100.00 receipt 100.00, R1 100.00 receipt 100.00"],
    );
    check("paid 100.00 receipt 100.00 @1\nfinished", expect!["finished 100.00 receipt 100.00"]);
}

#[test]
fn a_receipt_told_later_replaces_the_assumed_one() {
    check("paid 50.00 @1", expect!["paid 50.00 receipt 50.00"]);
    check("paid 50.00 @1\npaid 50.00 receipt 45.00 @1", expect!["paid 50.00 receipt 45.00"]);
}

#[test]
fn refunds_of_a_discounted_trade_share_its_receipt_to_the_last_fen() {
    check(
        "paid 50.00 receipt 45.01 @1\nrefund A cumulative 10.00 @2\nrefund B cumulative 50.00 @3",
        expect!["refunded 50.00 receipt 45.01, A 10.00 receipt 9.00, B 40.00 receipt 36.01"],
    );
}

#[test]
fn contradictions_are_kept_and_the_smallest_amount_stands() {
    check(
        "paid 100.00 receipt 100.00 @1\npaid 90.00 receipt 90.00 @1",
        expect!["paid 90.00 receipt 90.00, told total 100.00, told total 90.00"],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R cumulative 30.00 @2\nrefund R cumulative 31.00 @2",
        expect![
            "paid 100.00 receipt 100.00, R 30.00 receipt 30.00, told refund 30.00, told refund 31.00"
        ],
    );
}

#[test]
fn a_contradiction_stays_noted_whatever_else_is_told() {
    check(
        "paid 100.00 receipt 95.00 @1\npaid 100.00 receipt 94.00 @1\npaid 90.00 receipt 90.00 @1",
        expect![
            "paid 90.00 receipt 90.00, told total 100.00, told total 90.00, told receipt 94.00, told receipt 95.00"
        ],
    );
    check(
        "refund T1 cumulative 30.00 @2\nrefund T1 cumulative 31.00 @2\n\
         refund R1 cumulative 30.00 @2\nrefund R1 cumulative 31.00 @2",
        expect![
            "paid, R1 30.00 receipt 30.00, told refund 30.00, told refund 31.00, told refund 30.00, told refund 31.00, doubt refund_without_payment"
        ],
    );
}

#[test]
fn a_single_amount_confirms_a_step_and_shows_what_is_missing_before_it() {
    // R1's notice is lost: R2's step is all there is, until the bill tells R2's own amount.
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R2 cumulative 50.00 @3",
        expect!["paid 100.00 receipt 100.00, R2 50.00 receipt 50.00"],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R2 cumulative 50.00 @3\nrefund R2 single 20.00 @3",
        expect!["paid 100.00 receipt 100.00, R2 20.00 receipt 20.00"],
    );
}

#[test]
fn a_refund_after_a_confirmed_one_steps_from_what_was_told() {
    // R1's notice is lost. R2's cumulative figure knows of it, whatever R2's own amount is.
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R2 cumulative 50.00 @3\nrefund R2 single 20.00 @3\nrefund R3 cumulative 80.00 @4",
        expect!["paid 100.00 receipt 100.00, R2 20.00 receipt 20.00, R3 30.00 receipt 30.00"],
    );
}

#[test]
fn what_does_not_fit_is_doubted() {
    check(
        "paid 100.00 receipt 100.00 @1\nrefund A cumulative 30.00 @2\nrefund B cumulative 20.00 @3",
        expect![
            "paid 100.00 receipt 100.00, A 30.00 receipt 30.00, B 0.00 receipt 0.00, doubt refund_step"
        ],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nclosed @9",
        expect!["refunded 100.00 receipt 100.00, doubt closed_unrefunded"],
    );
    check(
        "paid 10.00 receipt 10.00 @1\nrefund A single 30.00 @2",
        expect!["refunded 10.00 receipt 10.00, A 30.00 receipt 30.00, doubt refund_exceeds_total"],
    );
    check(
        "refund A cumulative 3.00 @2",
        expect!["paid, A 3.00 receipt 3.00, doubt refund_without_payment"],
    );
}

#[test]
fn a_refund_told_without_its_number_is_the_one_known_by_number() {
    check(
        "paid 100.00 receipt 100.00 @1\nrefund R1 cumulative 30.00 @2\nrefund T1 cumulative 30.00 @2",
        expect!["paid 100.00 receipt 100.00, R1 30.00 receipt 30.00"],
    );
    check(
        "paid 100.00 receipt 100.00 @1\nrefund T1 cumulative 30.00 @2",
        expect!["paid 100.00 receipt 100.00, T1 30.00 receipt 30.00"],
    );
}

/// Facts of one trade that may contradict each other in every way.
fn any_facts() -> impl Strategy<Value = Vec<Fact>> {
    let line = prop_oneof![
        (1..3u32).prop_map(|n| format!("waiting {n}.00 @0")),
        (1..4u32, 0..3u32).prop_map(|(n, m)| format!("paid {n}0.00 @{m}")),
        (1..4u32, 1..3u32).prop_map(|(n, r)| format!("paid {n}0.00 receipt {r}0.00 @1")),
        (1..4u32, 1..9u32, 1..5u32)
            .prop_map(|(no, n, at)| format!("refund R{no} cumulative {n}.00 @{at}")),
        (1..4u32, 1..9u32, 1..5u32)
            .prop_map(|(no, n, at)| format!("refund R{no} single {n}.00 @{at}")),
        (1..9u32, 1..5u32).prop_map(|(n, at)| format!("refund T1 cumulative {n}.00 @{at}")),
        (1..5u32).prop_map(|at| format!("closed @{at}")),
        Just("finished".to_owned()),
    ];
    proptest::collection::vec(line, 1..9).prop_map(|lines| facts(&lines.join("\n")))
}

proptest! {
    #[test]
    fn order_and_repetition_never_matter(
        facts in any_facts(),
        shuffle in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let mut other = facts.clone();
        for index in &shuffle {
            other.push(index.get(&facts).clone());
        }
        for (at, index) in shuffle.iter().enumerate() {
            let last = other.len() - 1;
            other.swap(at.min(last), index.index(last + 1));
        }
        prop_assert_eq!(fold(&facts), fold(&other));
    }

    /// Conflicts are written for good: what is noted of some facts must be noted of more.
    #[test]
    fn facts_add_conflicts_and_take_none_away(facts in any_facts()) {
        let noted = |facts: &[Fact]| fold(facts).unwrap().conflicts;
        for count in 1..facts.len() {
            prop_assert!(noted(&facts[..count]).is_subset(&noted(&facts)));
        }
    }

    #[test]
    fn nobody_receives_more_than_was_told(facts in any_facts()) {
        let trade = fold(&facts).unwrap();
        if let Some(paid) = trade.paid {
            prop_assert!(paid.receipt <= paid.total);
        }
        for refund in trade.refunds.values() {
            prop_assert!(!refund.amount.is_negative() && !refund.receipt.is_negative());
        }
    }
}
