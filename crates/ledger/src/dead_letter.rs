//! Messages that could not be applied: kept for good, and put back into the log when what kept them was repaired.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl};
use payment::AppId;

use crate::place::Place;
use crate::statement::statement;

/// A message that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct DeadLetter {
    #[diesel(sql_type = Text)]
    pub app_id: String,
    /// Where it stood in the log: its own name.
    #[diesel(sql_type = Text)]
    pub log_topic: String,
    #[diesel(sql_type = Integer)]
    pub log_partition: i32,
    #[diesel(sql_type = BigInt)]
    pub log_offset: i64,
    /// One of a few words.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// For people; never the message's own text.
    #[diesel(sql_type = Text)]
    pub detail: String,
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub recorded_at: DateTime<Utc>,
    /// The bytes as they came; they may hold a buyer's data.
    #[diesel(sql_type = Bytea)]
    pub body: Vec<u8>,
    /// How often it was put back into the log.
    #[diesel(sql_type = BigInt)]
    pub replays: i64,
    /// Where the last replay put it, as [`Place`] is written; `None` where there was none. So are the next two.
    #[diesel(sql_type = Nullable<Text>)]
    pub replayed_to: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub replayed_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub replayed_at: Option<DateTime<Utc>>,
}

impl DeadLetter {
    pub fn place(&self) -> Place {
        Place {
            log_topic: self.log_topic.clone(),
            partition: self.log_partition,
            offset: self.log_offset,
        }
    }
}

/// Which dead letters are asked for. The default: all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'f> {
    pub reason: Option<&'f str>,
    pub app_id: Option<&'f AppId>,
    pub replay: Replay,
}

/// Whether a letter was put back into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    #[default]
    Any,
    /// Not yet.
    Open,
    /// At least once.
    Done,
}

impl Replay {
    fn as_str(self) -> &'static str {
        match self {
            Replay::Any => "any",
            Replay::Open => "open",
            Replay::Done => "done",
        }
    }
}

/// The newest dead letters of those asked for.
pub fn list(
    conn: &mut PgConnection,
    filter: Filter<'_>,
    limit: i64,
) -> QueryResult<Vec<DeadLetter>> {
    statement(
        "SELECT d.app_id, d.log_topic, d.log_partition, d.log_offset, d.reason, d.detail, d.received_at,
                d.recorded_at, d.body, coalesce(r.replays, 0) AS replays, r.replayed_to, r.replayed_by,
                r.replayed_at
           FROM dead_letter d LEFT JOIN LATERAL (
                SELECT concat_ws('/', new_topic, new_partition, new_offset) AS replayed_to,
                       actor AS replayed_by, replayed_at, count(*) OVER () AS replays
                  FROM dead_letter_replay r
                 WHERE (r.app_id, r.log_topic, r.log_partition, r.log_offset)
                     = (d.app_id, d.log_topic, d.log_partition, d.log_offset)
                 ORDER BY replay_no DESC LIMIT 1) AS r ON true
          WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR d.app_id = $2)
            AND CASE $3 WHEN 'open' THEN r.replays IS NULL WHEN 'done' THEN r.replays > 0 ELSE true END
          ORDER BY d.received_at DESC, d.log_topic, d.log_partition, d.log_offset LIMIT $4",
    )
    .bind::<Nullable<Text>, _>(filter.reason)
    .bind::<Nullable<Text>, _>(filter.app_id.map(AppId::as_str))
    .bind::<Text, _>(filter.replay.as_str())
    .bind::<BigInt, _>(limit)
    .load(conn)
}

/// The dead letter from that place in the log.
pub fn find(conn: &mut PgConnection, place: &Place) -> QueryResult<Option<DeadLetter>> {
    Ok(at(conn, std::slice::from_ref(place))?.pop())
}

