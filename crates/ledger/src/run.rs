//! Runs over a day, as they stood.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Date, Integer, Nullable, Text, Timestamptz};
use diesel::{
    OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
};
use payment::{AppId, BillDay};

use crate::cursor::{self, ROWS_AT_ONCE};
use crate::day::DayLock;

/// The number of the last run over a day, if there was one.
pub fn last_run_no(
    conn: &mut PgConnection,
    app_id: &AppId,
    day: BillDay,
) -> QueryResult<Option<i32>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        run_no: i32,
    }
    sql_query(
        "SELECT run_no FROM reconciliation_run WHERE app_id = $1 AND day = $2 ORDER BY run_no DESC LIMIT 1",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(day.date())
    .get_result::<Row>(conn)
    .optional()
    .map(|row| row.map(|row| row.run_no))
}

/// A finished run, as stored: bucket figures in the order matched, carried, explained, open.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Run {
    #[diesel(sql_type = Integer)]
    pub run_no: i32,
    #[diesel(sql_type = BigInt)]
    pub bill_id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub finished_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub bill_rows: i64,
    #[diesel(sql_type = BigInt)]
    pub bill_net_fen: i64,
    #[diesel(sql_type = BigInt)]
    pub ledger_movements: i64,
    #[diesel(sql_type = BigInt)]
    pub ledger_net_fen: i64,
    #[diesel(sql_type = Array<BigInt>)]
    pub counts: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    pub rows_of: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    pub movements_of: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    pub bill_fen_of: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    pub ledger_fen_of: Vec<i64>,
    #[diesel(sql_type = Integer)]
    pub opened: i32,
    #[diesel(sql_type = Integer)]
    pub reopened: i32,
    #[diesel(sql_type = Integer)]
    pub resolved: i32,
    #[diesel(sql_type = Integer)]
    pub unchanged: i32,
}

/// Writes a run. The database refuses one whose buckets do not add up to both sides.
pub fn store_run(conn: &mut PgConnection, day: &DayLock, run: &Run) -> QueryResult<()> {
    sql_query(
        "INSERT INTO reconciliation_run (app_id, day, run_no, bill_id, started_at, finished_at, bill_rows,
                bill_net_fen, ledger_movements, ledger_net_fen, counts, rows_of, movements_of, bill_fen_of,
                ledger_fen_of, opened, reopened, resolved, unchanged)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<Integer, _>(run.run_no)
    .bind::<BigInt, _>(run.bill_id)
    .bind::<Timestamptz, _>(run.started_at)
    .bind::<Timestamptz, _>(run.finished_at)
    .bind::<BigInt, _>(run.bill_rows)
    .bind::<BigInt, _>(run.bill_net_fen)
    .bind::<BigInt, _>(run.ledger_movements)
    .bind::<BigInt, _>(run.ledger_net_fen)
    .bind::<Array<BigInt>, _>(&run.counts)
    .bind::<Array<BigInt>, _>(&run.rows_of)
    .bind::<Array<BigInt>, _>(&run.movements_of)
    .bind::<Array<BigInt>, _>(&run.bill_fen_of)
    .bind::<Array<BigInt>, _>(&run.ledger_fen_of)
    .bind::<Integer, _>(run.opened)
    .bind::<Integer, _>(run.reopened)
    .bind::<Integer, _>(run.resolved)
    .bind::<Integer, _>(run.unchanged)
    .execute(conn)
    .map(|_| ())
}

/// The last run over a day.
pub fn last_run(conn: &mut PgConnection, app_id: &AppId, day: BillDay) -> QueryResult<Option<Run>> {
    sql_query(
        "SELECT run_no, bill_id, started_at, finished_at, bill_rows, bill_net_fen, ledger_movements,
                ledger_net_fen, counts, rows_of, movements_of, bill_fen_of, ledger_fen_of, opened, reopened,
                resolved, unchanged
           FROM reconciliation_run WHERE app_id = $1 AND day = $2 ORDER BY run_no DESC LIMIT 1",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(day.date())
    .get_result(conn)
    .optional()
}

/// A row or movement of a run that did not simply match.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Item {
    #[diesel(sql_type = Text)]
    pub bucket: String,
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    /// 1 for the first row of its identity, 2 and more for duplicates in the bill.
    #[diesel(sql_type = Integer)]
    pub ordinal: i32,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = Timestamptz)]
    pub moved_at: DateTime<Utc>,
    /// 商家实收 on each side, where it stands there.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub bill_fen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub ledger_fen: Option<i64>,
    #[diesel(sql_type = Nullable<Date>)]
    pub linked_day: Option<NaiveDate>,
}

