//! Days on which both sides agree, however the bill is written.

use super::{DAY, Shop, Trade, bucket, changes, differences, run_of};
use crate::harness::bill::{Bill, Footer, HEADINGS};
use crate::harness::sql;

#[test]
fn a_day_on_which_both_sides_agree_is_all_matched() {
    let shop = Shop::open();
    let [one, two, three] =
        [Trade::new("T1", 10_000), Trade::new("T2", 5_000).received(4_500), Trade::new("T3", 1)];
    for form in [
        one.paid(),
        two.paid(),
        three.paid(),
        one.refunded("R1", 3_000, &format!("{DAY} 10:00:00")),
        one.refunded("R2", 5_000, &format!("{DAY} 11:00:00")),
    ] {
        shop.tell(&form);
    }
    let rows = vec![
        one.row(),
        one.refund_row("R1", 3_000, &format!("{DAY} 10:00:00")),
        one.refund_row("R2", 2_000, &format!("{DAY} 11:00:00")),
        two.row(),
        three.row(),
    ];
    let plain = Bill::of(DAY, rows.clone());
    let mut backwards = plain.clone();
    backwards.headings.reverse();
    let mut wider = plain.clone();
    wider.headings = HEADINGS.into_iter().chain(["新增的列", "另一列（元）", "", ""]).collect();
    let mut narrower = plain.clone();
    let needless = ["门店编号", "操作员", "商家优惠（元）", "备注", "分润（元）"];
    narrower.headings.retain(|heading| !needless.contains(heading));
    let mut parts = plain.clone();
    parts.parts = vec![rows[..2].to_vec(), Vec::new(), rows[2..].to_vec()];
    let mut older = plain.clone();
    older.footer = Footer::Totals;
    let mut commas = plain.clone();
    commas.parts[0][0].subject = r#""甲,乙,""丙"",""#.to_owned();
    commas.parts[0][3].subject = "满50,减5".to_owned();

    for (run, (what, bill)) in (1..).zip([
        ("as Alipay writes it", &plain),
        ("the same again", &plain),
        ("columns backwards", &backwards),
        ("more columns", &wider),
        ("fewer columns", &narrower),
        ("three parts, one of them empty", &parts),
        ("the older footer", &older),
        ("commas in texts, in quotes and bare", &commas),
    ]) {
        let ended = shop.reconcile(bill);
        assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
        let report = run_of(&ended, 0, bill);
        assert_eq!(bucket(&report, "matched"), 5, "{what}: {report}");
        assert_eq!((differences(&report), changes(&report)), (vec![], [0; 4]), "{what}: {report}");
        assert_eq!(report["run"], run, "{what}");
        assert_eq!(report["ledger"]["net_fen"], 10_000 + 4_500 + 1 - 5_000, "{what}");
        let kept = shop.home.data_dir().join(report["bill"]["file"].as_str().unwrap());
        assert_eq!(std::fs::read(kept).unwrap(), bill.zip(), "{what}: the original is kept");
    }
    let mut conn = shop.home.connect();
    assert_eq!(sql::count(&mut conn, "reconciliation_run"), 8);
    assert_eq!(sql::count(&mut conn, "bill"), 7, "equal bytes are one bill");
    assert_eq!(sql::count(&mut conn, "difference"), 0);
}

#[test]
fn an_empty_day_is_reconciled() {
    let shop = Shop::open();
    let bill = Bill::of(DAY, Vec::new());
    for _ in 0..2 {
        let report = run_of(&shop.reconcile(&bill), 0, &bill);
        assert_eq!(report["ledger"]["movements"], 0);
        assert_eq!(changes(&report), [0; 4]);
    }
}

#[test]
fn a_fee_rounds_half_up_to_a_fen_as_the_contract_says() {
    let shop = Shop::open();
    // 0.6 % of these is 0.5, 1.494, 1.5 and 0.498 fen.
    let fees = [("T1", 84, -1), ("T2", 249, -1), ("T3", 250, -2), ("T4", 83, 0)];
    let rows = fees.map(|(no, total_fen, fee_fen)| {
        let trade = Trade::new(no, total_fen);
        shop.tell(&trade.paid());
        let row = trade.row();
        assert_eq!(row.fee_fen, fee_fen, "{no}");
        row
    });
    let bill = Bill::of(DAY, rows.to_vec());
    assert_eq!(bucket(&run_of(&shop.reconcile(&bill), 0, &bill), "matched"), 4);
}

#[test]
fn a_refund_that_nobody_numbered_is_known_by_its_trade_on_both_sides() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    let at = format!("{DAY} 10:00:00");
    shop.tell(&trade.paid());
    shop.tell(&trade.refunded("R1", 4_000, &at).without("out_biz_no"));
    let bill = Bill::of(DAY, vec![trade.row(), trade.refund_row("", 4_000, &at)]);
    let report = run_of(&shop.reconcile(&bill), 0, &bill);
    assert_eq!((bucket(&report, "matched"), differences(&report)), (2, vec![]));
}

#[test]
fn what_was_told_in_any_order_and_more_than_once_is_matched_once() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000).received(9_000);
    let times = ["10:00:00", "11:00:00"].map(|time| format!("{DAY} {time}"));
    let second = trade.refunded("R2", 10_000, &times[1]).with("trade_status", "TRADE_CLOSED");
    let first = trade.refunded("R1", 4_000, &times[0]);
    for form in [&second, &first, &second, &trade.paid(), &first] {
        shop.tell(form);
    }
    // Of a payment with the merchant's discount, a refund's share that falls on the merchant is the bill's to say.
    let mut rows = vec![
        trade.row(),
        trade.refund_row("R1", 4_000, &times[0]),
        trade.refund_row("R2", 6_000, &times[1]),
    ];
    rows[1].receipt_fen = -3_500;
    rows[2].receipt_fen = -5_500;
    let bill = Bill::of(DAY, rows);
    for _ in 0..2 {
        let report = run_of(&shop.reconcile(&bill), 0, &bill);
        assert_eq!((bucket(&report, "matched"), differences(&report)), (3, vec![]));
        assert_eq!(report["ledger"]["net_fen"], 0);
    }
}
