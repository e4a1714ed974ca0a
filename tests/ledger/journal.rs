//! The books cannot be falsified, whoever tries: the database refuses.

use alipay::RefundFee;
use ledger::Connection;

use crate::harness::{Alipay, Database, Feed, Notice, books, feed, sql};

#[test]
fn an_entry_that_does_not_sum_to_zero_is_refused() {
    let database = Database::new();
    let mut conn = database.connect();
    keep_a_trade(&mut conn);
    let before = books::of_trades(&mut conn, "%");
    for lines in [
        "('alipay:clearing', 100)",
        "('alipay:clearing', 100), ('sales', -99)",
        "('alipay:clearing', 95), ('merchant:discount', 4), ('sales', -100)",
    ] {
        for _ in 0..2 {
            let refusal = sql::refusal(&mut conn, &entry(lines));
            assert!(refusal.contains("does not sum to zero"), "{refusal}");
        }
    }
    // Zero over both entries, but in neither.
    let two = format!(
        "WITH one AS ({ENTRY}), other AS ({ENTRY})
         INSERT INTO journal_line (app_id, entry_id, account, amount_fen)
         SELECT app_id, entry_id, 'alipay:clearing', 100 FROM one
         UNION ALL SELECT app_id, entry_id, 'sales', -100 FROM other"
    );
    assert!(sql::refusal(&mut conn, &two).contains("does not sum to zero"));
    // Lines without their entry.
    let alone = "INSERT INTO journal_line (app_id, entry_id, account, amount_fen)
                 SELECT '2021000000000001', 999, account, fen
                   FROM (VALUES ('alipay:clearing', 100), ('sales', -100)) AS line (account, fen)";
    for _ in 0..2 {
        let refusal = sql::refusal(&mut conn, alone);
        assert!(refusal.contains("cannot stand alone"), "{refusal}");
    }
    assert_eq!(books::of_trades(&mut conn, "%"), before);
    books::assert_sound(&mut conn);

    sql::run(
        &mut conn,
        &entry("('alipay:clearing', 95), ('merchant:discount', 5), ('sales', -100)"),
    );
}

const ENTRY: &str =
    "INSERT INTO journal_entry (app_id, trade_no, request_no, reason, moved_at, recorded_at)
     VALUES ('2021000000000001', 'T9', '', 'booked', now(), now()) RETURNING app_id, entry_id";

fn entry(lines: &str) -> String {
    format!(
        "WITH entry AS ({ENTRY}), line (account, fen) AS (VALUES {lines})
         INSERT INTO journal_line (app_id, entry_id, account, amount_fen)
         SELECT app_id, entry_id, account, fen FROM entry, line"
    )
}

#[test]
fn what_is_written_for_good_is_neither_changed_nor_removed() {
    let database = Database::new();
    let mut conn = database.connect();
    keep_a_trade(&mut conn);
    let before = books::of_trades(&mut conn, "%");
    for (table, column) in [
        ("fact", "total_fen"),
        ("conflict", "told"),
        ("journal_entry", "moved_at"),
        ("journal_line", "amount_fen"),
    ] {
        assert!(sql::count(&mut conn, table) > 0, "{table} is empty: nothing is tried");
        for change in [
            format!("UPDATE {table} SET {column} = {column}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            for _ in 0..2 {
                let refusal = sql::refusal(&mut conn, &change);
                assert!(refusal.contains("is append-only"), "{change}: {refusal}");
            }
        }
    }
    assert_eq!(books::of_trades(&mut conn, "%"), before);
    books::assert_sound(&mut conn);
}

/// Everything told of one trade, with a contradiction.
fn keep_a_trade(conn: &mut Connection) {
    let alipay = Alipay::new();
    let other_total = Notice::paid("T1").with("total_amount", "101.00").with("notify_id", "other");
    let contents = Notice::seven("T1")
        .iter()
        .chain([&other_total])
        .map(|notice| {
            let notification = alipay.read(notice);
            let notify_id = notification.notify_id.as_ref().unwrap().as_str();
            feed::genuine(notify_id, notification.facts(RefundFee::Cumulative))
        })
        .collect();
    let applied = Feed::claim(conn).apply(conn, contents).unwrap();
    assert_eq!(applied.applied, 8);
}
