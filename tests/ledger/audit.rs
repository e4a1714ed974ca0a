//! The audit finds what was done to the ledger behind its back, and nothing else.

use alipay::RefundFee;
use ledger::audit::{self, Finding, Held, Recorded, Totals};
use ledger::{Connection, Content};
use payment::AppId;
use sha2::{Digest as _, Sha256};

use crate::harness::alipay::APP_ID;
use crate::harness::{Alipay, Database, Feed, Notice, feed, sql};

#[test]
fn sound_books_give_totals_and_no_findings() {
    let database = Database::new();
    let mut conn = database.connect();
    assert_eq!(audited(&mut conn), (Totals::default(), Vec::new()));
    fill(&mut conn);
    let (totals, findings) = audited(&mut conn);
    assert_eq!(findings, []);
    let expected = Totals {
        trades: 3,
        facts: 12,
        refunds: 3,
        entries: 6,
        findings: 0,
        paid_fen: 29_600,
        receipt_fen: 28_500,
        refunded_fen: 10_000,
        refunded_receipt_fen: 9_500,
        clearing_fen: 19_000,
    };
    assert_eq!(totals, expected);
}

#[test]
fn whatever_is_changed_behind_the_ledgers_back_is_found_with_both_figures() {
    let database = Database::new();
    let mut conn = database.connect();
    fill(&mut conn);
    let line =
        |expected: &str, what: &str, found: &str| format!("{what}: {found} instead of {expected}");
    let of = |trade_no: &str, lines: &[String]| (trade_no.to_owned(), lines.to_vec());
    for (change, (trade_no, expected)) in [
        (
            "UPDATE trade SET total_fen = 10001 WHERE trade_no = 'T2'",
            of("T2", &[line("10000", "trade.total_fen", "10001")]),
        ),
        (
            "UPDATE trade SET state = 'closed' WHERE trade_no = 'T2'",
            of("T2", &[line("paid", "trade.state", "closed")]),
        ),
        (
            "UPDATE refund SET amount_fen = 2999 WHERE request_no = 'R1'",
            of("T1", &[line("3000", "refund R1: amount_fen", "2999")]),
        ),
        (
            "DELETE FROM refund WHERE request_no = 'R2'",
            of(
                "T1",
                &[
                    line("2000", "refund R2: amount_fen", ""),
                    line("false", "refund R2: confirmed", ""),
                    line("false", "refund R2: has_conflict", ""),
                    line("1900", "refund R2: receipt_fen", ""),
                    line("2024-03-07 02:00:00.456 UTC", "refund R2: refunded_at", ""),
                ],
            ),
        ),
        (
            "DELETE FROM conflict WHERE told = '96.00'",
            of("T3", &[line("told", "conflict total : 96.00", "")]),
        ),
        (
            "UPDATE journal_line SET amount_fen = amount_fen - 1
              WHERE account <> 'merchant:discount' AND amount_fen <> 0
                AND entry_id = (SELECT entry_id FROM journal_entry WHERE trade_no = 'T2')",
            of(
                "T2",
                &[
                    line("0", "journal entry ENTRY: sum", "-2"),
                    line("9500", "journal of payment: alipay:clearing", "9499"),
                    line("-10000", "journal of payment: sales", "-10001"),
                ],
            ),
        ),
        (
            "DELETE FROM journal_line
              WHERE entry_id = (SELECT entry_id FROM journal_entry WHERE trade_no = 'T2')",
            of(
                "T2",
                &[
                    line("0", "journal entry ENTRY: sum", "no lines"),
                    line("9500", "journal of payment: alipay:clearing", ""),
                    line("500", "journal of payment: merchant:discount", ""),
                    line("-10000", "journal of payment: sales", ""),
                ],
            ),
        ),
        (
            "UPDATE fact SET recorded_at = now(), digest = decode(repeat('ab', 16), 'hex')
              WHERE trade_no = 'T2'",
            of("T2", &[line("DIGEST", "fact paid: digest", &"ab".repeat(16))]),
        ),
        (
            "UPDATE fact SET out_trade_no = '' WHERE trade_no = 'T3' AND total_fen = 9600",
            of("T3", &[line("one of ours", "fact: out_trade_no", "none that can be read")]),
        ),
    ] {
        let (_, findings) = changed(&mut conn, change);
        assert!(findings.iter().all(|f| (f.app_id.as_str(), &f.trade_no) == (APP_ID, &trade_no)));
        let mut found: Vec<String> = findings.iter().map(told).collect();
        found.retain(|found| expected.contains(found));
        found.sort();
        assert_eq!(found, expected, "{change}: {findings:#?}");
        // Put back, nothing is found.
        assert_eq!(audited(&mut conn).1, [], "{change}");
    }
}

