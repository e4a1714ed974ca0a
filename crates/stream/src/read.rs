use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::deserialize::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};

use crate::error::query;
use crate::{Partition, StreamError, partition, retention};

/// Reads the log on from given positions. Remembers none itself.
///
/// After an error, open a new one.
pub struct Reader {
    conn: PgConnection,
}

/// One record where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: Partition,
    /// Counted from 0 in its partition, without gaps.
    pub offset: i64,
    pub envelope: Envelope,
    /// The column that no version of ours writes so, where there is one: the log is a place that others may write
    /// to, and one such record must not keep its neighbours from being read. The body is what it was.
    pub defect: Option<&'static str>,
}

impl Reader {
    /// Connects, and asks to be woken by appends.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub fn open(database_url: &str) -> Result<Reader, StreamError> {
        let mut conn = PgConnection::establish(database_url).map_err(StreamError::Connect)?;
        conn.batch_execute("LISTEN suanpan_log; SET application_name = 'suanpan read'")
            .map_err(query("listen to"))?;
        Ok(Reader { conn })
    }

    /// All partitions, in order.
    ///
    /// # Errors
    /// When the database fails, or the log has not been set up.
    pub fn partitions(&mut self) -> Result<Vec<Partition>, StreamError> {
        Ok(self.ends()?.into_iter().map(|(partition, _)| partition).collect())
    }

    /// All partitions with the offset that their next record will get, in order.
    ///
    /// # Errors
    /// When the database fails, or the log has not been set up.
    pub fn ends(&mut self) -> Result<Vec<(Partition, i64)>, StreamError> {
        let mut ends = partition::ends(&mut self.conn)?;
        ends.retain(|(partition, _)| Topic::CONSUMED.contains(&partition.topic));
        Ok(ends)
    }

    /// At most `limit` records at or after the positions `from`, by partition and offset. Partitions
    /// that have more take turns, so that none waits for another to be done. Where there is nothing,
    /// waits up to `wait` for the first; empty if none came.
    ///
    /// # Errors
    /// When the database fails, or holds a record of another version.
    pub fn read(
        &mut self,
        from: &[(Partition, i64)],
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let started = Instant::now();
        loop {
            // First forget, then look: what commits after the look leaves its notice.
            self.forget_notices()?;
            let records = self.look(from, limit)?;
            if !records.is_empty() || started.elapsed() >= wait {
                return Ok(records);
            }
            self.wait_for_notice(started, wait)?;
        }
    }

    /// When the first record at or after each position was received; partitions without one are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn oldest_unread(
        &mut self,
        from: &[(Partition, i64)],
    ) -> Result<Vec<(Partition, DateTime<Utc>)>, StreamError> {
        let rows: Vec<OldestRow> = sql_query(
            "SELECT f.topic, f.partition, r.received_at \
             FROM UNNEST($1::text[], $2::int[], $3::bigint[]) AS f(topic, partition, record_offset) \
             CROSS JOIN LATERAL \
                 (SELECT received_at FROM log_record r \
                  WHERE r.topic = f.topic AND r.partition = f.partition \
                    AND r.record_offset >= f.record_offset ORDER BY r.record_offset LIMIT 1) r \
             ORDER BY f.topic, f.partition",
        )
        .bind::<Array<Text>, _>(topics(from))
        .bind::<Array<Integer>, _>(numbers(from))
        .bind::<Array<BigInt>, _>(offsets(from))
        .load(&mut self.conn)
        .map_err(query("look for the oldest record of"))?;
        let read = |row: OldestRow| {
            let topic = Topic::named(&row.topic)?;
            Some((Partition { topic, number: row.partition }, row.received_at))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Drops records below the positions `before` that were appended before `older_than` (by the
    /// database's clock), in steps that each hold little. Returns how many.
    ///
    /// Give it only positions that every reader has passed.
    ///
    /// # Errors
    /// When the database fails; what was dropped by then stays dropped.
    pub fn drop_read(
        &mut self,
        before: &[(Partition, i64)],
        older_than: DateTime<Utc>,
    ) -> Result<u64, StreamError> {
        retention::drop_read(&mut self.conn, before, older_than)
    }

    fn look(
        &mut self,
        from: &[(Partition, i64)],
        limit: usize,
    ) -> Result<Vec<Record>, StreamError> {
        let limit = i64::try_from(limit).map_err(|_| StreamError::TooLarge)?;
        let rows: Vec<RecordRow> = sql_query(
            "SELECT r.topic, r.partition, r.record_offset, r.id, r.provider, r.app_id, r.key, \
                    r.source, r.received_at, r.reason, r.body \
             FROM UNNEST($1::text[], $2::int[], $3::bigint[]) AS f(topic, partition, record_offset) \
             CROSS JOIN LATERAL \
                 (SELECT l.*, row_number() OVER (ORDER BY l.record_offset) AS turn FROM log_record l \
                  WHERE l.topic = f.topic AND l.partition = f.partition \
                    AND l.record_offset >= f.record_offset ORDER BY l.record_offset LIMIT $4) r \
             ORDER BY r.turn LIMIT $4",
        )
        .bind::<Array<Text>, _>(topics(from))
        .bind::<Array<Integer>, _>(numbers(from))
        .bind::<Array<BigInt>, _>(offsets(from))
        .bind::<BigInt, _>(limit)
        .load(&mut self.conn)
        .map_err(query("read"))?;
        let mut records =
            rows.into_iter().map(RecordRow::read).collect::<Result<Vec<Record>, StreamError>>()?;
        records.sort_unstable_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    fn forget_notices(&mut self) -> Result<(), StreamError> {
        self.conn
            .notifications_iter()
            .try_for_each(|notice| notice.map(drop))
            .map_err(query("listen to"))
    }

    /// Returns at the first notice, or when `wait` has passed since `started`.
    ///
    /// Only looks at what has arrived on the socket; the server is not asked. The looks grow rarer, to
    /// eight milliseconds, which is as late as a record can be noticed on an idle log.
    fn wait_for_notice(&mut self, started: Instant, wait: Duration) -> Result<(), StreamError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(notice) = self.conn.notifications_iter().next() {
                return notice.map(drop).map_err(query("listen to"));
            }
            let left = wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(pause.min(left));
            pause = pause.saturating_mul(2).min(Duration::from_millis(8));
        }
    }
}

#[derive(QueryableByName)]
struct RecordRow {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    record_offset: i64,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Timestamptz)]
    received_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

