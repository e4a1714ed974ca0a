//! What can be checked of the ledger at any time: that every message stands in exactly one place, and that the books
//! are what the facts say.

mod books;
mod sheet;

use diesel::sql_types::{Array, BigInt, Bool, Bytea, Integer, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl};
use payment::AppId;

pub use self::books::{AuditError, Finding, Totals, books};
use crate::statement::statement;

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'r> {
    /// The topic's real name in that log.
    pub log_topic: &'r str,
    pub partition: i32,
    pub offset: i64,
    /// SHA-256 of the body.
    pub digest: [u8; 32],
}

/// What the ledger holds of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Held {
    /// Rows of inbox, quarantine and dead letters, of whatever app, at its place. One is right.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
    /// Each of them has the record's body.
    #[diesel(sql_type = Bool)]
    pub same_body: bool,
}

/// What the ledger holds of these records, in their order. Made for neighbours, thousands at a time: everything that
/// stands between the first and the last of a partition is read.
pub fn places(conn: &mut PgConnection, records: &[Recorded<'_>]) -> QueryResult<Vec<Held>> {
    // An app's rows of a partition stand side by side in each key. Apps are few, and found by leaps.
    statement(
        "WITH RECURSIVE app (app_id) AS (
             (SELECT app_id FROM inbox ORDER BY app_id LIMIT 1)
             UNION ALL
             SELECT (SELECT i.app_id FROM inbox i WHERE i.app_id > app.app_id ORDER BY i.app_id LIMIT 1)
               FROM app WHERE app.app_id IS NOT NULL),
         asked AS MATERIALIZED (
             SELECT * FROM unnest($1, $2, $3, $4) WITH ORDINALITY
                 AS asked (log_topic, log_partition, log_offset, digest, place)),
         span AS MATERIALIZED (
             SELECT log_topic, log_partition, min(log_offset) AS first, max(log_offset) AS last
               FROM asked GROUP BY log_topic, log_partition),
         held AS MATERIALIZED (
             SELECT h.log_topic, h.log_partition, h.log_offset, sha256(h.body) AS digest
               FROM span CROSS JOIN app CROSS JOIN LATERAL (
                    SELECT * FROM inbox i
                     WHERE i.app_id = app.app_id AND i.log_topic = span.log_topic
                       AND i.log_partition = span.log_partition
                       AND i.log_offset BETWEEN span.first AND span.last OFFSET 0) AS h
             UNION ALL
             SELECT h.log_topic, h.log_partition, h.log_offset, sha256(h.body)
               FROM span JOIN quarantine h ON (h.log_topic, h.log_partition) = (span.log_topic, span.log_partition)
              WHERE h.log_offset BETWEEN span.first AND span.last
             UNION ALL
             SELECT h.log_topic, h.log_partition, h.log_offset, sha256(h.body)
               FROM span JOIN dead_letter h ON (h.log_topic, h.log_partition) = (span.log_topic, span.log_partition)
              WHERE h.log_offset BETWEEN span.first AND span.last)
         SELECT count(h.log_offset) AS rows, coalesce(bool_and(h.digest = asked.digest), false) AS same_body
           FROM asked LEFT JOIN held h USING (log_topic, log_partition, log_offset)
          GROUP BY asked.place ORDER BY asked.place",
    )
    .bind::<Array<Text>, _>(records.iter().map(|record| record.log_topic).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(records.iter().map(|record| record.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(records.iter().map(|record| record.offset).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(records.iter().map(|record| &record.digest[..]).collect::<Vec<_>>())
    .load(conn)
}

/// How many rows of inbox, quarantine and dead letters stand at places of this partition from offset `from` up to, and
/// without, `to`.
pub fn range(
    conn: &mut PgConnection,
    log_topic: &str,
    partition: i32,
    from: i64,
    to: i64,
) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let row: Row = statement(
        "WITH RECURSIVE app (app_id) AS (
             (SELECT app_id FROM inbox ORDER BY app_id LIMIT 1)
             UNION ALL
             SELECT (SELECT i.app_id FROM inbox i WHERE i.app_id > app.app_id ORDER BY i.app_id LIMIT 1)
               FROM app WHERE app.app_id IS NOT NULL)
         SELECT (SELECT coalesce(sum(h.rows), 0)::bigint FROM app CROSS JOIN LATERAL (
                    SELECT count(*) AS rows FROM inbox i
                     WHERE i.app_id = app.app_id AND i.log_topic = $1 AND i.log_partition = $2
                       AND i.log_offset >= $3 AND i.log_offset < $4) AS h)
              + (SELECT count(*) FROM quarantine
                  WHERE log_topic = $1 AND log_partition = $2 AND log_offset >= $3 AND log_offset < $4)
              + (SELECT count(*) FROM dead_letter
                  WHERE log_topic = $1 AND log_partition = $2 AND log_offset >= $3 AND log_offset < $4) AS rows",
    )
    .bind::<Text, _>(log_topic)
    .bind::<Integer, _>(partition)
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(to)
    .get_result(conn)?;
    Ok(row.rows)
}

/// Those of these notifications that are not in the inbox: never applied, kept or recognised as duplicates.
pub fn notify_ids(
    conn: &mut PgConnection,
    app_id: &AppId,
    notify_ids: &[&str],
) -> QueryResult<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        notify_id: String,
    }
    // Of all messages with one id, one is no duplicate.
    let rows: Vec<Row> = statement(
        "SELECT asked.notify_id FROM unnest($2) WITH ORDINALITY AS asked (notify_id, place)
          WHERE NOT EXISTS (
                SELECT 1 FROM inbox i
                 WHERE i.app_id = $1 AND i.notify_id = asked.notify_id AND i.outcome <> 'duplicate' OFFSET 0)
          ORDER BY asked.place",
    )
    .bind::<Text, _>(app_id.as_str())
    .bind::<Array<Text>, _>(notify_ids)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.notify_id).collect())
}
