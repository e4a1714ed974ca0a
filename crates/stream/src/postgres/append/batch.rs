use std::collections::BTreeMap;

use diesel::deserialize::QueryableByName;
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};

use super::queue::Waiting;
use crate::error::query;
use crate::postgres::partition::PartitionRow;
use crate::{Partition, StreamError};

/// Appends a batch in one transaction; the offsets in the batch's order, once it is committed.
///
/// The partitions' rows are locked, in one order for everybody, from giving the offsets to the commit.
/// So of two transactions that append to one partition, the one with the smaller offsets commits first.
pub(super) fn append(conn: &mut PgConnection, batch: &[Waiting]) -> Result<Vec<i64>, StreamError> {
    conn.transaction::<_, Failure, _>(|conn| {
        let mut next = lock(conn, batch)?;
        let mut offsets = Vec::with_capacity(batch.len());
        for waiting in batch {
            let missing = StreamError::PartitionMissing(waiting.partition);
            let offset = next.get_mut(&waiting.partition).ok_or(missing)?;
            offsets.push(*offset);
            *offset = offset.checked_add(1).ok_or(StreamError::TooLarge)?;
        }
        insert(conn, batch, &offsets)?;
        move_on(conn, &next)?;
        Ok(offsets)
    })
    .map_err(|failure| failure.0)
}

fn lock(
    conn: &mut PgConnection,
    batch: &[Waiting],
) -> Result<BTreeMap<Partition, i64>, StreamError> {
    let mut needed: Vec<Partition> = batch.iter().map(|waiting| waiting.partition).collect();
    needed.sort_unstable();
    needed.dedup();
    let rows: Vec<PartitionRow> = sql_query(
        "SELECT p.topic, p.partition, p.next_offset FROM log_partition p \
         JOIN UNNEST($1::text[], $2::int[]) AS needed(topic, partition) \
           ON p.topic = needed.topic AND p.partition = needed.partition \
         ORDER BY p.topic, p.partition FOR UPDATE OF p",
    )
    .bind::<Array<Text>, _>(topics(&needed))
    .bind::<Array<Integer>, _>(numbers(&needed))
    .load(conn)
    .map_err(query("lock the partitions of"))?;
    Ok(rows.iter().filter_map(PartitionRow::read).collect())
}

fn insert(conn: &mut PgConnection, batch: &[Waiting], offsets: &[i64]) -> Result<(), StreamError> {
    let partitions: Vec<Partition> = batch.iter().map(|waiting| waiting.partition).collect();
    let envelopes = || batch.iter().map(|waiting| &waiting.envelope);
    let rows = sql_query(
        "INSERT INTO log_record (topic, partition, record_offset, id, provider, app_id, key, \
                                 source, received_at, reason, body, kind, sequence) \
         SELECT * FROM UNNEST($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], \
                              $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::text[], \
                              $11::bytea[], $12::text[], $13::bigint[])",
    )
    .bind::<Array<Text>, _>(topics(&partitions))
    .bind::<Array<Integer>, _>(numbers(&partitions))
    .bind::<Array<BigInt>, _>(offsets)
    .bind::<Array<Text>, _>(envelopes().map(|it| it.id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(envelopes().map(|it| it.provider.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(envelopes().map(|it| it.app_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(envelopes().map(|it| it.key.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(envelopes().map(|it| it.source.as_str()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(envelopes().map(|it| it.received_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        envelopes().map(|it| it.reason.as_deref()).collect::<Vec<_>>(),
    )
    .bind::<Array<Binary>, _>(envelopes().map(|it| it.body.as_slice()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(envelopes().map(|it| it.kind.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(envelopes().map(|it| it.sequence).collect::<Vec<_>>())
    .execute(conn)
    .map_err(query("append to"))?;
    expect_rows(batch.len(), rows)
}

/// Writes down the next offsets, and wakes readers when this commits.
fn move_on(conn: &mut PgConnection, next: &BTreeMap<Partition, i64>) -> Result<(), StreamError> {
    let partitions: Vec<Partition> = next.keys().copied().collect();
    let moved: Moved = sql_query(
        "WITH moved AS (UPDATE log_partition p SET next_offset = n.next_offset \
                        FROM UNNEST($1::text[], $2::int[], $3::bigint[]) \
                             AS n(topic, partition, next_offset) \
                        WHERE p.topic = n.topic AND p.partition = n.partition RETURNING 1) \
         SELECT count(*) AS count, pg_notify('suanpan_log', '')::text AS told FROM moved",
    )
    .bind::<Array<Text>, _>(topics(&partitions))
    .bind::<Array<Integer>, _>(numbers(&partitions))
    .bind::<Array<BigInt>, _>(next.values().copied().collect::<Vec<_>>())
    .get_result(conn)
    .map_err(query("move the partitions of"))?;
    expect_rows(next.len(), usize::try_from(moved.count).unwrap_or(0))
}

#[derive(QueryableByName)]
struct Moved {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn expect_rows(expected: usize, found: usize) -> Result<(), StreamError> {
    if expected == found { Ok(()) } else { Err(query("write all rows of")(Error::NotFound)) }
}

fn topics(partitions: &[Partition]) -> Vec<&'static str> {
    partitions.iter().map(|partition| partition.topic.as_str()).collect()
}

fn numbers(partitions: &[Partition]) -> Vec<i32> {
    partitions.iter().map(|partition| partition.number).collect()
}

/// What ends the transaction: ours, or what `BEGIN` and `COMMIT` say.
struct Failure(StreamError);

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Failure(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(query("begin or commit a transaction on")(error))
    }
}