impl RecordRow {
    /// Rows are parsed on the way out as strictly as on the way in; what does not parse is told, not trusted.
    fn read(self) -> Result<Record, StreamError> {
        // The query asks for partitions we know, so the topic is one.
        let topic = Topic::named(&self.topic).ok_or(StreamError::NoPartitions)?;
        let partition = Partition { topic, number: self.partition };
        let offset = self.record_offset;
        let provider = Provider::named(&self.provider);
        let app_id = AppId::parse(&self.app_id).or_else(|_| AppId::parse("unknown"));
        let source = Source::named(&self.source);
        let defect = match (&provider, &source) {
            _ if AppId::parse(&self.app_id).is_err() => Some("app_id"),
            (None, _) => Some("provider"),
            (_, None) => Some("source"),
            (Some(_), Some(_)) => None,
        };
        let envelope = Envelope {
            id: self.id,
            topic,
            kind: match topic {
                Topic::Notifications => Kind::NotificationReceived,
                Topic::Quarantine => Kind::NotificationQuarantined,
                Topic::DeadLetters | Topic::LedgerEvents => Kind::MessageDead,
            },
            sequence: None,
            provider: provider.unwrap_or(Provider::Alipay),
            app_id: app_id.map_err(|_| StreamError::NoPartitions)?,
            key: self.key,
            source: source.unwrap_or(Source::Notification),
            received_at: self.received_at,
            reason: self.reason,
            body: self.body,
        };
        Ok(Record { partition, offset, envelope, defect })
    }
}

#[derive(QueryableByName)]
struct OldestRow {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = Timestamptz)]
    received_at: DateTime<Utc>,
}

fn topics(positions: &[(Partition, i64)]) -> Vec<&'static str> {
    positions.iter().map(|(partition, _)| partition.topic.as_str()).collect()
}

fn numbers(positions: &[(Partition, i64)]) -> Vec<i32> {
    positions.iter().map(|(partition, _)| partition.number).collect()
}

fn offsets(positions: &[(Partition, i64)]) -> Vec<i64> {
    positions.iter().map(|(_, offset)| *offset).collect()
}
