use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::{Fact, Fen, OutTradeNo, RequestNo, TradeNo};

use crate::fact::{self, Key, columns, key, parse_key};
use crate::journal::{self, Booked, Figures};
use crate::trade::{self, Trade};

/// Who told a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Notification,
    Query,
    Bill,
}

impl Origin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Origin::Notification => "notification",
            Origin::Query => "query",
            Origin::Bill => "bill",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("cannot book facts")]
    Database(#[from] diesel::result::Error),
    #[error("trade `{trade_no}` has amounts that do not fit into the journal")]
    TooLarge { trade_no: TradeNo },
    #[error(
        "a stored fact of trade `{trade_no}` cannot be read back: its {column} is not one of ours"
    )]
    Stored { trade_no: String, column: &'static str },
}

/// Adds facts to the set, folds the trades they belong to anew, and posts what changed to the journal.
///
/// Lookups are LATERAL with a fence: a few hundred rows are found by their keys, however large the tables are and
/// whatever the planner believes of them.
///
/// Must run in a transaction. The trades' rows are locked in key order, so two callers with facts about the
/// same trade queue up, and the second sees the first one's facts. A constant number of round trips, whatever
/// the number of facts. Returns how many facts were new.
pub fn record(
    conn: &mut PgConnection,
    facts: &[(Fact, Origin)],
    now: DateTime<Utc>,
) -> Result<usize, BookError> {
    if facts.is_empty() {
        return Ok(0);
    }
    let trades: BTreeMap<Key, &OutTradeNo> =
        facts.iter().map(|(fact, _)| (key(fact), &fact.out_trade_no)).collect();
    lock(conn, &trades, now)?;
    let touched = fact::insert(conn, facts, now)?;
    let new_facts = touched.len();
    let touched: BTreeSet<Key> = touched.into_iter().collect();
    if touched.is_empty() {
        return Ok(0);
    }
    let before = load_booked(conn, &touched)?;
    let known = fact::load(conn, &touched)?;
    let after: Vec<(&Key, Trade)> =
        touched.iter().filter_map(|key| Some((key, trade::fold(known.get(key)?)?))).collect();

    let mut postings = Vec::new();
    for (key, trade) in &after {
        let was = before.get(*key);
        journal::post_changes(key, trade, was, &mut postings)
            .ok_or_else(|| BookError::TooLarge { trade_no: key.1.clone() })?;
    }
    store_trades(conn, &after, now)?;
    store_refunds(conn, &after)?;
    remove_refunds(conn, &after, &before)?;
    store_conflicts(conn, &after, now)?;
    journal::store(conn, &postings, now)?;
    Ok(new_facts)
}

/// Makes the rows of trades never heard of and locks all of them, both in key order: no deadlocks.
fn lock(
    conn: &mut PgConnection,
    trades: &BTreeMap<Key, &OutTradeNo>,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let (apps, trade_nos) = columns(trades.keys());
    let out_trade_nos: Vec<&str> = trades.values().map(|no| no.as_str()).collect();
    sql_query(
        "INSERT INTO trade (app_id, trade_no, out_trade_no, state, changed_at)
         SELECT app_id, trade_no, out_trade_no, 'waiting', $4
           FROM unnest($1, $2, $3) AS new (app_id, trade_no, out_trade_no)
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&trade_nos)
    .bind::<Array<Text>, _>(out_trade_nos)
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    sql_query(
        "SELECT 1 FROM unnest($1, $2) AS asked (app_id, trade_no) CROSS JOIN LATERAL (
             SELECT 1 FROM trade t WHERE t.app_id = asked.app_id AND t.trade_no = asked.trade_no FOR UPDATE) AS t",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .execute(conn)?;
    Ok(())
}

#[derive(QueryableByName)]
struct BookedRow {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    business: String,
    #[diesel(sql_type = Text)]
    request_no: String,
    #[diesel(sql_type = BigInt)]
    total_fen: i64,
    #[diesel(sql_type = BigInt)]
    receipt_fen: i64,
}

