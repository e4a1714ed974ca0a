//! Differences: one row each, whatever the number of runs that found it, and the history of its states.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Date, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::{AppId, BillDay};

use crate::event::{self, Event};
use crate::outbox;

/// A difference and its state now.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Difference {
    #[diesel(sql_type = Text)]
    pub difference_id: String,
    /// The day its row or movement belongs to.
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub bill_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub ledger_fen: Option<i64>,
    /// open, acknowledged, resolved, reopened.
    #[diesel(sql_type = Text)]
    pub state: String,
}

/// What a run changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub opened: i32,
    pub reopened: i32,
    pub resolved: i32,
    pub unchanged: i32,
}

/// Brings the differences of a day to what a run found: new ones open, known ones stay, resolved ones that are
/// back reopen, and ones of this day that are gone resolve. `found` may hold differences of earlier days (carried
/// movements that nobody brought); of those only the found ones are touched. Every change is an event.
pub fn update(
    conn: &mut PgConnection,
    app_id: &AppId,
    day: BillDay,
    found: &[Difference],
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<Changes> {
    let ids: Vec<&str> = found.iter().map(|difference| difference.difference_id.as_str()).collect();
    let known: Vec<Difference> = sql_query(
        "SELECT difference_id, day, kind, business, trade_no, request_no, out_trade_no, bill_fen, ledger_fen,
                state
           FROM difference WHERE app_id = $1 AND (day = $2 OR difference_id = ANY($3))
          ORDER BY difference_id FOR UPDATE",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(day.date())
    .bind::<Array<Text>, _>(&ids)
    .load(conn)?;
    let state_of: std::collections::HashMap<&str, &str> = known
        .iter()
        .map(|difference| (difference.difference_id.as_str(), difference.state.as_str()))
        .collect();
    let found_ids: std::collections::HashSet<&str> = ids.into_iter().collect();

    let mut changes = Changes::default();
    let mut now_in: Vec<(&Difference, &str)> = Vec::new();
    let mut events: Vec<(&Difference, &str, &str)> = Vec::new();
    for difference in found {
        let id = difference.difference_id.as_str();
        match state_of.get(id) {
            None => {
                changes.opened += 1;
                now_in.push((difference, "open"));
                events.push((difference, "open", "found by"));
            }
            Some(&"resolved") => {
                changes.reopened += 1;
                now_in.push((difference, "reopened"));
                events.push((difference, "reopened", "found again by"));
            }
            Some(state) => {
                changes.unchanged += 1;
                now_in.push((difference, state));
            }
        }
    }
    for difference in &known {
        let id = difference.difference_id.as_str();
        if !found_ids.contains(id) && difference.state != "resolved" {
            changes.resolved += 1;
            now_in.push((difference, "resolved"));
            events.push((difference, "resolved", "no longer found by"));
        }
    }
    store(conn, app_id, &now_in, now)?;
    tell(conn, app_id, &events, reason, now)?;
    Ok(changes)
}

/// Writes the events: into the differences' history, and to be told to the world.
fn tell(
    conn: &mut PgConnection,
    app_id: &AppId,
    events: &[(&Difference, &str, &str)],
    reason: &str,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Numbered {
        #[diesel(sql_type = BigInt)]
        event_no: i64,
    }
    let ids: Vec<&str> = events.iter().map(|(of, ..)| of.difference_id.as_str()).collect();
    // In the order given: one row each, and the numbers come as the rows do.
    let numbers: Vec<Numbered> = sql_query(
        "INSERT INTO difference_event (app_id, difference_id, to_state, actor, reason, happened_at)
         SELECT $1, e.difference_id, e.to_state, 'reconciliation', e.words || ' ' || $2, $3
           FROM unnest($4, $5, $6) AS e (difference_id, to_state, words)
         RETURNING event_no",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Text, _>(reason)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Text>, _>(ids)
    .bind::<Array<Text>, _>(events.iter().map(|(_, state, _)| *state).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(events.iter().map(|(.., words)| *words).collect::<Vec<_>>())
    .load(conn)?;
    let told: Vec<Event> = events
        .iter()
        .zip(numbers)
        .map(|((of, state, _), number)| event::difference(app_id, of, state, number.event_no))
        .collect();
    outbox::put(conn, &told, now)
}

fn store(
    conn: &mut PgConnection,
    app_id: &AppId,
    differences: &[(&Difference, &str)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let of: Vec<&Difference> = differences.iter().map(|(difference, _)| *difference).collect();
    sql_query(
        "INSERT INTO difference (app_id, difference_id, day, kind, business, trade_no, request_no, out_trade_no,
                bill_fen, ledger_fen, state, changed_at)
         SELECT $1, new.*, $12 FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS new
         ON CONFLICT (app_id, difference_id) DO UPDATE SET
                bill_fen = excluded.bill_fen, ledger_fen = excluded.ledger_fen,
                out_trade_no = excluded.out_trade_no, state = excluded.state,
                changed_at = CASE WHEN difference.state = excluded.state THEN difference.changed_at
                                  ELSE excluded.changed_at END",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.difference_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Date>, _>(of.iter().map(|d| d.day).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.kind.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.request_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|d| d.out_trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(of.iter().map(|d| d.bill_fen).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(of.iter().map(|d| d.ledger_fen).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(differences.iter().map(|(_, state)| *state).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .map(|_| ())
}

/// The differences of a day, whatever their state, those of earlier days that carried into it, and those of a
/// neighbouring day that concern a row or movement of this one: a pair over midnight that differs is one
/// difference, and open on both days.
pub fn of_day(
    conn: &mut PgConnection,
    app_id: &AppId,
    day: BillDay,
) -> QueryResult<Vec<Difference>> {
    sql_query(
        "SELECT d.difference_id, d.day, d.kind, d.business, d.trade_no, d.request_no, d.out_trade_no,
                d.bill_fen, d.ledger_fen, d.state
           FROM difference d
          WHERE d.app_id = $1
            AND (d.day = $2 OR EXISTS (
                SELECT 1 FROM carry c
                 WHERE c.app_id = $1 AND c.settled_day = $2 AND c.settled_as = 'opened' AND c.day = d.day
                   AND (c.business, c.trade_no, c.request_no) = (d.business, d.trade_no, d.request_no))
                OR d.state <> 'resolved' AND EXISTS (
                SELECT 1 FROM reconciliation_item i
                 WHERE i.app_id = $1 AND i.day = $2 AND i.bucket = 'open' AND i.linked_day = d.day
                   AND i.run_no = (SELECT max(run_no) FROM reconciliation_run WHERE app_id = $1 AND day = $2)
                   AND (i.business, i.trade_no, i.request_no) = (d.business, d.trade_no, d.request_no)))
          ORDER BY d.day, d.kind, d.trade_no, d.business, d.request_no, d.difference_id",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(day.date())
    .load(conn)
}

/// How many differences an app has of each kind and state, and what they amount to, for the metrics.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Count {
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// Σ |bill − ledger|.
    #[diesel(sql_type = BigInt)]
    pub amount_fen: i64,
}

pub fn counts(conn: &mut PgConnection, app_id: &AppId) -> QueryResult<Vec<Count>> {
    sql_query(
        "SELECT kind, state, count(*) AS count,
                sum(abs(coalesce(bill_fen, 0) - coalesce(ledger_fen, 0)))::bigint AS amount_fen
           FROM difference WHERE app_id = $1 GROUP BY kind, state",
    )
    .bind::<Text, _>(app_id.as_str())
    .load(conn)
}
