use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::deserialize::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use diesel::{PgConnection, RunQueryDsl, sql_query};
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};

use super::{partition, retention};
use crate::error::query;
use crate::read::unknown_app;
use crate::{Assignment, Defect, Partition, Record, Sharing, StreamError};

/// Reads the log on from given positions. Remembers none itself.
///
/// After an error, open a new one.
pub(crate) struct Reader {
    conn: PgConnection,
    assigned: Vec<Partition>,
    looked_at: Option<Instant>,
}

const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Reader {
    /// Connects, and asks to be woken by appends.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) fn open(database_url: &str) -> Result<Reader, StreamError> {
        let mut conn = super::connect(database_url)?;
        conn.batch_execute("LISTEN suanpan_log; SET application_name = 'suanpan read'")
            .map_err(query("listen to"))?;
        Ok(Reader { conn, assigned: Vec::new(), looked_at: None })
    }

    pub(crate) fn assignment(&mut self) -> Result<Assignment, StreamError> {
        // Looked for now and then: partitions are added once in a year.
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.assigned = self.partitions()?;
            self.looked_at = Some(Instant::now());
        }
        let partitions = self.assigned.clone();
        // They are only ever added, so their number tells one assignment from the next.
        let generation = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
        Ok(Assignment { generation, partitions, sharing: Sharing::Shared })
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, StreamError> {
        let all = partition::ends(&mut self.conn)?.into_iter().map(|(partition, _)| partition);
        Ok(all.filter(|partition| Topic::CONSUMED.contains(&partition.topic)).collect())
    }

    pub(crate) fn starts(
        &mut self,
        of: &[Partition],
    ) -> Result<Vec<(Partition, i64)>, StreamError> {
        // Where nothing is left, the first that is there is the next that comes.
        let mut starts = self.ends(of)?;
        let rows: Vec<FirstRow> = sql_query(
            "SELECT p.topic, p.partition, r.record_offset FROM log_partition p \
             CROSS JOIN LATERAL \
                 (SELECT record_offset FROM log_record r \
                  WHERE r.topic = p.topic AND r.partition = p.partition \
                  ORDER BY r.record_offset LIMIT 1) r",
        )
        .load(&mut self.conn)
        .map_err(query("look for the first records of"))?;
        for row in rows {
            let start = starts.iter_mut().find(|(partition, _)| {
                partition.topic.as_str() == row.topic && partition.number == row.partition
            });
            if let Some((_, offset)) = start {
                *offset = row.record_offset;
            }
        }
        Ok(starts)
    }

    pub(crate) fn ends(&mut self, of: &[Partition]) -> Result<Vec<(Partition, i64)>, StreamError> {
        let mut ends = partition::ends(&mut self.conn)?;
        ends.retain(|(partition, _)| of.contains(partition));
        Ok(ends)
    }

    /// At most `limit` records at or after the positions `from`, by partition and offset. Partitions
    /// that have more take turns, so that none waits for another to be done. Where there is nothing,
    /// waits up to `wait` for the first; empty if none came.
    ///
    /// # Errors
    /// When the database fails, or holds a record of another version.
    pub(crate) fn read(
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
    pub(crate) fn oldest_unread(
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
    pub(crate) fn drop_read(
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
        // Each partition that has more gives its share; where some have less, the next read is soon.
        let rows: Vec<RecordRow> = sql_query(
            "WITH asked AS ( \
                 SELECT f.*, greatest(1, $4 / greatest(1, \
                            count(*) FILTER (WHERE p.next_offset > f.record_offset) OVER ())) AS share \
                 FROM UNNEST($1::text[], $2::int[], $3::bigint[]) AS f(topic, partition, record_offset) \
                 JOIN log_partition p USING (topic, partition)) \
             SELECT r.topic, r.partition, r.record_offset, r.id, r.provider, r.app_id, r.key, \
                    r.source, r.received_at, r.reason, r.body, r.kind, r.sequence \
             FROM asked CROSS JOIN LATERAL \
                 (SELECT * FROM log_record l \
                  WHERE l.topic = asked.topic AND l.partition = asked.partition \
                    AND l.record_offset >= asked.record_offset \
                  ORDER BY l.record_offset LIMIT asked.share) r \
             LIMIT $4",
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
    /// `NULL` in what earlier versions wrote.
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
}

impl RecordRow {
    /// Rows are parsed on the way out as strictly as on the way in; what does not parse is told, not trusted.
    fn read(self) -> Result<Record, StreamError> {
        // The query asks for partitions we know, so the topic is one.
        let topic = Topic::named(&self.topic).ok_or(StreamError::NoPartitions)?;
        let partition = Partition { topic, number: self.partition };
        let offset = self.record_offset;
        let (provider, source) = (Provider::named(&self.provider), Source::named(&self.source));
        let kind = self.kind.as_deref().map_or(Some(Kind::NotificationReceived), Kind::named);
        let app_id = AppId::parse(&self.app_id).ok();
        let defect = match (&app_id, provider, source, kind) {
            (None, ..) => Some("app_id"),
            (_, None, ..) => Some("provider"),
            (_, _, None, _) => Some("source"),
            (.., None) => Some("kind"),
            (Some(_), Some(_), Some(_), Some(_)) => None,
        };
        let envelope = Envelope {
            id: self.id,
            topic,
            kind: kind.unwrap_or(Kind::NotificationReceived),
            provider: provider.unwrap_or(Provider::Alipay),
            app_id: app_id.map_or_else(unknown_app, Ok)?,
            key: self.key,
            source: source.unwrap_or(Source::Notification),
            received_at: self.received_at,
            sequence: self.sequence,
            reason: self.reason,
            body: self.body,
        };
        let defect = defect.map(Defect::Field);
        Ok(Record { partition, offset, envelope, defect })
    }
}

#[derive(QueryableByName)]
struct FirstRow {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    record_offset: i64,
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
