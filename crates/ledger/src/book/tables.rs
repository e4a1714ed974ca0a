//! Trades, their refunds and conflicts, as stored.
//!
//! Lookups are LATERAL with a fence: a few hundred rows are found by their keys, however large the tables are and
//! whatever the planner believes of them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::Insertable;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{ExecuteCopyFromDsl as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl};
use payment::{Fen, RequestNo};

use super::Change;
use crate::fact::{Key, columns};
use crate::journal::Figures;
use crate::schema::trade as trade_table;
use crate::statement::statement;
use crate::trade::{self, Subject, Trade};

/// What a trade's row said when it was locked.
pub(super) struct Locked {
    pub(super) payment: Option<Figures>,
    pub(super) state: String,
}

/// Locks the rows of these trades in their order, and reads them; `None` for a trade that has none.
pub(super) fn lock_trades(
    conn: &mut PgConnection,
    trades: &[Key<'_>],
) -> QueryResult<Vec<Option<Locked>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        place: i64,
        #[diesel(sql_type = Text)]
        state: String,
        #[diesel(sql_type = Bool)]
        is_paid: bool,
        #[diesel(sql_type = Nullable<BigInt>)]
        total_fen: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        receipt_fen: Option<i64>,
    }
    let (apps, trade_nos) = columns(trades.iter().copied());
    let rows: Vec<Row> = statement(
        "SELECT asked.place - 1 AS place, t.state, t.paid_at IS NOT NULL AS is_paid, t.total_fen, t.receipt_fen
           FROM unnest($1, $2) WITH ORDINALITY AS asked (app_id, trade_no, place) CROSS JOIN LATERAL (
                SELECT t.state, t.paid_at, t.total_fen, t.receipt_fen FROM trade t
                 WHERE t.app_id = asked.app_id AND t.trade_no = asked.trade_no FOR UPDATE) AS t",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    let mut locked: Vec<Option<Locked>> = trades.iter().map(|_| None).collect();
    for row in rows {
        let place = usize::try_from(row.place).ok().and_then(|place| locked.get_mut(place));
        let Some(place) = place else { continue };
        *place = Some(Locked {
            payment: row.is_paid.then(|| Figures {
                total_fen: row.total_fen.unwrap_or_default(),
                receipt_fen: row.receipt_fen.unwrap_or_default(),
            }),
            state: row.state,
        });
    }
    Ok(locked)
}

/// Makes the rows of new trades, in the order of their keys.
pub(super) fn insert_trades(
    conn: &mut PgConnection,
    changes: &[Change<'_>],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let rows: Vec<NewTrade<'_>> = changes
        .iter()
        .map(|Change { key, trade, .. }| NewTrade {
            app_id: key.app_id.as_str(),
            trade_no: key.trade_no.as_str(),
            out_trade_no: trade.out_trade_no.as_str(),
            state: trade.state.as_str(),
            total_fen: trade.total.map(Fen::get),
            receipt_fen: trade.paid.map(|paid| paid.receipt.get()),
            receipt_known: trade.paid.is_some_and(|paid| paid.receipt_known),
            refunded_fen: trade.refunded().get(),
            created_at: trade.created_at,
            paid_at: trade.paid.map(|paid| paid.at),
            closed_at: trade.closed_at,
            has_conflict: trade.has_conflict(),
            doubt: trade.doubt.map(trade::Doubt::as_str),
            changed_at: now,
        })
        .collect();
    diesel::copy_from(trade_table::table).from_insertable(rows).execute(conn)?;
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = trade_table, treat_none_as_default_value = false)]
struct NewTrade<'t> {
    app_id: &'t str,
    trade_no: &'t str,
    out_trade_no: &'t str,
    state: &'static str,
    total_fen: Option<i64>,
    receipt_fen: Option<i64>,
    receipt_known: bool,
    refunded_fen: i64,
    created_at: Option<DateTime<Utc>>,
    paid_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    has_conflict: bool,
    doubt: Option<&'static str>,
    changed_at: DateTime<Utc>,
}

