//! How far the log has been applied, and who may go on.

use std::sync::Arc;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel::{Connection as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl};

use crate::statement::statement;

/// One step of a consumer through one partition of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The topic's real name in that log.
    pub log_topic: Arc<str>,
    pub partition: i32,
    /// As [`claim`] gave it.
    pub epoch: i64,
    /// Where the caller believes the position to be.
    pub from: i64,
    /// The next offset to read.
    pub to: i64,
}

/// What a claim of a partition gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Claimed {
    /// Higher than every epoch of this partition before.
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    /// The next offset to read; 0 where nothing was read yet.
    #[diesel(sql_type = BigInt)]
    pub next_offset: i64,
}

/// Takes partitions, each named once by (log_topic, partition): from the commit of this on, whoever claimed them
/// before is refused ([`Fenced`](crate::ApplyError::Fenced)), also when its offsets still fit. Waits a little for a
/// batch that is being applied, and knows of it; longer than that is an error, to be tried again. A session that is
/// silent in the middle of its batch for ten seconds, stopped or cut off, is ended: nobody could ever go on. The
/// answers stand in the order asked.
pub fn claim(conn: &mut PgConnection, partitions: &[(&str, i32)]) -> QueryResult<Vec<Claimed>> {
    conn.transaction(|conn| {
        conn.batch_execute(
            "SET LOCAL lock_timeout = '2s';
             SELECT pg_terminate_backend(pid)
               FROM pg_locks JOIN pg_stat_activity USING (pid)
              WHERE relation = 'log_position'::regclass AND mode = 'RowExclusiveLock' AND granted
                AND pid <> pg_backend_pid() AND wait_event = 'ClientRead'
                AND clock_timestamp() - state_change > interval '10 seconds'",
        )?;
        raise(conn, partitions)
    })
}

fn raise(conn: &mut PgConnection, partitions: &[(&str, i32)]) -> QueryResult<Vec<Claimed>> {
    let (topics, numbers): (Vec<&str>, Vec<i32>) = partitions.iter().copied().unzip();
    // In one order, here as in `advance`: two that claim the same partitions queue up.
    statement(
        "WITH asked AS MATERIALIZED (
             SELECT * FROM unnest($1, $2) WITH ORDINALITY AS asked (topic, partition, place)),
         claimed AS (
             INSERT INTO log_position (topic, partition, next_offset, epoch)
             SELECT topic, partition, 0, 1 FROM asked ORDER BY topic, partition
             ON CONFLICT (topic, partition) DO UPDATE SET epoch = log_position.epoch + 1
             RETURNING topic, partition, epoch, next_offset)
         SELECT c.epoch, c.next_offset FROM asked JOIN claimed c USING (topic, partition) ORDER BY asked.place",
    )
    .bind::<Array<Text>, _>(topics)
    .bind::<Array<Integer>, _>(numbers)
    .load(conn)
}

/// The same without taking anything: for a log that gives every partition to every consumer, where the first to move a
/// position wins, and the others see that they are late.
pub fn share(conn: &mut PgConnection, partitions: &[(&str, i32)]) -> QueryResult<Vec<Claimed>> {
    let (topics, numbers): (Vec<&str>, Vec<i32>) = partitions.iter().copied().unzip();
    statement(
        "INSERT INTO log_position (topic, partition, next_offset)
         SELECT topic, partition, 0 FROM unnest($1, $2) AS asked (topic, partition) ORDER BY topic, partition
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(&topics)
    .bind::<Array<Integer>, _>(&numbers)
    .execute(conn)?;
    statement(
        "SELECT p.epoch, p.next_offset
           FROM unnest($1, $2) WITH ORDINALITY AS asked (topic, partition, place)
           JOIN log_position p USING (topic, partition)
          ORDER BY asked.place",
    )
    .bind::<Array<Text>, _>(&topics)
    .bind::<Array<Integer>, _>(&numbers)
    .load(conn)
}

/// The next offset to read in each of the partitions asked for, by (log_topic, partition); 0 where nothing was read
/// yet. Claims nothing.
pub fn read(conn: &mut PgConnection, partitions: &[(&str, i32)]) -> QueryResult<Vec<i64>> {
    let (topics, numbers): (Vec<&str>, Vec<i32>) = partitions.iter().copied().unzip();
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let rows: Vec<Row> = statement(
        "SELECT coalesce(p.next_offset, 0) AS next_offset
           FROM unnest($1, $2) WITH ORDINALITY AS asked (topic, partition, place)
           LEFT JOIN log_position p USING (topic, partition)
          ORDER BY asked.place",
    )
    .bind::<Array<Text>, _>(topics)
    .bind::<Array<Integer>, _>(numbers)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.next_offset).collect())
}

/// Moves positions forward, and says whether all of them were still the caller's and where it believed. If not,
/// another consumer has been here: the caller's transaction must not commit.
pub(crate) fn advance(conn: &mut PgConnection, steps: &[Advance]) -> QueryResult<bool> {
    let moved = statement(
        "UPDATE log_position p SET next_offset = step.becomes
           FROM (SELECT l.topic, l.partition, step.epoch, step.was, step.becomes
                   FROM unnest($1, $2, $3, $4, $5) AS step (topic, partition, epoch, was, becomes)
                   JOIN log_position l USING (topic, partition)
                  ORDER BY topic, partition FOR UPDATE OF l) AS step
          WHERE p.topic = step.topic AND p.partition = step.partition
            AND p.epoch = step.epoch AND p.next_offset = step.was",
    )
    .bind::<Array<Text>, _>(steps.iter().map(|step| &*step.log_topic).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(steps.iter().map(|step| step.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(steps.iter().map(|step| step.epoch).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(steps.iter().map(|step| step.from).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(steps.iter().map(|step| step.to).collect::<Vec<_>>())
    .execute(conn)?;
    Ok(moved == steps.len())
}
