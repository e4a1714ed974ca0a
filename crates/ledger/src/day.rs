//! One day of one app: its lock, both sides side by side, its runs and what they carried.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Date, Integer, Nullable, Text, Timestamptz};
use diesel::{
    OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
};
use payment::{AppId, BillDay};

/// Proof that nobody else reconciles this day of this app now. Held by the database session that took it.
#[derive(Debug)]
pub struct DayLock {
    app_id: AppId,
    day: BillDay,
}

impl DayLock {
    pub fn app_id(&self) -> &AppId {
        &self.app_id
    }

    pub fn day(&self) -> BillDay {
        self.day
    }

    fn key(&self) -> String {
        format!("suanpan day {} {}", self.app_id, self.day)
    }
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// Takes the day, or says that another session holds it (`None`).
pub fn lock(conn: &mut PgConnection, app_id: &AppId, day: BillDay) -> QueryResult<Option<DayLock>> {
    let lock = DayLock { app_id: app_id.clone(), day };
    let Taken { taken } =
        sql_query("SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS taken")
            .bind::<Text, _>(lock.key())
            .get_result(conn)?;
    Ok(taken.then_some(lock))
}

/// Gives the day back. A session that ends gives it back too.
pub fn unlock(conn: &mut PgConnection, lock: DayLock) -> QueryResult<()> {
    sql_query("SELECT pg_advisory_unlock(hashtextextended($1, 0)) AS taken")
        .bind::<Text, _>(lock.key())
        .get_result::<Taken>(conn)
        .map(|_| ())
}

/// One side of one movement: a bill row, or what the ledger booked. Amounts carry the bill's signs.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Side {
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    #[diesel(sql_type = Bool)]
    pub is_bill: bool,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = Timestamptz)]
    pub moved_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub total_fen: i64,
    #[diesel(sql_type = BigInt)]
    pub receipt_fen: i64,
    /// 服务费; 0 on the ledger's side.
    #[diesel(sql_type = BigInt)]
    pub fee_fen: i64,
    /// The ledger's figures were told, not inferred; true on the bill's side.
    #[diesel(sql_type = Bool)]
    pub figures_known: bool,
    #[diesel(sql_type = Bool)]
    pub has_conflict: bool,
    /// The day whose bill holds the row, or on which the ledger booked the movement.
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
}

const BILL_SIDE: &str =
    "business, trade_no, request_no, true AS is_bill, out_trade_no, completed_at AS moved_at,
    total_fen, receipt_fen, fee_fen, true AS figures_known, false AS has_conflict";
const LEDGER_SIDE: &str =
    "m.business, m.trade_no, m.request_no, false AS is_bill, m.out_trade_no, m.moved_at,
    m.total_fen, m.receipt_fen, 0::bigint AS fee_fen, m.figures_known, m.has_conflict";
/// The bill that counts for a day is the one loaded last.
const LATEST_BILLS: &str = "SELECT DISTINCT ON (day) bill_id, day FROM bill WHERE app_id = $1
    ORDER BY day, bill_id DESC";
const ROWS_A_FETCH: usize = 4096;

/// Both sides of a day in the order of their identities (`trade_no`, `business`, `request_no`), the bill's first
/// and in its own order, handed over one by one through a cursor: memory does not grow with the day.
/// Must run in a transaction.
pub fn for_each_side<E: From<diesel::result::Error>>(
    conn: &mut PgConnection,
    day: &DayLock,
    bill_id: i64,
    mut each: impl FnMut(Side) -> Result<(), E>,
) -> Result<(), E> {
    sql_query(format!(
        "DECLARE both_sides NO SCROLL CURSOR FOR
         SELECT * FROM (
             SELECT {BILL_SIDE}, $3::date AS day, entry, line FROM bill_row WHERE app_id = $1 AND bill_id = $2
             UNION ALL
             SELECT {LEDGER_SIDE}, $3::date AS day, 0 AS entry, 0 AS line FROM movement m
              WHERE m.app_id = $1 AND m.moved_at >= $4 AND m.moved_at < $5) AS sides
         ORDER BY trade_no COLLATE \"C\", business, request_no COLLATE \"C\", is_bill DESC, entry, line"
    ))
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<BigInt, _>(bill_id)
    .bind::<Date, _>(day.day.date())
    .bind::<Timestamptz, _>(day.day.start())
    .bind::<Timestamptz, _>(day.day.end())
    .execute(conn)?;
    loop {
        let sides: Vec<Side> =
            sql_query(format!("FETCH {ROWS_A_FETCH} FROM both_sides")).load(conn)?;
        let last = sides.len() < ROWS_A_FETCH;
        for side in sides {
            each(side)?;
        }
        if last {
            break;
        }
    }
    sql_query("CLOSE both_sides").execute(conn)?;
    Ok(())
}

