//! Both sides of a day, beside each other.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Date, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::AppId;

use crate::cursor;
use crate::day::DayLock;

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
    "b.business, b.trade_no, b.request_no, true AS is_bill, b.out_trade_no, b.completed_at AS moved_at,
    b.total_fen, b.receipt_fen, b.fee_fen, true AS figures_known, false AS has_conflict";
const LEDGER_SIDE: &str =
    "m.business, m.trade_no, m.request_no, false AS is_bill, m.out_trade_no, m.moved_at,
    m.total_fen, m.receipt_fen, 0::bigint AS fee_fen, m.figures_known, m.has_conflict";
/// The bill that counts for a day is the one its last run compared; for the day being run ($2), the one at hand ($3).
const COUNTING_BILLS: &str = "SELECT $3::bigint AS bill_id, $2::date AS day UNION ALL
    SELECT bill_id, day FROM (SELECT DISTINCT ON (day) bill_id, day FROM reconciliation_run
        WHERE app_id = $1 AND day <> $2::date ORDER BY day, run_no DESC) AS ran";

/// Both sides of a day in the order of their identities (`trade_no`, `business`, `request_no`), the bill's first
/// and in its own order, handed over one by one through a cursor: memory does not grow with the day.
/// Must run in a transaction.
pub fn for_each_side<E: From<diesel::result::Error>>(
    conn: &mut PgConnection,
    day: &DayLock,
    bill_id: i64,
    each: impl FnMut(Side) -> Result<(), E>,
) -> Result<(), E> {
    sql_query(format!(
        "DECLARE both_sides NO SCROLL CURSOR FOR
         SELECT * FROM (
             SELECT {BILL_SIDE}, $3::date AS day, b.entry, b.line FROM bill_row b
              WHERE b.app_id = $1 AND b.bill_id = $2
             UNION ALL
             SELECT {LEDGER_SIDE}, $3::date AS day, 0 AS entry, 0 AS line FROM movement m
              WHERE m.app_id = $1 AND m.moved_at >= $4 AND m.moved_at < $5) AS sides
         ORDER BY trade_no COLLATE \"C\", business, request_no COLLATE \"C\", is_bill DESC, entry, line"
    ))
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<BigInt, _>(bill_id)
    .bind::<Date, _>(day.day().date())
    .bind::<Timestamptz, _>(day.day().start())
    .bind::<Timestamptz, _>(day.day().end())
    .execute(conn)?;
    cursor::for_each(conn, "both_sides", each)
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
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Timestamptz, _>(day.day().start())
    .bind::<Timestamptz, _>(day.day().end())
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
          CROSS JOIN LATERAL (
                SELECT * FROM movement
                 WHERE movement.app_id = $1 AND movement.trade_no = asked.trade_no
                   AND movement.business = asked.business AND movement.request_no = asked.request_no
                OFFSET 0) AS m"
    ))
    .bind::<Text, _>(app_id.as_str())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(identities.iter().map(|id| id.request_no.as_str()).collect::<Vec<_>>())
    .load(conn)
}

/// The rows under these identities in the bills that count, of whatever day; for `day` that is `bill_id`.
pub fn bill_rows_of(
    conn: &mut PgConnection,
    day: &DayLock,
    bill_id: i64,
    identities: &[&Identity],
) -> QueryResult<Vec<Side>> {
    sql_query(format!(
        "WITH counting AS ({COUNTING_BILLS})
         SELECT {BILL_SIDE}, counting.day
           FROM unnest($4, $5, $6) AS asked (trade_no, business, request_no)
          CROSS JOIN LATERAL (
                SELECT * FROM bill_row
                 WHERE bill_row.app_id = $1 AND bill_row.trade_no = asked.trade_no
                   AND bill_row.business = asked.business AND bill_row.request_no = asked.request_no
                OFFSET 0) AS b
           JOIN counting USING (bill_id)
          ORDER BY counting.day, entry, line"
    ))
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<BigInt, _>(bill_id)
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
    /// What the bills refunded between the refund that the ledger has before this one and this one, under numbers
    /// that the ledger never heard of; positive.
    #[diesel(sql_type = BigInt)]
    pub unheard_fen: i64,
    /// The payment's 商家实收 is smaller than its amount, so a refund's share of it is a guess.
    #[diesel(sql_type = Bool)]
    pub discounted: bool,
}

/// The movements of a bill, booked on its day or a neighbouring one, whose figures were inferred and differ from
/// the bill's.
pub fn inferred(
    conn: &mut PgConnection,
    day: &DayLock,
    bill_id: i64,
) -> QueryResult<Vec<Inferred>> {
    sql_query(format!(
        "WITH counting AS ({COUNTING_BILLS}),
         differing AS (
             SELECT m.*, b.total_fen AS bill_total_fen, b.receipt_fen AS bill_receipt_fen, b.completed_at
               FROM bill_row b JOIN movement m USING (app_id, trade_no, business, request_no)
              WHERE b.app_id = $1 AND b.bill_id = $3 AND NOT m.figures_known AND NOT m.has_conflict
                AND m.moved_at >= $4::timestamptz - interval '1 day'
                AND m.moved_at < $5::timestamptz + interval '1 day'
                AND (b.total_fen <> m.total_fen OR b.receipt_fen <> m.receipt_fen))
         SELECT d.business, d.trade_no, d.out_trade_no, d.request_no, d.moved_at,
                d.total_fen AS ledger_total_fen, d.bill_total_fen, d.bill_receipt_fen,
                (SELECT min(f.reported_fen) FROM fact f
                  WHERE f.app_id = $1 AND f.trade_no = d.trade_no AND f.request_no = d.request_no
                 HAVING count(DISTINCT f.reported_fen) = 1) AS reported_fen,
                coalesce((SELECT -sum(u.total_fen) FROM (
                     SELECT DISTINCT ON (r.request_no) r.total_fen
                       FROM bill_row r JOIN counting USING (bill_id)
                      WHERE r.app_id = $1 AND r.trade_no = d.trade_no AND r.business = 'refund'
                        AND r.completed_at <= d.completed_at
                        AND NOT EXISTS (SELECT 1 FROM refund k
                                         WHERE k.app_id = $1 AND k.trade_no = r.trade_no
                                           AND k.request_no = r.request_no)
                        AND r.completed_at >= coalesce((
                            SELECT date_trunc('second', max(k.refunded_at)) FROM refund k
                             WHERE k.app_id = $1 AND k.trade_no = d.trade_no
                               AND k.refunded_at < d.moved_at), '-infinity')
                      ORDER BY r.request_no, r.completed_at) AS u), 0)::bigint AS unheard_fen,
                coalesce(t.receipt_fen < t.total_fen, false) AS discounted
           FROM differing d JOIN trade t ON t.app_id = $1 AND t.trade_no = d.trade_no"
    ))
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<BigInt, _>(bill_id)
    .bind::<Timestamptz, _>(day.day().start())
    .bind::<Timestamptz, _>(day.day().end())
    .load(conn)
}
