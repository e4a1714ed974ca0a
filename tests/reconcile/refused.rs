//! Bills that are not believed, and days that cannot be run: nothing is stored.

use payment::BillDay;
use service::{Clock as _, SystemClock};

use super::{DAY, NEXT_DAY, Shop, Trade, run_of};
use crate::harness::alipay::APP_ID;
use crate::harness::bill::{Bill, zip};
use crate::harness::sql;

const BILL_TABLES: [&str; 4] = ["bill", "bill_row", "reconciliation_run", "difference"];

#[test]
fn an_unsound_bill_is_refused_with_its_place_and_nothing_is_stored() {
    let shop = Shop::open();
    let trades = [Trade::new("T1", 10_000), Trade::new("T2", 8_888)];
    let rows = || trades.iter().map(Trade::row).collect();
    shop.tell(&trades[0].paid());
    let good = Bill::of(DAY, rows());
    let name = good.files()[0].0.clone();
    let changed = |from: &str, to: &str| {
        let mut files = good.files();
        assert!(files[0].1.contains(from), "{from}");
        files[0].1 = files[0].1.replacen(from, to, 1);
        zip(&files)
    };
    let in_row_2 = |column| vec![name.clone(), "row 2".to_owned(), "line 7".to_owned(), column];
    let amount = || in_row_2("订单金额（元）".to_owned());
    let of_part = |words: &str| vec![name.clone(), words.to_owned()];
    let other = |text: &str| vec![text.to_owned()];
    let whole = good.zip();
    let mut other_account = good.clone();
    other_account.account = "20880000000000990156".to_owned();
    let end = "#-----------业务明细列表结束------\r\n";
    let mut summary_only = good.files();
    summary_only.remove(0);
    for (what, bytes, words) in [
        ("of another account", other_account.zip(), other("20880000000000990156")),
        ("of another day", Bill::of(NEXT_DAY, rows()).zip(), other(NEXT_DAY)),
        ("cut off", whole[..whole.len() - 30].to_vec(), other("cut off")),
        ("half of it", whole[..whole.len() / 2].to_vec(), other("cut off")),
        ("no zip", b"not a zip at all".to_vec(), other("not a zip")),
        ("unpacked", good.files()[0].1.clone().into_bytes(), other("not a zip")),
        ("empty", Vec::new(), other("not a zip")),
        ("a zip without a trade bill", zip(&summary_only), other("no trade bill")),
        (
            "a zip of something else",
            zip(&[("a.txt".to_owned(), "hello".to_owned())]),
            other("a.txt"),
        ),
        ("1e3", changed("88.88,88.88", "1e3,88.88"), amount()),
        ("88.888", changed("88.88,88.88", "88.888,88.88"), amount()),
        ("no amount", changed("88.88,88.88", ",88.88"), amount()),
        ("no time", changed("-05 09:00:12,,", "-05,,"), vec![name.clone(), "完成时间".to_owned()]),
        ("a footer of another sum", changed("共188.88元", "共188.89元"), of_part("188.89")),
        (
            "a footer of another number",
            changed("#交易合计：2笔", "#交易合计：3笔"),
            of_part("交易合计"),
        ),
        ("no footer", changed("#退款合计", "#无"), of_part("退款合计")),
        ("no end", changed(end, ""), of_part("业务明细列表结束")),
        ("no such column", changed("服务费（元）", "费（元）"), of_part("服务费")),
        ("no account", changed("#账号", "#无"), other("账号")),
        ("no period", changed("#起始日期", "#无"), of_part("起始日期")),
    ] {
        let ended = shop.reconcile_zip(DAY, &bytes);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        ended.assert_refused(&words);
        assert_eq!(ended.stdout, "", "{what}");
        assert!(!ended.stderr.contains("138****01"), "{what}: a buyer: {}", ended.stderr);
        let checked =
            shop.home.run(&["bill", "check", shop.home.path("bill.csv.zip").to_str().unwrap()]);
        let is_another_s = ["of another account", "of another day", "no account"].contains(&what);
        assert_eq!(checked.code, Some(if is_another_s { 0 } else { 2 }), "{what}: {checked:?}");
    }
    let mut conn = shop.home.connect();
    for table in BILL_TABLES {
        assert_eq!(sql::count(&mut conn, table), 0, "{table}");
    }
    shop.report(DAY, "text").assert_refused(&[DAY, "was never reconciled"]);

    let report = run_of(&shop.reconcile(&good), 1, &good);
    assert_eq!(report["run"], 1, "and the good one is the first run");
    let before = shop.report(DAY, "json").stdout;
    let refused = shop.reconcile_zip(DAY, &changed("共188.88元", "共188.89元"));
    refused.assert_refused(&["188.89"]);
    assert_eq!(
        shop.report(DAY, "json").stdout,
        before,
        "a refused bill leaves the report as it was"
    );
}

