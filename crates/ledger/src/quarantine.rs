//! Genuine messages that failed a check.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bytea, Integer, Text, Timestamptz};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

/// A message that was set aside. Its place in the log identifies it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct SetAside {
    #[diesel(sql_type = Text)]
    pub app_id: String,
    #[diesel(sql_type = Text)]
    pub log_topic: String,
    #[diesel(sql_type = Integer)]
    pub log_partition: i32,
    #[diesel(sql_type = BigInt)]
    pub log_offset: i64,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
    /// The signed bytes as they came.
    #[diesel(sql_type = Bytea)]
    pub body: Vec<u8>,
}

/// How many messages are held in quarantine.
pub fn count(conn: &mut PgConnection) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        messages: i64,
    }
    let row: Row = sql_query("SELECT count(*) AS messages FROM quarantine").get_result(conn)?;
    Ok(row.messages)
}

/// The newest messages in quarantine.
pub fn list(conn: &mut PgConnection, limit: i64) -> QueryResult<Vec<SetAside>> {
    sql_query(
        "SELECT app_id, log_topic, log_partition, log_offset, reason, received_at, body FROM quarantine
          ORDER BY received_at DESC, log_partition, log_offset LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)
}
