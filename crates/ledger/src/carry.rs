//! Movements carried over midnight: from the run that could not place them to the run that can.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Date, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use crate::cursor::ROWS_AT_ONCE;
use crate::day::DayLock;
use crate::run::Item;
use crate::side::Identity;

/// Notes what a run carried to the next day; what was carried before stays as it was noted.
pub fn note(
    conn: &mut PgConnection,
    day: &DayLock,
    items: &[&Item],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    for items in items.chunks(ROWS_AT_ONCE) {
        sql_query(
            "INSERT INTO carry (app_id, day, business, trade_no, request_no, side, out_trade_no, moved_at,
                    amount_fen, carried_at)
             SELECT $1, $2, new.*, $10 FROM unnest($3, $4, $5, $6, $7, $8, $9) AS new
             ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(day.app_id().as_str())
        .bind::<Date, _>(day.day().date())
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

/// What earlier days carried and nobody settled yet: the day before's, and those of days whose next day was skipped.
pub fn carried_in(conn: &mut PgConnection, day: &DayLock) -> QueryResult<Vec<Carried>> {
    sql_query(
        "SELECT day, business, trade_no, request_no, side, out_trade_no, amount_fen FROM carry
          WHERE app_id = $1 AND day < $2 AND settled_day IS NULL
          ORDER BY trade_no, business, request_no",
    )
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
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

/// Settles carried movements, as the run of this day found them.
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
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<Text, _>(word)
    .bind::<Array<Date>, _>(carried.iter().map(|c| c.day).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.business.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.trade_no.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(carried.iter().map(|c| c.request_no.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .map(|_| ())
}
