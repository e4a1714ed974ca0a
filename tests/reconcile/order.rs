//! What is found does not depend on the order in which days are run, and one thing is one difference.

use super::{DAY, Line, NEXT_DAY, Shop, Trade, bucket, differences, ids, line, run_of};
use crate::harness::bill::{Bill, Row};

const BEFORE: &str = "2024-03-05 23:59:58";
const AFTER: &str = "2024-03-06 00:00:03";

fn dated(row: Row, at: &str) -> Row {
    Row { at: at.to_owned(), ..row }
}

fn of_refund(request_no: &str, line: Line) -> Line {
    let (kind, trade_no, _, bill_fen, ledger_fen, state) = line;
    (kind, trade_no, Some(request_no.to_owned()), bill_fen, ledger_fen, state)
}

#[test]
fn an_unknown_row_in_the_bills_of_both_days_is_open_on_both() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(BEFORE);
    let first = Bill::of(DAY, vec![trade.row()]);
    let second = Bill::of(NEXT_DAY, vec![dated(trade.row(), AFTER)]);
    run_of(&shop.reconcile(&first), 0, &first);
    let missing = line("missing_in_ledger", "T1", Some(10_000), None);
    for _ in 0..2 {
        let day_two = run_of(&shop.reconcile(&second), 1, &second);
        assert_eq!(differences(&day_two), [missing.clone(), missing.clone()], "{day_two}");
        assert_ne!(ids(&day_two)[0], ids(&day_two)[1], "each day has its own");
        assert_eq!(bucket(&day_two, "open"), 1);
    }
    let day_one = run_of(&shop.reconcile(&first), 1, &first);
    assert_eq!(differences(&day_one), [missing], "{day_one}");
}

#[test]
fn a_payment_billed_on_both_sides_of_midnight_is_a_duplicate_in_any_order_of_runs() {
    for (at, first_goes_first) in [(BEFORE, true), (BEFORE, false), (AFTER, true), (AFTER, false)] {
        let shop = Shop::open();
        let trade = Trade::new("T1", 10_000).at(at);
        shop.tell(&trade.paid());
        let first = Bill::of(DAY, vec![dated(trade.row(), BEFORE)]);
        let second = Bill::of(NEXT_DAY, vec![dated(trade.row(), AFTER)]);
        let order = if first_goes_first { [&first, &second] } else { [&second, &first] };
        for bill in order {
            shop.reconcile(bill);
        }
        let extra = if at == BEFORE { &second } else { &first };
        let report = run_of(&shop.reconcile(extra), 1, extra);
        assert_eq!(
            differences(&report),
            [line("duplicate_in_bill", "T1", Some(10_000), None)],
            "dated {at}, first day first: {first_goes_first}: {report}"
        );
    }
}

#[test]
fn a_difference_that_a_neighbouring_day_explains_is_resolved_by_that_days_run() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(AFTER);
    shop.tell(&trade.paid());
    let first = Bill::of(DAY, vec![dated(trade.row(), BEFORE)]);
    let second = Bill::of(NEXT_DAY, Vec::new());
    let early = run_of(&shop.reconcile(&second), 1, &second);
    assert_eq!(differences(&early), [line("missing_in_bill", "T1", None, Some(10_000))]);
    let day_one = run_of(&shop.reconcile(&first), 0, &first);
    assert_eq!(bucket(&day_one, "explained"), 1, "{day_one}");
    let day_two: serde_json::Value =
        serde_json::from_str(&shop.report(NEXT_DAY, "json").stdout).unwrap();
    assert_eq!(day_two["differences"][0]["state"], "resolved", "{day_two}");
    assert_eq!(bucket(&day_two, "explained"), 1, "{day_two}");
}

#[test]
fn a_lost_refund_notice_before_two_others_is_one_missing_refund_and_nothing_else() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    shop.tell(&trade.paid());
    let at = |hour: u32| format!("{DAY} {hour}:00:00");
    // R1 of 30.00 is never told; the figures of the others are cumulative.
    shop.tell(&trade.refunded("R2", 5_000, &at(14)));
    shop.tell(&trade.refunded("R3", 8_000, &at(15)));
    let bill = Bill::of(
        DAY,
        vec![
            trade.row(),
            trade.refund_row("R1", 3_000, &at(13)),
            trade.refund_row("R2", 2_000, &at(14)),
            trade.refund_row("R3", 3_000, &at(15)),
        ],
    );
    for _ in 0..2 {
        let report = run_of(&shop.reconcile(&bill), 1, &bill);
        assert_eq!(
            differences(&report),
            [of_refund("R1", line("missing_in_ledger", "T1", Some(-3_000), None))],
            "{report}"
        );
    }
}

#[test]
fn a_bill_that_shifts_money_between_two_refunds_is_not_believed() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    shop.tell(&trade.paid());
    let at = |hour: u32| format!("{DAY} {hour}:00:00");
    shop.tell(&trade.refunded("R1", 3_000, &at(13)));
    shop.tell(&trade.refunded("R2", 5_000, &at(14)));
    let bill = Bill::of(
        DAY,
        vec![
            trade.row(),
            trade.refund_row("R1", 2_000, &at(13)),
            trade.refund_row("R2", 3_000, &at(14)),
        ],
    );
    for _ in 0..2 {
        let report = run_of(&shop.reconcile(&bill), 1, &bill);
        assert_eq!(
            differences(&report),
            [
                of_refund("R1", line("amount", "T1", Some(-2_000), Some(-3_000))),
                of_refund("R2", line("amount", "T1", Some(-3_000), Some(-2_000))),
            ],
            "{report}"
        );
    }
}

#[test]
fn the_bill_that_counts_is_the_one_compared_last() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).at(AFTER);
    shop.tell(&trade.paid());
    let with = Bill::of(DAY, vec![dated(trade.row(), BEFORE)]);
    let without = Bill::of(DAY, Vec::new());
    for bill in [&with, &without, &with] {
        run_of(&shop.reconcile(bill), 0, bill);
    }
    let second = Bill::of(NEXT_DAY, Vec::new());
    let day_two = run_of(&shop.reconcile(&second), 0, &second);
    assert_eq!(bucket(&day_two, "explained"), 1, "{day_two}");
}