fn load_booked(
    conn: &mut PgConnection,
    trades: &BTreeSet<Key>,
) -> Result<BTreeMap<Key, Booked>, BookError> {
    let (apps, trade_nos) = columns(trades);
    let rows: Vec<BookedRow> = sql_query(
        "SELECT t.app_id, t.trade_no, 'payment' AS business, '' AS request_no, t.total_fen, t.receipt_fen
           FROM unnest($1, $2) AS asked (app_id, trade_no) CROSS JOIN LATERAL (
                SELECT * FROM trade WHERE trade.app_id = asked.app_id AND trade.trade_no = asked.trade_no
                OFFSET 0) AS t
          WHERE t.paid_at IS NOT NULL
         UNION ALL
         SELECT r.app_id, r.trade_no, 'refund', r.request_no, r.amount_fen, r.receipt_fen
           FROM unnest($1, $2) AS asked (app_id, trade_no) CROSS JOIN LATERAL (
                SELECT * FROM refund WHERE refund.app_id = asked.app_id AND refund.trade_no = asked.trade_no
                OFFSET 0) AS r",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    let mut booked: BTreeMap<Key, Booked> = BTreeMap::new();
    for row in rows {
        let of_trade = booked.entry(parse_key(&row.app_id, &row.trade_no)?).or_default();
        let figures = Figures { total: row.total_fen, receipt: row.receipt_fen };
        if row.business == "payment" {
            of_trade.payment = Some(figures);
        } else {
            of_trade.refunds.insert(row.request_no, figures);
        }
    }
    Ok(booked)
}

fn store_trades(
    conn: &mut PgConnection,
    trades: &[(&Key, Trade)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let (apps, trade_nos) = columns(trades.iter().map(|(key, _)| *key));
    let paid = |pick: fn(&trade::Paid) -> i64| {
        trades.iter().map(|(_, trade)| trade.paid.as_ref().map(pick)).collect::<Vec<_>>()
    };
    sql_query(
        // Every row is there: it was made or found when it was locked.
        "INSERT INTO trade (app_id, trade_no, out_trade_no, state, total_fen, receipt_fen, receipt_known,
                refunded_fen, created_at, paid_at, closed_at, has_conflict, doubt, changed_at)
         SELECT new.*, $14 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS new
         ON CONFLICT (app_id, trade_no) DO UPDATE SET
                out_trade_no = excluded.out_trade_no, state = excluded.state, total_fen = excluded.total_fen,
                receipt_fen = excluded.receipt_fen, receipt_known = excluded.receipt_known,
                refunded_fen = excluded.refunded_fen, created_at = excluded.created_at,
                paid_at = excluded.paid_at, closed_at = excluded.closed_at,
                has_conflict = excluded.has_conflict, doubt = excluded.doubt,
                changed_at = excluded.changed_at",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(
        trades.iter().map(|(_, trade)| trade.out_trade_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(trades.iter().map(|(_, trade)| trade.state.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(
        trades.iter().map(|(_, trade)| trade.total.map(Fen::get)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<BigInt>>, _>(paid(|paid| paid.receipt.get()))
    .bind::<Array<Bool>, _>(
        trades
            .iter()
            .map(|(_, trade)| trade.paid.is_some_and(|paid| paid.receipt_known))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(
        trades.iter().map(|(_, trade)| trade.refunded().get()).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.created_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.paid.map(|paid| paid.at)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Timestamptz>>, _>(
        trades.iter().map(|(_, trade)| trade.closed_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>(
        trades
            .iter()
            .map(|(_, trade)| trade.has_conflict())
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Text>>, _>(
        trades.iter().map(|(_, trade)| trade.doubt.map(trade::Doubt::as_str)).collect::<Vec<_>>(),
    )
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

fn store_refunds(conn: &mut PgConnection, trades: &[(&Key, Trade)]) -> QueryResult<()> {
    let refunds: Vec<(&Key, &RequestNo, &trade::Refund)> = trades
        .iter()
        .flat_map(|(key, trade)| trade.refunds.iter().map(move |(no, refund)| (*key, no, refund)))
        .collect();
    if refunds.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(refunds.iter().map(|(key, _, _)| *key));
    let request_nos: Vec<&str> = refunds.iter().map(|(_, no, _)| no.as_str()).collect();
    sql_query(
        "INSERT INTO refund (app_id, trade_no, request_no, amount_fen, receipt_fen, confirmed, refunded_at,
                             has_conflict)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (app_id, trade_no, request_no) DO UPDATE SET
                amount_fen = excluded.amount_fen, receipt_fen = excluded.receipt_fen,
                confirmed = excluded.confirmed, refunded_at = excluded.refunded_at,
                has_conflict = excluded.has_conflict",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&trade_nos)
    .bind::<Array<Text>, _>(&request_nos)
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.amount.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.receipt.get()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.confirmed).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(refunds.iter().map(|(_, _, r)| r.at).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.has_conflict).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}

/// Removes refunds that the facts no longer tell: first told without a number of their own, then known by it.
fn remove_refunds(
    conn: &mut PgConnection,
    trades: &[(&Key, Trade)],
    before: &BTreeMap<Key, Booked>,
) -> QueryResult<()> {
    let gone: Vec<(&Key, &str)> = trades
        .iter()
        .flat_map(|(key, trade)| {
            let was = before.get(*key).into_iter().flat_map(|was| was.refunds.keys());
            was.filter(|no| !trade.refunds.keys().any(|known| known.as_str() == no.as_str()))
                .map(move |no| (*key, no.as_str()))
        })
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(gone.iter().map(|(key, _)| *key));
    sql_query(
        "DELETE FROM refund USING unnest($1, $2, $3) AS gone (app_id, trade_no, request_no)
          WHERE refund.app_id = gone.app_id AND refund.trade_no = gone.trade_no
            AND refund.request_no = gone.request_no",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(gone.iter().map(|(_, request_no)| *request_no).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}

fn store_conflicts(
    conn: &mut PgConnection,
    trades: &[(&Key, Trade)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let conflicts: Vec<(&Key, &trade::Conflict)> = trades
        .iter()
        .flat_map(|(key, trade)| trade.conflicts.iter().map(move |conflict| (*key, conflict)))
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(conflicts.iter().map(|(key, _)| *key));
    sql_query(
        "INSERT INTO conflict (app_id, trade_no, subject, request_no, told, recorded_at)
         SELECT new.*, $6 FROM unnest($1, $2, $3, $4, $5) AS new
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.subject.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        conflicts.iter().map(|(_, c)| c.request_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.told.as_str()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}
