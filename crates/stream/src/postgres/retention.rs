use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Text, Timestamptz};
use diesel::{PgConnection, RunQueryDsl, sql_query};
use payment::Topic;

use super::partition;
use crate::error::query;
use crate::{Partition, StreamError};

/// How many records one step looks at and may drop.
const STEP: i64 = 5_000;

/// Each step looks at the lowest offsets only: a week of younger records is not searched every time. What it found
/// it drops by its place on disk, which needs no join that could be planned badly.
pub(crate) fn drop_read(
    conn: &mut PgConnection,
    before: &[(Partition, i64)],
    older_than: DateTime<Utc>,
) -> Result<u64, StreamError> {
    // Nobody here reads the others: they are for programs outside, and kept as long.
    let unread = partition::ends(conn)?;
    let unread = unread.iter().filter(|(partition, _)| !Topic::CONSUMED.contains(&partition.topic));
    let mut dropped = 0_u64;
    for (partition, before) in before.iter().chain(unread) {
        loop {
            let rows = sql_query(
                "DELETE FROM log_record WHERE ctid = ANY (ARRAY(\
                     SELECT ctid FROM (SELECT ctid, appended_at FROM log_record \
                                        WHERE topic = $1 AND partition = $2 AND record_offset < $3 \
                                        ORDER BY record_offset LIMIT $4) AS lowest \
                      WHERE appended_at < $5))",
            )
            .bind::<Text, _>(partition.topic.as_str())
            .bind::<Integer, _>(partition.number)
            .bind::<BigInt, _>(before)
            .bind::<BigInt, _>(STEP)
            .bind::<Timestamptz, _>(older_than)
            .execute(conn)
            .map_err(query("drop old records of"))?;
            dropped = dropped.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
            if i64::try_from(rows).is_ok_and(|rows| rows < STEP) {
                break;
            }
        }
    }
    Ok(dropped)
}
