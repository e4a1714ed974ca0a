//! Movements that the two sides date on different days.

use serde_json::json;

use super::{DAY, NEXT_DAY, Shop, Trade, bucket, changes, differences, ids, line, run_of};
use crate::harness::bill::{Bill, Row};

const BEFORE: &str = "2024-03-05 23:59:58";
const AFTER: &str = "2024-03-06 00:00:03";

fn dated(row: Row, at: &str) -> Row {
    Row { at: at.to_owned(), ..row }
}

#[test]
fn a_movement_over_midnight_is_carried_on_the_first_day_and_explained_on_the_second() {
    let shop = Shop::open();
    let early_in_ledger = Trade::new("T1", 10_000).at(BEFORE);
    let early_in_bill = Trade::new("T2", 5_000).at(AFTER);
    let plain = Trade::new("T3", 700);
    let refunded = format!("{DAY} 23:58:00");
    for form in [
        early_in_ledger.paid(),
        early_in_bill.paid(),
        plain.paid(),
        plain.refunded("R1", 200, &refunded),
    ] {
        shop.tell(&form);
    }
    let first = Bill::of(DAY, vec![dated(early_in_bill.row(), BEFORE), plain.row()]);
    let second = Bill::of(
        NEXT_DAY,
        vec![dated(early_in_ledger.row(), AFTER), plain.refund_row("R1", 200, AFTER)],
    );
    for round in 1..=2 {
        let day_one = run_of(&shop.reconcile(&first), 0, &first);
        let buckets =
            ["matched", "carried", "explained", "open"].map(|name| bucket(&day_one, name));
        // Once the second day has been run, nothing is left to wait for.
        assert_eq!(buckets, if round == 1 { [1, 3, 0, 0] } else { [1, 0, 3, 0] }, "{day_one}");
        assert_eq!((differences(&day_one), changes(&day_one)), (vec![], [0; 4]), "{day_one}");

        let day_two = run_of(&shop.reconcile(&second), 0, &second);
        let buckets =
            ["matched", "carried", "explained", "open"].map(|name| bucket(&day_two, name));
        assert_eq!(buckets, [0, 0, 3, 0], "round {round}: {day_two}");
        assert_eq!((differences(&day_two), changes(&day_two)), (vec![], [0; 4]), "{day_two}");
        for item in day_two["carried_and_explained"].as_array().unwrap() {
            assert_eq!(item["linked_date"], DAY, "{item}");
        }
    }
}

#[test]
fn what_is_carried_and_never_brought_opens_on_the_second_day_exactly_once() {
    let shop = Shop::open();
    let (in_ledger, in_bill) =
        (Trade::new("T1", 10_000).at(BEFORE), Trade::new("T2", 5_000).at(BEFORE));
    shop.tell(&in_ledger.paid());
    let first = Bill::of(DAY, vec![in_bill.row()]);
    let second = Bill::of(NEXT_DAY, Vec::new());
    let day_one = run_of(&shop.reconcile(&first), 0, &first);
    assert_eq!((bucket(&day_one, "carried"), differences(&day_one)), (2, vec![]));
    let again = run_of(&shop.reconcile(&first), 0, &first);
    assert_eq!((bucket(&again, "carried"), changes(&again)), (2, [0; 4]), "still waiting");

    let expected = [
        line("missing_in_bill", "T1", None, Some(10_000)),
        line("missing_in_ledger", "T2", Some(5_000), None),
    ];
    let day_two = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!((differences(&day_two), changes(&day_two)), (expected.to_vec(), [2, 0, 0, 0]));
    for difference in day_two["differences"].as_array().unwrap() {
        assert_eq!(difference["date"], json!(DAY), "it belongs to the day of its movement");
    }
    // Whatever is run again, and in whatever order, they stay what they are.
    for bill in [&second, &first, &first, &second] {
        let report = run_of(&shop.reconcile(bill), 1, bill);
        let changed = &changes(&report)[..3];
        assert_eq!(
            (differences(&report), changed),
            (expected.to_vec(), &[0, 0, 0][..]),
            "{report}"
        );
        assert_eq!(ids(&report), ids(&day_two));
    }

    // The notification comes after all, and the bill is issued anew.
    shop.tell(&in_bill.paid());
    let corrected = Bill::of(DAY, vec![in_bill.row(), in_ledger.row()]);
    let day_one = run_of(&shop.reconcile(&corrected), 0, &corrected);
    assert_eq!((changes(&day_one), bucket(&day_one, "matched")), ([0, 0, 2, 0], 2));
    let day_two = run_of(&shop.reconcile(&second), 0, &second);
    assert_eq!(changes(&day_two), [0; 4]);
}

