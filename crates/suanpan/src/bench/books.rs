//! What log and ledger hold at the end: everything, once.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use payment::Topic;

use super::notification::Expected;
use super::testbed::Testbed;

/// How many messages the ledger says are behind its consumers.
pub(super) fn applied(conn: &mut ledger::Connection) -> anyhow::Result<u64> {
    number(conn, "SELECT coalesce(sum(next_offset), 0)::bigint AS value FROM log_position")
}

/// How many events are still to be told.
pub(super) fn waiting_events(conn: &mut ledger::Connection) -> anyhow::Result<u64> {
    number(conn, "SELECT count(*) AS value FROM outbox")
}

/// Sentences about a log that holds other than `count` notifications.
pub(super) fn check_log(bed: &Testbed, count: u64) -> anyhow::Result<Vec<String>> {
    let held = bed.held(Topic::Notifications)?;
    Ok(differ("the log", "notifications", count, held).into_iter().collect())
}

/// Sentences about a log that was not told of every payment and every refund.
pub(super) fn check_events(bed: &Testbed, expected: &Expected) -> anyhow::Result<Vec<String>> {
    let held = bed.held(Topic::LedgerEvents)?;
    let least = expected.trades + expected.refunds;
    // An event may be sent twice, and a payment first known through its refund is corrected later.
    let wrong = (held < least).then(|| {
        format!("the log holds {held} of the ledger's events; it must hold at least {least}")
    });
    Ok(wrong.into_iter().collect())
}

/// Sentences about a ledger that does not hold everything exactly once.
pub(super) fn check_ledger(
    conn: &mut ledger::Connection,
    expected: &Expected,
) -> anyhow::Result<Vec<String>> {
    let fen = |amount: i64| u64::try_from(amount);
    let looks = [
        (
            "notifications in the inbox",
            expected.notifications,
            "SELECT count(*) AS value FROM inbox",
        ),
        (
            "notifications applied for the first time",
            expected.notifications,
            "SELECT count(DISTINCT notify_id) AS value FROM inbox WHERE outcome = 'applied'",
        ),
        (
            "paid trades",
            expected.trades,
            "SELECT count(*) AS value FROM trade WHERE state = 'paid'",
        ),
        (
            "fen paid",
            fen(expected.total_fen)?,
            "SELECT coalesce(sum(total_fen), 0)::bigint AS value FROM trade",
        ),
        ("refunds", expected.refunds, "SELECT count(*) AS value FROM refund"),
        (
            "fen refunded",
            fen(expected.refunded_fen)?,
            "SELECT coalesce(sum(amount_fen), 0)::bigint AS value FROM refund",
        ),
        (
            "fen in the journal's sales",
            fen(expected.total_fen - expected.refunded_fen)?,
            "SELECT coalesce(-sum(amount_fen), 0)::bigint AS value FROM journal_line
              WHERE account = 'sales'",
        ),
        ("conflicts", 0, "SELECT count(*) AS value FROM conflict"),
        ("messages in quarantine", 0, "SELECT count(*) AS value FROM quarantine"),
        ("dead letters", 0, "SELECT count(*) AS value FROM dead_letter"),
    ];
    let mut wrong = Vec::new();
    for (what, expected, sql) in looks {
        wrong.extend(differ("the ledger", what, expected, number(conn, sql)?));
    }
    Ok(wrong)
}

/// From the moment the ingress had a notification to the start of the transaction that applied it.
#[derive(Debug)]
pub(super) struct Ages {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// Of what was received since then.
pub(super) fn ages_us(conn: &mut ledger::Connection, since: DateTime<Utc>) -> anyhow::Result<Ages> {
    let since = since.to_rfc3339();
    let mut at = |rank: &str| {
        number(
            conn,
            &format!(
                "SELECT coalesce(percentile_disc({rank}) WITHIN GROUP (
                            ORDER BY extract(epoch FROM recorded_at - received_at) * 1000000), 0)::bigint
                        AS value FROM inbox WHERE received_at >= '{since}'"
            ),
        )
    };
    Ok(Ages { p50: at("0.5")?, p99: at("0.99")?, max: at("1")? })
}

/// The version of the database's server.
pub(super) fn postgres_version(conn: &mut ledger::Connection) -> anyhow::Result<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let row: Row =
        sql_query("SELECT current_setting('server_version') AS value").get_result(conn)?;
    Ok(row.value)
}

fn number(conn: &mut ledger::Connection, sql: &str) -> anyhow::Result<u64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        value: i64,
    }
    let row: Row = sql_query(sql).get_result(conn)?;
    Ok(u64::try_from(row.value)?)
}

fn differ(place: &str, what: &str, expected: u64, found: u64) -> Option<String> {
    (expected != found).then(|| format!("{place} holds {found} {what}; it must hold {expected}"))
}
