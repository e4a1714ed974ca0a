//! Every kind of difference, found exactly once, and its life over further runs.

use super::{DAY, Line, Shop, Trade, bucket, changes, differences, ids, line, run_of};
use crate::harness::bill::{Bill, Row};
use crate::harness::sql;

/// A day with every kind of difference that a trade bill can show: the shop's bill, and what must be found.
pub(crate) fn every_kind(shop: &Shop) -> (Bill, Vec<Line>) {
    let trade = |number: u32| Trade::new(&format!("T{number:02}"), 10_000);
    let told = |number: u32| {
        shop.tell(&trade(number).paid());
        trade(number).row()
    };
    let changed = |number: u32, change: fn(&mut Row)| {
        let mut row = told(number);
        change(&mut row);
        row
    };
    let mut rows = vec![told(1), trade(2).row()];
    told(3);
    rows.push(changed(4, |row| (row.total_fen, row.receipt_fen) = (10_001, 10_001)));
    rows.push(changed(5, |row| row.receipt_fen = 9_900));
    rows.push(changed(6, |row| row.fee_fen = -61));
    rows.push(changed(7, |row| row.out_trade_no = "O-T08".to_owned()));
    rows.push(changed(8, |row| row.out_trade_no = "O-T07".to_owned()));
    shop.tell(&trade(9).closed());
    rows.push(trade(9).row());
    let twice = told(10);
    rows.extend([twice.clone(), twice]);
    rows.push(told(11));
    let contradiction = Trade::new("T11", 9_000).paid().with("notify_id", "T11-other");
    shop.tell(&contradiction);
    // A refund that the bill says was larger, on a trade that agrees.
    rows.push(told(12));
    let at = format!("{DAY} 12:00:00");
    shop.tell(&trade(12).refunded("R1", 3_000, &at));
    rows.push(trade(12).refund_row("R1", 3_001, &at));

    let mut expected = vec![
        line("missing_in_ledger", "T02", Some(10_000), None),
        line("missing_in_bill", "T03", None, Some(10_000)),
        line("amount", "T04", Some(10_001), Some(10_000)),
        line("receipt", "T05", Some(9_900), Some(10_000)),
        line("fee", "T06", Some(-61), Some(-60)),
        line("order_no", "T07", Some(10_000), Some(10_000)),
        line("order_no", "T08", Some(10_000), Some(10_000)),
        line("status", "T09", Some(10_000), None),
        line("duplicate_in_bill", "T10", Some(10_000), None),
        line("conflict", "T11", Some(10_000), Some(9_000)),
        line("amount", "T12", Some(-3_001), Some(-3_000)),
    ];
    expected.last_mut().unwrap().2 = Some("R1".to_owned());
    expected.sort();
    (Bill::of(DAY, rows), expected)
}

#[test]
fn every_kind_of_difference_is_found_exactly_once_and_stays_one_over_further_runs() {
    let shop = Shop::open();
    let (bill, expected) = every_kind(&shop);
    let first = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(differences(&first), expected);
    assert_eq!(changes(&first), [11, 0, 0, 0]);
    assert_eq!(bucket(&first, "matched"), 3, "T01, T10 and the payment of T12: {first}");
    assert_eq!(bucket(&first, "open"), 11);
    assert_eq!(first["ledger"]["movements"], 11);

    for _ in 0..2 {
        let again = run_of(&shop.reconcile(&bill), 1, &bill);
        assert_eq!(differences(&again), expected);
        assert_eq!(ids(&again), ids(&first));
        assert_eq!(changes(&again), [0, 0, 0, 11]);
        assert_eq!(again["buckets"], first["buckets"]);
    }
    let mut conn = shop.home.connect();
    assert_eq!(sql::count(&mut conn, "difference"), 11);
    assert_eq!(sql::count(&mut conn, "difference_event"), 11, "opened once each");
}