#[test]
fn a_day_that_cannot_be_run_is_refused() {
    let shop = Shop::open();
    let bill = Bill::of(DAY, Vec::new());
    let today = BillDay::of(SystemClock.now());
    for day in [today, today.next()] {
        let bill = Bill { day, ..bill.clone() };
        shop.reconcile(&bill).assert_refused(&[&day.to_string(), "is not over"]);
    }
    let run = |arguments: &[&str]| shop.home.run(arguments);
    let file = shop.home.write("bill.csv.zip", bill.zip());
    let file = file.to_str().unwrap();
    run(&["reconcile", "--app", APP_ID, "--date", DAY]).assert_refused(&["signing_key", "--bill"]);
    run(&["reconcile", "--app", APP_ID, "--date", DAY, "--bill", "/nowhere.zip"])
        .assert_refused(&["/nowhere.zip"]);
    run(&["reconcile", "--app", "2021000000000009", "--date", DAY, "--bill", file])
        .assert_refused(&["2021000000000009"]);
    for date in ["2024-02-30", "20240305", "yesterday"] {
        run(&["reconcile", "--app", APP_ID, "--date", date, "--bill", file])
            .assert_refused(&[date]);
    }
    let mut conn = shop.home.connect();
    assert_eq!(sql::count(&mut conn, "reconciliation_run"), 0);
}

#[test]
fn a_day_that_another_process_reconciles_is_not_run_twice_at_once() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    shop.tell(&trade.paid());
    let bill = Bill::of(DAY, vec![trade.row()]);
    let mut conn = shop.home.connect();
    let app_id = payment::AppId::parse(APP_ID).unwrap();
    let lock = ledger::day::lock(&mut conn, &app_id, bill.day).unwrap().unwrap();
    shop.reconcile(&bill).assert_refused(&[DAY, "another process"]);
    ledger::day::unlock(&mut conn, lock).unwrap();
    run_of(&shop.reconcile(&bill), 0, &bill);
}

#[test]
fn a_run_that_was_killed_has_left_nothing_by_half() {
    let shop = Shop::open();
    let trade = Trade::new("T1", 10_000);
    shop.tell(&trade.paid());
    let bill = Bill::of(DAY, vec![trade.row(), Trade::new("T2", 5_000).row()]);
    run_of(&shop.reconcile(&Bill::of(DAY, Vec::new())), 1, &Bill::of(DAY, Vec::new()));
    let before = shop.report(DAY, "json").stdout;

    let (mut holder, mut looker) = (shop.home.connect(), shop.home.connect());
    sql::run(&mut holder, "BEGIN; LOCK TABLE reconciliation_item IN ACCESS EXCLUSIVE MODE");
    let file = shop.home.write("bill.csv.zip", bill.zip());
    let arguments = ["reconcile", "--app", APP_ID, "--date", DAY, "--bill", file.to_str().unwrap()];
    let mut child = shop.home.command(&arguments).spawn().unwrap();
    crate::harness::wait::until("the run waits", || sql::blocked(&mut looker) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    sql::run(&mut holder, "COMMIT");

    assert_eq!(shop.report(DAY, "json").stdout, before, "the day is as it was");
    let report = run_of(&shop.reconcile(&bill), 1, &bill);
    assert_eq!(report["run"], 2);
    assert_eq!(super::changes(&report), [1, 0, 1, 0], "T2 opened, T1 resolved: {report}");
}