/// Writes the figures of trades that had a row before.
pub(super) fn update_trades(
    conn: &mut PgConnection,
    changes: &[Change<'_>],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let trades: Vec<(Key<'_>, &Trade)> = changes
        .iter()
        .filter(|change| !change.is_new)
        .map(|change| (change.key, &change.trade))
        .collect();
    if trades.is_empty() {
        return Ok(());
    }
    fn each<'t, T>(trades: &[(Key<'_>, &'t Trade)], pick: impl Fn(&'t Trade) -> T) -> Vec<T> {
        trades.iter().map(|(_, trade)| pick(trade)).collect()
    }
    let (apps, trade_nos) = columns(trades.iter().map(|(key, _)| *key));
    // Every row is there and locked. An upsert finds them by their keys, whatever the planner believes.
    statement(
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
    .bind::<Array<Text>, _>(each(&trades, |trade| trade.out_trade_no.as_str()))
    .bind::<Array<Text>, _>(each(&trades, |trade| trade.state.as_str()))
    .bind::<Array<Nullable<BigInt>>, _>(each(&trades, |trade| trade.total.map(Fen::get)))
    .bind::<Array<Nullable<BigInt>>, _>(each(&trades, |trade| {
        trade.paid.map(|paid| paid.receipt.get())
    }))
    .bind::<Array<Bool>, _>(each(&trades, |trade| {
        trade.paid.is_some_and(|paid| paid.receipt_known)
    }))
    .bind::<Array<BigInt>, _>(each(&trades, |trade| trade.refunded().get()))
    .bind::<Array<Nullable<Timestamptz>>, _>(each(&trades, |trade| trade.created_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(each(&trades, |trade| trade.paid.map(|paid| paid.at)))
    .bind::<Array<Nullable<Timestamptz>>, _>(each(&trades, |trade| trade.closed_at))
    .bind::<Array<Bool>, _>(each(&trades, Trade::has_conflict))
    .bind::<Array<Nullable<Text>>, _>(each(&trades, |trade| {
        trade.doubt.map(trade::Doubt::as_str)
    }))
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

/// Reads the refunds that were booked of trades that had a row before.
pub(super) fn load_refunds(conn: &mut PgConnection, changes: &mut [Change<'_>]) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        place: i64,
        #[diesel(sql_type = Text)]
        request_no: String,
        #[diesel(sql_type = BigInt)]
        amount_fen: i64,
        #[diesel(sql_type = BigInt)]
        receipt_fen: i64,
    }
    if changes.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(changes.iter().map(|change| change.key));
    let rows: Vec<Row> = statement(
        "SELECT asked.place - 1 AS place, r.request_no, r.amount_fen, r.receipt_fen
           FROM unnest($1, $2) WITH ORDINALITY AS asked (app_id, trade_no, place) CROSS JOIN LATERAL (
                SELECT * FROM refund WHERE refund.app_id = asked.app_id AND refund.trade_no = asked.trade_no
                OFFSET 0) AS r",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .load(conn)?;
    for row in rows {
        let change = usize::try_from(row.place).ok().and_then(|place| changes.get_mut(place));
        let Some(change) = change else { continue };
        let figures = Figures { total_fen: row.amount_fen, receipt_fen: row.receipt_fen };
        change.was.refunds.insert(row.request_no, figures);
    }
    Ok(())
}

pub(super) fn store_refunds(conn: &mut PgConnection, changes: &[Change<'_>]) -> QueryResult<()> {
    let refunds: Vec<(Key<'_>, &RequestNo, &trade::Refund)> = changes
        .iter()
        .flat_map(|change| change.trade.refunds.iter().map(|(no, refund)| (change.key, no, refund)))
        .collect();
    if refunds.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(refunds.iter().map(|(key, _, _)| *key));
    let request_nos: Vec<&str> = refunds.iter().map(|(_, no, _)| no.as_str()).collect();
    statement(
        "INSERT INTO refund (app_id, trade_no, request_no, amount_fen, receipt_fen, confirmed, refunded_at,
                             has_conflict)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (app_id, trade_no, request_no) DO UPDATE SET
                amount_fen = excluded.amount_fen, receipt_fen = excluded.receipt_fen,
                confirmed = excluded.confirmed, refunded_at = excluded.refunded_at,
                has_conflict = excluded.has_conflict",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(request_nos)
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.amount.get()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(refunds.iter().map(|(_, _, r)| r.receipt.get()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.confirmed).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(refunds.iter().map(|(_, _, r)| r.at).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(refunds.iter().map(|(_, _, r)| r.has_conflict).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(())
}

/// Removes refunds that the facts no longer tell: first told without a number of their own, then known by it.
pub(super) fn remove_refunds(conn: &mut PgConnection, changes: &[Change<'_>]) -> QueryResult<()> {
    let gone: Vec<(Key<'_>, &str)> = changes
        .iter()
        .flat_map(|change| {
            let is_told = |no: &str| change.trade.refunds.keys().any(|told| told.as_str() == no);
            let booked = change.was.refunds.keys().map(String::as_str);
            booked.filter(move |no| !is_told(no)).map(|no| (change.key, no))
        })
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let (apps, trade_nos) = columns(gone.iter().map(|(key, _)| *key));
    statement(
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

/// What messages contradict each other about.
#[derive(PartialEq, Eq, Hash, QueryableByName)]
pub(super) struct ConflictGroup {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    request_no: String,
}

impl ConflictGroup {
    pub(super) fn of(key: Key<'_>, subject: Subject, request_no: &str) -> Self {
        ConflictGroup {
            app_id: key.app_id.to_string(),
            trade_no: key.trade_no.to_string(),
            subject: subject.as_str().to_owned(),
            request_no: request_no.to_owned(),
        }
    }
}

/// Notes every value told, and says where that was something new.
pub(super) fn store_conflicts(
    conn: &mut PgConnection,
    changes: &[Change<'_>],
    now: DateTime<Utc>,
) -> QueryResult<HashSet<ConflictGroup>> {
    let conflicts: Vec<(Key<'_>, &trade::Conflict)> = changes
        .iter()
        .flat_map(|change| change.trade.conflicts.iter().map(|conflict| (change.key, conflict)))
        .collect();
    if conflicts.is_empty() {
        return Ok(HashSet::new());
    }
    let (apps, trade_nos) = columns(conflicts.iter().map(|(key, _)| *key));
    let new: Vec<ConflictGroup> = statement(
        "INSERT INTO conflict (app_id, trade_no, subject, request_no, told, recorded_at)
         SELECT new.*, $6 FROM unnest($1, $2, $3, $4, $5) AS new
         ON CONFLICT DO NOTHING
         RETURNING app_id, trade_no, subject, request_no",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(trade_nos)
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.subject.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        conflicts.iter().map(|(_, c)| c.request_no.as_str()).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(conflicts.iter().map(|(_, c)| c.told.as_str()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .load(conn)?;
    Ok(new.into_iter().collect())
}