#[test]
fn errors_that_cancel_out_are_both_found() {
    let shop = Shop::open();
    let rows = [("T1", 1), ("T2", -1)].map(|(no, error_fen)| {
        let trade = Trade::new(no, 10_000);
        shop.tell(&trade.paid());
        let mut row = trade.row();
        row.total_fen += error_fen;
        row.receipt_fen += error_fen;
        row
    });
    let bill = Bill::of(DAY, rows.to_vec());
    let report = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(report["bill"]["net_fen"], report["ledger"]["net_fen"], "the totals agree");
    let expected = [
        line("amount", "T1", Some(10_001), Some(10_000)),
        line("amount", "T2", Some(9_999), Some(10_000)),
    ];
    assert_eq!(differences(&report), expected);
}

#[test]
fn a_late_notification_resolves_its_difference() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    let bill = Bill::of(DAY, vec![trade.row()]);
    let open = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(differences(&open), [line("missing_in_ledger", "T1", Some(10_000), None)]);

    shop.tell(&trade.paid());
    let resolved = run_of(&shop.reconcile(&bill), 0, &bill);
    assert_eq!(changes(&resolved), [0, 0, 1, 0]);
    assert_eq!(ids(&resolved), ids(&open), "it is shown as resolved");
    assert_eq!(differences(&resolved)[0].5, "resolved");
    assert_eq!(bucket(&resolved, "matched"), 1);
    let again = run_of(&shop.reconcile(&bill), 0, &bill);
    assert_eq!(changes(&again), [0; 4]);
}

#[test]
fn a_bill_issued_anew_resolves_what_it_corrects_and_reopens_what_it_takes_back() {
    let shop = Shop::open();
    let (one, two) = (Trade::new("T1", 10_000), Trade::new("T2", 5_000));
    shop.tell(&one.paid());
    let wrong = Bill::of(DAY, vec![one.row(), two.row()]);
    let right = Bill::of(DAY, vec![one.row()]);
    let found = run_of(&shop.reconcile(&wrong), 1, &wrong);
    assert_eq!(changes(&found), [1, 0, 0, 0]);
    let resolved = run_of(&shop.reconcile(&right), 0, &right);
    assert_eq!((changes(&resolved), ids(&resolved)), ([0, 0, 1, 0], ids(&found)));
    let mut third = wrong.clone();
    third.parts[0].reverse();
    let reopened = run_of(&shop.reconcile(&third), 1, &third);
    assert_eq!((changes(&reopened), ids(&reopened)), ([0, 1, 0, 0], ids(&found)));
    assert_eq!(differences(&reopened)[0].5, "reopened");
    let again = run_of(&shop.reconcile(&third), 1, &third);
    assert_eq!(changes(&again), [0, 0, 0, 1]);

    let history = "SELECT to_state AS text FROM difference_event ORDER BY event_no";
    let history = sql::texts(&mut shop.home.connect(), history);
    assert_eq!(history, ["open", "resolved", "reopened"]);
}

#[test]
fn a_lost_refund_under_a_cumulative_figure_is_one_missing_refund_and_nothing_else() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    let times = ["10:00:00", "11:00:00"].map(|time| format!("{DAY} {time}"));
    shop.tell(&trade.paid());
    // The notice of R1, 30.00, is lost; R2, 20.00, tells 50.00 refunded so far.
    shop.tell(&trade.refunded("R2", 5_000, &times[1]));
    let rows = vec![
        trade.row(),
        trade.refund_row("R1", 3_000, &times[0]),
        trade.refund_row("R2", 2_000, &times[1]),
    ];
    let bill = Bill::of(DAY, rows);
    let mut lost = line("missing_in_ledger", "T1", Some(-3_000), None);
    lost.2 = Some("R1".to_owned());
    let first = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(differences(&first), [lost.clone()]);
    assert_eq!(bucket(&first, "matched"), 2);
    let again = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!((differences(&again), changes(&again)), (vec![lost], [0, 0, 0, 1]));

    shop.tell(&trade.refunded("R1", 3_000, &times[0]));
    let resolved = run_of(&shop.reconcile(&bill), 0, &bill);
    assert_eq!((changes(&resolved), bucket(&resolved, "matched")), ([0, 0, 1, 0], 3));
}
