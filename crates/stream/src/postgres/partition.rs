use diesel::deserialize::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{PgConnection, RunQueryDsl, sql_query};
use payment::Topic;
use sha2::{Digest, Sha256};

use crate::error::query;
use crate::{Partition, StreamError};

/// Cuts every topic into `count` partitions. Only ever adds: where there are more, they stay.
///
/// After adding, a key's new records may stand in another partition than its old ones; processes
/// that append learn of it when they are started again.
///
/// # Errors
/// When the database fails.
pub(crate) fn create_partitions(conn: &mut PgConnection, count: i32) -> Result<(), StreamError> {
    let topics: Vec<&str> = Topic::ALL.iter().map(|topic| topic.as_str()).collect();
    sql_query(
        "INSERT INTO log_partition (topic, partition) \
         SELECT topic, partition FROM UNNEST($1::text[]) AS t(topic), \
                generate_series(0, $2 - 1) AS p(partition) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<diesel::sql_types::Array<Text>, _>(topics)
    .bind::<Integer, _>(count)
    .execute(conn)
    .map_err(query("set up the partitions of"))?;
    Ok(())
}

/// Every partition with the offset its next record will get, in order.
pub(crate) fn ends(conn: &mut PgConnection) -> Result<Vec<(Partition, i64)>, StreamError> {
    let rows: Vec<PartitionRow> =
        sql_query("SELECT topic, partition, next_offset FROM log_partition")
            .load(conn)
            .map_err(query("read the partitions of"))?;
    let mut ends: Vec<(Partition, i64)> = rows.iter().filter_map(PartitionRow::read).collect();
    ends.sort_unstable();
    if ends.is_empty() { Err(StreamError::NoPartitions) } else { Ok(ends) }
}

/// Which of `count` partitions a key belongs to: the first eight bytes of its SHA-256 as a big-endian
/// number, modulo `count`. Stable over versions; `count` is at least 1.
pub(crate) fn number_of(key: &str, count: i32) -> i32 {
    let first = Sha256::digest(key.as_bytes());
    let hash = first.iter().take(8).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
    let count = u64::try_from(count).unwrap_or(1).max(1);
    // Smaller than `count`, which is an `i32`.
    i32::try_from(hash % count).unwrap_or(0)
}

#[derive(QueryableByName)]
pub(crate) struct PartitionRow {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
}

impl PartitionRow {
    /// `None` for a topic of a later version.
    pub(crate) fn read(&self) -> Option<(Partition, i64)> {
        let topic = Topic::named(&self.topic)?;
        Some((Partition { topic, number: self.partition }, self.next_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_partition_over_versions() {
        assert_eq!(number_of("", 16), 4, "e3b0c44298fc1c14...");
        assert_eq!(number_of("abc", 1000), 74, "ba7816bf8f01cfea... is 13436514500253700074");
        assert_eq!(number_of("abc", 1), 0);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut hits = [0; 8];
        for order in 0..8_000 {
            let number = number_of(&format!("2021000000000001/{order}"), 8);
            hits[usize::try_from(number).unwrap()] += 1;
        }
        assert!(hits.iter().all(|hits| (800..1_200).contains(hits)), "{hits:?}");
    }
}