/// The number and sum (商家实收) of the day's movements, counted by the database: the check on the run's own count.
pub fn ledger_totals(conn: &mut PgConnection, day: &DayLock) -> QueryResult<(i64, i64)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        movements: i64,
        #[diesel(sql_type = BigInt)]
        net_fen: i64,
    }
    let row: Row = sql_query(
        "SELECT count(*) AS movements, coalesce(sum(receipt_fen), 0)::bigint AS net_fen FROM movement
          WHERE app_id = $1 AND moved_at >= $2 AND moved_at < $3",
    )
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<Timestamptz, _>(day.day.start())
    .bind::<Timestamptz, _>(day.day.end())
    .get_result(conn)?;
    Ok((row.movements, row.net_fen))
}

/// The identity of a movement, as it is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub trade_no: String,
    pub business: String,
    pub request_no: String,
}

impl Side {
    pub fn identity(&self) -> Identity {
        Identity {
            trade_no: self.trade_no.clone(),
            business: self.business.clone(),
            request_no: self.request_no.clone(),
        }
    }
}

/// A side found for an identity asked for, and what the ledger knows of its trade.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
struct TradeState {
    #[diesel(sql_type = Text)]
    trade_no: String,
    #[diesel(sql_type = Text)]
    state: String,
}

/// What the ledger booked under these identities, on whatever day.
pub fn movements_of(
    conn: &mut PgConnection,
    app_id: &AppId,
    identities: &[&Identity],
) -> QueryResult<Vec<Side>> {
    sql_query(format!(
        "SELECT {LEDGER_SIDE}, (m.moved_at AT TIME ZONE 'Asia/Shanghai')::date AS day
           FROM unnest($2, $3, $4) AS asked (trade_no, business, request_no)
           JOIN movement m USING (trade_no, business, request_no)
          WHERE m.app_id = $1"
    ))
    .bind::<Text, _>(app_id.as_str())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.request_no.as_str()).collect::<Vec<_>>())
    .load(conn)
}

/// The rows under these identities in the bills that count, of whatever day.
pub fn bill_rows_of(
    conn: &mut PgConnection,
    app_id: &AppId,
    identities: &[&Identity],
) -> QueryResult<Vec<Side>> {
    sql_query(format!(
        "WITH latest AS ({LATEST_BILLS})
         SELECT {BILL_SIDE}, latest.day
           FROM unnest($2, $3, $4) AS asked (trade_no, business, request_no)
           JOIN bill_row USING (trade_no, business, request_no) JOIN latest USING (bill_id)
          WHERE bill_row.app_id = $1
          ORDER BY latest.day, entry, line"
    ))
    .bind::<Text, _>(app_id.as_str())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.request_no.as_str()).collect::<Vec<_>>())
    .load(conn)
}

/// The states of those of these trades that the ledger has heard of, as (`trade_no`, state).
pub fn trade_states(
    conn: &mut PgConnection,
    app_id: &AppId,
    trade_nos: &[&str],
) -> QueryResult<Vec<(String, String)>> {
    let rows: Vec<TradeState> =
        sql_query("SELECT trade_no, state FROM trade WHERE app_id = $1 AND trade_no = ANY($2)")
            .bind::<Text, _>(app_id.as_str())
            .bind::<Array<Text>, _>(trade_nos)
            .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.trade_no, row.state)).collect())
}

/// A movement whose figures the ledger inferred, beside the bill's row that tells another figure.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Inferred {
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    #[diesel(sql_type = Timestamptz)]
    pub moved_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub ledger_total_fen: i64,
    #[diesel(sql_type = BigInt)]
    pub bill_total_fen: i64,
    #[diesel(sql_type = BigInt)]
    pub bill_receipt_fen: i64,
    /// The figure told with the refund (`refund_fee`), where only one was.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub reported_fen: Option<i64>,
    /// What the bills refunded on this trade up to and including this row, positive.
    #[diesel(sql_type = BigInt)]
    pub bill_refunded_fen: i64,
    /// The payment's 商家实收 is smaller than its amount, so a refund's share of it is a guess.
    #[diesel(sql_type = Bool)]
    pub discounted: bool,
}

/// The movements of a bill whose figures were inferred and differ from the bill's.
pub fn inferred(
    conn: &mut PgConnection,
    day: &DayLock,
    bill_id: i64,
) -> QueryResult<Vec<Inferred>> {
    sql_query(format!(
        "WITH latest AS ({LATEST_BILLS}),
         differing AS (
             SELECT m.*, b.total_fen AS bill_total_fen, b.receipt_fen AS bill_receipt_fen,
                    b.completed_at, b.entry, b.line
               FROM bill_row b JOIN movement m USING (app_id, trade_no, business, request_no)
              WHERE b.app_id = $1 AND b.bill_id = $2 AND NOT m.figures_known AND NOT m.has_conflict
                AND (b.total_fen <> m.total_fen OR b.receipt_fen <> m.receipt_fen))
         SELECT d.business, d.trade_no, d.out_trade_no, d.request_no, d.moved_at,
                d.total_fen AS ledger_total_fen, d.bill_total_fen, d.bill_receipt_fen,
                (SELECT min(f.reported_fen) FROM fact f
                  WHERE f.app_id = $1 AND f.trade_no = d.trade_no AND f.request_no = d.request_no
                 HAVING count(DISTINCT f.reported_fen) = 1) AS reported_fen,
                coalesce((SELECT -sum(r.total_fen) FROM (
                     SELECT DISTINCT ON (request_no) r.total_fen
                       FROM bill_row r JOIN latest USING (bill_id)
                      WHERE r.app_id = $1 AND r.trade_no = d.trade_no AND r.business = 'refund'
                        AND r.completed_at <= d.completed_at
                      ORDER BY request_no, completed_at) AS r), 0)::bigint AS bill_refunded_fen,
                coalesce(t.receipt_fen < t.total_fen, false) AS discounted
           FROM differing d JOIN trade t ON t.app_id = $1 AND t.trade_no = d.trade_no"
    ))
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<BigInt, _>(bill_id)
    .load(conn)
}

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
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<Date, _>(day.day.date())
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
    for items in items.chunks(ROWS_A_FETCH) {
        sql_query(
            "INSERT INTO reconciliation_item (app_id, day, run_no, bucket, business, trade_no, request_no,
                    ordinal, out_trade_no, moved_at, bill_fen, ledger_fen, linked_day)
             SELECT $1, $2, $3, new.* FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS new",
        )
        .bind::<Text, _>(day.app_id.as_str())
        .bind::<Date, _>(day.day.date())
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

