use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::Topic;

/// One step of a consumer through one partition of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub topic: Topic,
    pub partition: i32,
    /// Where the caller believes the position to be.
    pub from: i64,
    /// The next offset to read.
    pub to: i64,
}

/// The next offset to read in each of the partitions asked for; 0 where nothing was read yet.
pub fn read(conn: &mut PgConnection, partitions: &[(Topic, i32)]) -> QueryResult<Vec<i64>> {
    let topics: Vec<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    let numbers: Vec<i32> = partitions.iter().map(|(_, number)| *number).collect();
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let rows: Vec<Row> = sql_query(
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

/// Moves positions forward, and says whether all of them were still where the caller believed. If not, another
/// consumer has been here: the caller's transaction must not commit.
pub(crate) fn advance(conn: &mut PgConnection, steps: &[Advance]) -> QueryResult<bool> {
    let topics: Vec<&str> = steps.iter().map(|step| step.topic.as_str()).collect();
    let numbers: Vec<i32> = steps.iter().map(|step| step.partition).collect();
    let froms: Vec<i64> = steps.iter().map(|step| step.from).collect();
    let tos: Vec<i64> = steps.iter().map(|step| step.to).collect();
    // The row of a partition never read is made first; two consumers that both make it queue up here.
    sql_query(
        "INSERT INTO log_position (topic, partition, next_offset)
         SELECT topic, partition, 0 FROM unnest($1, $2, $3) AS step (topic, partition, was)
          WHERE was = 0 ORDER BY topic, partition
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(&topics)
    .bind::<Array<Integer>, _>(&numbers)
    .bind::<Array<BigInt>, _>(&froms)
    .execute(conn)?;
    let moved = sql_query(
        "UPDATE log_position p SET next_offset = step.becomes
           FROM (SELECT l.topic, l.partition, step.was, step.becomes
                   FROM unnest($1, $2, $3, $4) AS step (topic, partition, was, becomes)
                   JOIN log_position l USING (topic, partition)
                  ORDER BY topic, partition FOR UPDATE OF l) AS step
          WHERE p.topic = step.topic AND p.partition = step.partition AND p.next_offset = step.was",
    )
    .bind::<Array<Text>, _>(&topics)
    .bind::<Array<Integer>, _>(&numbers)
    .bind::<Array<BigInt>, _>(&froms)
    .bind::<Array<BigInt>, _>(&tos)
    .execute(conn)?;
    Ok(moved == steps.len())
}