#[test]
fn rows_without_what_they_stand_on_are_found() {
    let database = Database::new();
    let mut conn = database.connect();
    fill(&mut conn);
    // The applied message of T2 is left without its fact, too.
    let (totals, findings) = changed(&mut conn, "DELETE FROM fact WHERE trade_no = 'T2'");
    assert_eq!(totals.facts, 11);
    let found: Vec<String> = findings.iter().map(told).collect();
    for expected in
        ["trade.state: paid instead of ", "journal of payment: sales: -10000 instead of "]
    {
        assert!(found.contains(&expected.to_owned()), "{expected}: {found:#?}");
    }
    let message = "facts of the applied message at notifications/0/7:  instead of some";
    assert!(found.contains(&message.to_owned()), "{found:#?}");

    let (totals, findings) = changed(&mut conn, "DELETE FROM trade WHERE trade_no = 'T2'");
    assert_eq!(totals.trades, 2);
    let found: Vec<String> = findings.iter().map(told).collect();
    assert!(found.contains(&"trade.total_fen:  instead of 10000".to_owned()), "{found:#?}");
}

#[test]
fn a_record_stands_in_one_place_with_its_bytes_or_it_is_told() {
    let database = Database::new();
    let mut conn = database.connect();
    fill(&mut conn);
    let once = Held { rows: 1, same_body: true };
    let of = |offset: i64| Recorded {
        log_topic: feed::LOG_TOPIC,
        partition: 0,
        offset,
        digest: Sha256::digest(format!("body {offset}")).into(),
    };
    let records: Vec<Recorded<'_>> = (0..=11).rev().map(of).collect();
    let held = |conn: &mut Connection| audit::places(conn, &records).unwrap();
    // Inbox, quarantine and dead letters alike; what was never applied is not there.
    let mut expected = vec![once; 12];
    expected[0] = Held { rows: 0, same_body: false };
    for _ in 0..2 {
        assert_eq!(held(&mut conn), expected);
    }
    let range =
        |conn: &mut Connection, from, to| audit::range(conn, feed::LOG_TOPIC, 0, from, to).unwrap();
    assert_eq!(range(&mut conn, 0, 12), 11);
    assert_eq!(range(&mut conn, 3, 9), 6);
    assert_eq!(range(&mut conn, 11, 1000), 0);

    let wrong = |rows| Held { rows, same_body: false };
    for (change, offset, found) in [
        ("DELETE FROM inbox WHERE log_offset = 3", 3, wrong(0)),
        ("UPDATE inbox SET body = 'other' WHERE log_offset = 3", 3, wrong(1)),
        ("DELETE FROM dead_letter", 10, wrong(0)),
        ("UPDATE quarantine SET body = ''", 9, wrong(1)),
        (
            "INSERT INTO quarantine SELECT '2021000000000009', log_topic, log_partition, log_offset, 'twice',
                    received_at, recorded_at, body FROM inbox WHERE log_offset = 5",
            5,
            Held { rows: 2, same_body: true },
        ),
        (
            "UPDATE inbox SET app_id = '2021000000000009' WHERE log_offset = 5",
            5,
            Held { rows: 1, same_body: true },
        ),
    ] {
        sql::run(&mut conn, "BEGIN; SET LOCAL session_replication_role = replica");
        sql::run(&mut conn, change);
        let place = usize::try_from(11 - offset).unwrap();
        let mut expected = expected.clone();
        expected[place] = found;
        assert_eq!(held(&mut conn), expected, "{change}");
        sql::run(&mut conn, "ROLLBACK");
    }
    // Elsewhere in the log there is nothing.
    let other = [Recorded { partition: 1, ..of(3) }, Recorded { log_topic: "quarantine", ..of(3) }];
    assert_eq!(audit::places(&mut conn, &other).unwrap(), [wrong(0); 2]);
}