pub fn store_items(
    conn: &mut PgConnection,
    day: &DayLock,
    run_no: i32,
    items: &[Item],
) -> QueryResult<()> {
    for items in items.chunks(ROWS_AT_ONCE) {
        sql_query(
            "INSERT INTO reconciliation_item (app_id, day, run_no, bucket, business, trade_no, request_no,
                    ordinal, out_trade_no, moved_at, bill_fen, ledger_fen, linked_day)
             SELECT $1, $2, $3, new.* FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS new",
        )
        .bind::<Text, _>(day.app_id().as_str())
        .bind::<Date, _>(day.day().date())
        .bind::<Integer, _>(run_no)
        .bind::<Array<Text>, _>(items.iter().map(|i| i.bucket.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.business.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.trade_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.request_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(items.iter().map(|i| i.ordinal).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.out_trade_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(items.iter().map(|i| i.moved_at).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(items.iter().map(|i| i.bill_fen).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(items.iter().map(|i| i.ledger_fen).collect::<Vec<_>>())
        .bind::<Array<Nullable<Date>>, _>(items.iter().map(|i| i.linked_day).collect::<Vec<_>>())
        .execute(conn)?;
    }
    Ok(())
}

/// The items of a run, in the order of their times.
pub fn items(
    conn: &mut PgConnection,
    app_id: &AppId,
    day: BillDay,
    run_no: i32,
) -> QueryResult<Vec<Item>> {
    sql_query(
        "SELECT bucket, business, trade_no, request_no, ordinal, out_trade_no, moved_at, bill_fen, ledger_fen,
                linked_day
           FROM reconciliation_item WHERE app_id = $1 AND day = $2 AND run_no = $3
          ORDER BY moved_at, trade_no, business, request_no, ordinal",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(day.date())
    .bind::<Integer, _>(run_no)
    .load(conn)
}

/// A row of a run's bill that matched: the ledger said the same.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Matched {
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = Timestamptz)]
    pub moved_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub receipt_fen: i64,
}

/// The rows of a run's bill that matched, in the bill's order, one by one through a cursor. They are the rows that
/// the run listed nowhere else, and bills do not change, so this is what the run saw. Must run in a transaction.
pub fn for_each_matched<E: From<diesel::result::Error>>(
    conn: &mut PgConnection,
    app_id: &AppId,
    day: BillDay,
    run: &Run,
    each: impl FnMut(Matched) -> Result<(), E>,
) -> Result<(), E> {
    sql_query(
        "DECLARE matched NO SCROLL CURSOR FOR
         SELECT business, trade_no, request_no, out_trade_no, completed_at AS moved_at, receipt_fen
           FROM (SELECT r.*, row_number() OVER (PARTITION BY trade_no, business, request_no
                                                ORDER BY entry, line) AS ordinal
                   FROM bill_row r WHERE app_id = $1 AND bill_id = $2) AS r
          WHERE NOT EXISTS (
                SELECT 1 FROM reconciliation_item i
                 WHERE i.app_id = $1 AND i.day = $3 AND i.run_no = $4 AND i.business = r.business
                   AND i.trade_no = r.trade_no AND i.request_no = r.request_no AND i.ordinal = r.ordinal)
          ORDER BY entry, line",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<BigInt, _>(run.bill_id)
    .bind::<Date, _>(day.date())
    .bind::<Integer, _>(run.run_no)
    .execute(conn)?;
    cursor::for_each(conn, "matched", each)
}

/// The bill a run compared.
pub fn bill_of(
    conn: &mut PgConnection,
    app_id: &AppId,
    run: &Run,
) -> QueryResult<crate::bill::Stored> {
    sql_query(
        "SELECT bill_id, rows, net_fen, fee_fen, sha256, file FROM bill WHERE app_id = $1 AND bill_id = $2",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<BigInt, _>(run.bill_id)
    .get_result(conn)
}

/// The days whose last run this run has overtaken: it explained what is still a difference there, or it has a row
/// of its own for what was explained there by this day's movement, or it found the refund whose notice was lost
/// before one that is still a difference there.
pub fn overtaken(conn: &mut PgConnection, day: &DayLock, run: &Run) -> QueryResult<Vec<BillDay>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    let days: Vec<Row> = sql_query(
        "SELECT d.day FROM reconciliation_item i
           JOIN difference d USING (app_id, business, trade_no, request_no)
          WHERE i.app_id = $1 AND i.day = $2 AND i.run_no = $3 AND i.bucket = 'explained'
            AND d.day = i.linked_day AND d.state <> 'resolved'
         UNION
         SELECT i.day FROM reconciliation_item i
          WHERE i.app_id = $1 AND i.linked_day = $2 AND i.day <> $2 AND i.bucket = 'explained'
            AND i.run_no = (SELECT max(run_no) FROM reconciliation_run r
                             WHERE r.app_id = $1 AND r.day = i.day)
            AND EXISTS (SELECT 1 FROM bill_row b
                         WHERE b.app_id = $1 AND b.bill_id = $4 AND b.business = i.business
                           AND b.trade_no = i.trade_no AND b.request_no = i.request_no)
            AND EXISTS (SELECT 1 FROM movement m
                         WHERE m.app_id = $1 AND m.business = i.business AND m.trade_no = i.trade_no
                           AND m.request_no = i.request_no
                           AND (m.moved_at AT TIME ZONE 'Asia/Shanghai')::date = $2)
         UNION
         SELECT d.day FROM difference d
          WHERE d.app_id = $1 AND d.day <> $2 AND d.kind = 'amount' AND d.business = 'refund'
            AND d.state <> 'resolved'
            AND EXISTS (SELECT 1 FROM difference o
                         WHERE o.app_id = $1 AND o.day = $2 AND o.kind = 'missing_in_ledger'
                           AND o.business = 'refund' AND o.trade_no = d.trade_no
                           AND o.state <> 'resolved')
          ORDER BY day",
    )
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<Integer, _>(run.run_no)
    .bind::<BigInt, _>(run.bill_id)
    .load(conn)?;
    Ok(days
        .into_iter()
        .map(|row| BillDay::new(row.day))
        .filter(|other| *other != day.day())
        .collect())
}

/// The days up to and with `until` that are due: those never run since the first notification (of the first
/// partition: it need not be exact), the oldest first, within the last month. None before anything was heard: a
/// bill of before would be all missing.
pub fn due(conn: &mut PgConnection, app_id: &AppId, until: BillDay) -> QueryResult<Vec<BillDay>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    let days: Vec<Row> = sql_query(
        "SELECT series.day::date AS day
           FROM (SELECT (received_at AT TIME ZONE 'Asia/Shanghai')::date AS day FROM inbox
                  WHERE app_id = $1 ORDER BY log_topic, log_partition, log_offset LIMIT 1) AS first
          CROSS JOIN LATERAL generate_series(greatest($2 - 30, first.day), $2, interval '1 day')
                AS series (day)
          WHERE NOT EXISTS (SELECT 1 FROM reconciliation_run r
                             WHERE r.app_id = $1 AND r.day = series.day::date)
          ORDER BY day",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Date, _>(until.date())
    .load(conn)?;
    Ok(days.into_iter().map(|row| BillDay::new(row.day)).collect())
}

/// The last day whose last run left nothing open.
pub fn last_closed(conn: &mut PgConnection, app_id: &AppId) -> QueryResult<Option<BillDay>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    let row: Option<Row> = sql_query(
        "SELECT day FROM (SELECT DISTINCT ON (day) day, counts FROM reconciliation_run
                           WHERE app_id = $1 ORDER BY day DESC, run_no DESC) AS last
          WHERE counts[4] = 0
            AND NOT EXISTS (SELECT 1 FROM difference d
                             WHERE d.app_id = $1 AND d.day = last.day AND d.state <> 'resolved')
          ORDER BY day DESC LIMIT 1",
    )
    .bind::<Text, _>(app_id.as_str())
    .get_result(conn)
    .optional()?;
    Ok(row.map(|row| BillDay::new(row.day)))
}