/// The dead letters from those places, in no order.
pub(crate) fn at(conn: &mut PgConnection, places: &[Place]) -> QueryResult<Vec<DeadLetter>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    statement(
        "SELECT d.app_id, d.log_topic, d.log_partition, d.log_offset, d.reason, d.detail, d.received_at,
                d.recorded_at, d.body, coalesce(r.replays, 0) AS replays, r.replayed_to, r.replayed_by,
                r.replayed_at
           FROM unnest($1, $2, $3) AS asked (log_topic, log_partition, log_offset) CROSS JOIN LATERAL (
                SELECT * FROM dead_letter d
                 WHERE d.log_topic = asked.log_topic AND d.log_partition = asked.log_partition
                   AND d.log_offset = asked.log_offset OFFSET 0) AS d
           LEFT JOIN LATERAL (
                SELECT concat_ws('/', new_topic, new_partition, new_offset) AS replayed_to,
                       actor AS replayed_by, replayed_at, count(*) OVER () AS replays
                  FROM dead_letter_replay r
                 WHERE (r.app_id, r.log_topic, r.log_partition, r.log_offset)
                     = (d.app_id, d.log_topic, d.log_partition, d.log_offset)
                 ORDER BY replay_no DESC LIMIT 1) AS r ON true",
    )
    .bind::<Array<Text>, _>(places.iter().map(|place| place.log_topic.as_str()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(places.iter().map(|place| place.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(places.iter().map(|place| place.offset).collect::<Vec<_>>())
    .load(conn)
}

/// How many bytes the dead letters from those places have, by the place as it is written. Reads none of them.
pub(crate) fn sizes(
    conn: &mut PgConnection,
    places: &[Place],
) -> QueryResult<HashMap<String, i64>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        place: String,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row> = statement(
        "SELECT concat_ws('/', d.log_topic, d.log_partition, d.log_offset) AS place,
                octet_length(d.body)::bigint AS bytes
           FROM unnest($1, $2, $3) AS asked (log_topic, log_partition, log_offset) CROSS JOIN LATERAL (
                SELECT * FROM dead_letter d
                 WHERE d.log_topic = asked.log_topic AND d.log_partition = asked.log_partition
                   AND d.log_offset = asked.log_offset OFFSET 0) AS d",
    )
    .bind::<Array<Text>, _>(places.iter().map(|place| place.log_topic.as_str()).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(places.iter().map(|place| place.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(places.iter().map(|place| place.offset).collect::<Vec<_>>())
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.place, row.bytes)).collect())
}

/// Notes that the letter from `place` was appended to the log again, at `new_place`, by `actor`. May be done more than
/// once: every replay is kept. [`NotFound`](diesel::result::Error::NotFound) where there is no such letter.
pub fn replayed(
    conn: &mut PgConnection,
    place: &Place,
    new_place: &Place,
    actor: &str,
    at: DateTime<Utc>,
) -> QueryResult<()> {
    let noted = statement(
        "INSERT INTO dead_letter_replay (app_id, log_topic, log_partition, log_offset, new_topic, new_partition,
                                         new_offset, actor, replayed_at)
         SELECT app_id, log_topic, log_partition, log_offset, $4, $5, $6, $7, $8 FROM dead_letter
          WHERE log_topic = $1 AND log_partition = $2 AND log_offset = $3",
    )
    .bind::<Text, _>(place.log_topic.as_str())
    .bind::<Integer, _>(place.partition)
    .bind::<BigInt, _>(place.offset)
    .bind::<Text, _>(new_place.log_topic.as_str())
    .bind::<Integer, _>(new_place.partition)
    .bind::<BigInt, _>(new_place.offset)
    .bind::<Text, _>(actor)
    .bind::<Timestamptz, _>(at)
    .execute(conn)?;
    if noted == 0 { Err(DieselError::NotFound) } else { Ok(()) }
}

/// How many dead letters were never put back into the log.
pub fn open_count(conn: &mut PgConnection) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        messages: i64,
    }
    let row: Row = statement(
        "SELECT count(*) AS messages FROM dead_letter d
          WHERE NOT EXISTS (SELECT 1 FROM dead_letter_replay r
                             WHERE (r.app_id, r.log_topic, r.log_partition, r.log_offset)
                                 = (d.app_id, d.log_topic, d.log_partition, d.log_offset))",
    )
    .get_result(conn)?;
    Ok(row.messages)
}