#[test]
fn what_is_far_from_midnight_is_not_waited_for() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(&format!("{DAY} 23:54:59"));
    shop.tell(&trade.paid());
    let bill = Bill::of(DAY, Vec::new());
    let report = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(differences(&report), [line("missing_in_bill", "T1", None, Some(10_000))]);
}

#[test]
fn a_movement_over_midnight_that_differs_is_one_difference() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(BEFORE);
    shop.tell(&trade.paid());
    let first = Bill::of(DAY, Vec::new());
    let mut row = dated(trade.row(), AFTER);
    row.receipt_fen = 9_999;
    let second = Bill::of(NEXT_DAY, vec![row]);
    run_of(&shop.reconcile(&first), 0, &first);
    let expected = [line("receipt", "T1", Some(9_999), Some(10_000))];
    let found = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!((differences(&found), changes(&found)), (expected.to_vec(), [1, 0, 0, 0]));
    let again = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!((differences(&again), changes(&again)), (expected.to_vec(), [0, 0, 0, 1]));
    let mut conn = shop.home.connect();
    run_of(&shop.reconcile(&first), 1, &first);
    run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!(
        crate::harness::sql::count(&mut conn, "difference"),
        1,
        "one, whatever day shows it"
    );
}

#[test]
fn a_row_that_the_next_days_bill_repeats_is_a_duplicate_there() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    shop.tell(&trade.paid());
    let first = Bill::of(DAY, vec![trade.row()]);
    let second = Bill::of(NEXT_DAY, vec![trade.row()]);
    run_of(&shop.reconcile(&first), 0, &first);
    let expected = [line("duplicate_in_bill", "T1", Some(10_000), None)];
    let found = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!((differences(&found), changes(&found)), (expected.to_vec(), [1, 0, 0, 0]));
    let again = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!((differences(&again), changes(&again)), (expected.to_vec(), [0, 0, 0, 1]));
    let day_one = run_of(&shop.reconcile(&first), 0, &first);
    assert_eq!((bucket(&day_one, "matched"), changes(&day_one)), (1, [0; 4]));
}

#[test]
fn days_run_backwards_tell_the_same() {
    let shop = Shop::open();
    let brought = Trade::new("T1", 10_000).at(BEFORE);
    let never_brought = Trade::new("T2", 5_000).at(BEFORE);
    shop.tell(&brought.paid());
    shop.tell(&never_brought.paid());
    let first = Bill::of(DAY, Vec::new());
    let second = Bill::of(NEXT_DAY, vec![dated(brought.row(), AFTER)]);
    let expected = [line("missing_in_bill", "T2", None, Some(5_000))];
    let day_two = run_of(&shop.reconcile(&second), 0, &second);
    assert_eq!((bucket(&day_two, "explained"), differences(&day_two)), (1, vec![]));
    let day_one = run_of(&shop.reconcile(&first), 1, &first);
    assert_eq!((differences(&day_one), changes(&day_one)), (expected.to_vec(), [1, 0, 0, 0]));
    assert_eq!(bucket(&day_one, "explained"), 1);
    let again = run_of(&shop.reconcile(&second), 0, &second);
    assert_eq!((differences(&again), changes(&again)), (vec![], [0; 4]));
}

#[test]
fn a_second_bill_issued_anew_with_the_row_resolves_what_was_opened_for_it() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(BEFORE);
    shop.tell(&trade.paid());
    let first = Bill::of(DAY, Vec::new());
    let without = Bill::of(NEXT_DAY, Vec::new());
    let with = Bill::of(NEXT_DAY, vec![dated(trade.row(), AFTER)]);
    run_of(&shop.reconcile(&first), 0, &first);
    let opened = run_of(&shop.reconcile(&without), 1, &without);
    assert_eq!(changes(&opened), [1, 0, 0, 0]);
    shop.reconcile(&with);
    let day_one = run_of(&shop.reconcile(&first), 0, &first);
    assert_eq!((bucket(&day_one, "explained"), ids(&day_one)), (1, ids(&opened)));
    assert_eq!(differences(&day_one)[0].5, "resolved");
    let day_two = run_of(&shop.reconcile(&with), 0, &with);
    assert_eq!((bucket(&day_two, "explained"), changes(&day_two)), (1, [0; 4]));
}