/// Notes what a run carried to the next day; what was carried before stays as it was noted.
pub fn carry(
    conn: &mut PgConnection,
    day: &DayLock,
    items: &[&Item],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    for items in items.chunks(ROWS_A_FETCH) {
        sql_query(
            "INSERT INTO carry (app_id, day, business, trade_no, request_no, side, out_trade_no, moved_at,
                    amount_fen, carried_at)
             SELECT $1, $2, new.*, $10 FROM unnest($3, $4, $5, $6, $7, $8, $9) AS new
             ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(day.app_id.as_str())
        .bind::<Date, _>(day.day.date())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.business.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.trade_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(items.iter().map(|i| i.request_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(
            items
                .iter()
                .map(|i| if i.bill_fen.is_some() { "bill" } else { "ledger" })
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Text>, _>(items.iter().map(|i| i.out_trade_no.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(items.iter().map(|i| i.moved_at).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(
            items.iter().map(|i| i.bill_fen.or(i.ledger_fen).unwrap_or_default()).collect::<Vec<_>>(),
        )
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
    }
    Ok(())
}

/// A movement carried from an earlier day and not settled yet.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Carried {
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    #[diesel(sql_type = Text)]
    pub business: String,
    #[diesel(sql_type = Text)]
    pub trade_no: String,
    #[diesel(sql_type = Text)]
    pub request_no: String,
    #[diesel(sql_type = Text)]
    pub side: String,
    #[diesel(sql_type = Text)]
    pub out_trade_no: String,
    #[diesel(sql_type = BigInt)]
    pub amount_fen: i64,
}

impl Carried {
    pub fn identity(&self) -> Identity {
        Identity {
            trade_no: self.trade_no.clone(),
            business: self.business.clone(),
            request_no: self.request_no.clone(),
        }
    }
}

/// What the day before carried to this day.
pub fn carried_in(conn: &mut PgConnection, day: &DayLock) -> QueryResult<Vec<Carried>> {
    sql_query(
        "SELECT day, business, trade_no, request_no, side, out_trade_no, amount_fen FROM carry
          WHERE app_id = $1 AND day = $2 AND settled_day IS NULL
          ORDER BY trade_no, business, request_no",
    )
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<Date, _>(day.day.previous().date())
    .load(conn)
}

/// How a carried movement was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The other side brought it.
    Cleared,
    /// It did not: the movement is an open difference of its own day now.
    Opened,
}

/// Settles carried movements; `None` where the wait is over because this day itself was run again.
pub fn settle(
    conn: &mut PgConnection,
    day: &DayLock,
    carried: &[&Carried],
    settled: Settled,
) -> QueryResult<()> {
    let word = match settled {
        Settled::Cleared => "cleared",
        Settled::Opened => "opened",
    };
    sql_query(
        "UPDATE carry SET settled_day = $2, settled_as = $3
           FROM unnest($4, $5, $6, $7) AS done (day, business, trade_no, request_no)
          WHERE carry.app_id = $1 AND carry.day = done.day AND carry.business = done.business
            AND carry.trade_no = done.trade_no AND carry.request_no = done.request_no
            AND carry.settled_day IS NULL",
    )
    .bind::<Text, _>(day.app_id.as_str())
    .bind::<Date, _>(day.day.date())
    .bind::<Text, _>(word)
    .bind::<Array<Date>, _>(carried.iter().map(|c| c.day).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.request_no.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .map(|_| ())
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
    mut each: impl FnMut(Matched) -> Result<(), E>,
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
    loop {
        let rows: Vec<Matched> =
            sql_query(format!("FETCH {ROWS_A_FETCH} FROM matched")).load(conn)?;
        let last = rows.len() < ROWS_A_FETCH;
        for row in rows {
            each(row)?;
        }
        if last {
            break;
        }
    }
    sql_query("CLOSE matched").execute(conn)?;
    Ok(())
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