#[test]
fn a_notification_that_is_not_in_the_inbox_is_named() {
    let database = Database::new();
    let mut conn = database.connect();
    fill(&mut conn);
    let (ours, other) = (AppId::parse(APP_ID).unwrap(), AppId::parse("2021000000000002").unwrap());
    let missing = |conn: &mut Connection, app_id: &AppId, asked: &[&str]| {
        audit::notify_ids(conn, app_id, asked).unwrap()
    };
    let asked = ["never", "T2 paid", "T1 R1", "nor this"];
    for _ in 0..2 {
        assert_eq!(missing(&mut conn, &ours, &asked), ["never", "nor this"]);
        assert_eq!(missing(&mut conn, &other, &asked), asked);
    }
    sql::run(&mut conn, "DELETE FROM inbox WHERE notify_id = 'T2 paid'");
    assert_eq!(missing(&mut conn, &ours, &asked), ["never", "T2 paid", "nor this"]);
}

/// Eleven messages: T1 with everything, T2 paid, T3 told in two ways; one set aside, one dead, at offsets 9 and 10.
fn fill(conn: &mut Connection) {
    let alipay = Alipay::new();
    let of = |trade_no: &str, what: &str, notice: &Notice| {
        feed::genuine(
            &format!("{trade_no} {what}"),
            alipay.read(notice).facts(RefundFee::Cumulative),
        )
    };
    let other = Notice::paid("T3").with("total_amount", "96.00");
    let mut contents: Vec<Content> = ["waiting", "paid", "R1", "R2", "R3", "closed", "finished"]
        .iter()
        .zip(Notice::seven("T1"))
        .map(|(what, notice)| of("T1", what, &notice))
        .collect();
    contents.push(of("T2", "paid", &Notice::paid("T2")));
    contents.push(of("T3", "paid", &other));
    contents.push(Content::Quarantined { reason: "other_seller".to_owned() });
    contents.push(Content::Dead { reason: "wrong_signature", detail: "none".to_owned() });
    let mut feed = Feed::claim(conn);
    feed.apply(conn, contents).unwrap();
    // In a batch of its own, so that the journal is corrected.
    let mut batch = feed.batch(vec![of("T3", "again", &Notice::paid("T3"))]);
    batch.messages[0].partition = 1;
    batch.steps.clear();
    ledger::apply(conn, &batch, chrono::DateTime::UNIX_EPOCH).unwrap();
}

fn audited(conn: &mut Connection) -> (Totals, Vec<Finding>) {
    let mut findings = Vec::new();
    let totals = audit::books(conn, |finding| findings.push(finding.clone())).unwrap();
    assert_eq!(usize::try_from(totals.findings), Ok(findings.len()));
    (totals, findings)
}

/// What is found while the change stands; afterwards the tables are as they were.
fn changed(conn: &mut Connection, change: &str) -> (Totals, Vec<Finding>) {
    const TABLES: [&str; 7] =
        ["trade", "refund", "conflict", "fact", "journal_entry", "journal_line", "inbox"];
    let each = |of: &dyn Fn(&str) -> String| TABLES.map(of).join("; ");
    sql::run(conn, "SET session_replication_role = replica");
    sql::run(conn, &each(&|table| format!("CREATE TEMP TABLE kept_{table} AS TABLE {table}")));
    sql::run(conn, change);
    let found = audited(conn);
    let put_back = |table: &str| {
        format!(
            "DELETE FROM {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept_{table}; \
             DROP TABLE kept_{table}"
        )
    };
    sql::run(conn, &each(&put_back));
    sql::run(conn, "SET session_replication_role = origin");
    found
}

/// One line; numbers that nobody can know before are left out.
fn told(finding: &Finding) -> String {
    let what = match finding.what.strip_prefix("journal entry ") {
        Some(_) => "journal entry ENTRY: sum",
        None => &finding.what,
    };
    let expected = if what.ends_with(": digest") { "DIGEST" } else { &finding.expected };
    format!("{what}: {} instead of {expected}", finding.found)
}
