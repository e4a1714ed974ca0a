use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use payment::{Envelope, Kind, Provider, Source, Topic};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client;
use super::group::{Context, Group};
use super::offsets::{Bound, Offsets};
use super::{cloud_event, peek, topics};
use crate::read::unknown_app;
use crate::{Assignment, Defect, KafkaSettings, Partition, Record, Sharing, StreamError};

/// A member of the group. The group divides the partitions, and that is all it does: where to read is told with
/// every read.
pub(crate) struct Reader {
    settings: KafkaSettings,
    consumer: BaseConsumer<Context>,
    offsets: Offsets,
    group: Arc<Group>,
    /// What the owner of this reader knows to be its own.
    known: u64,
    /// What comes next from each partition, as handed out; `None` while nothing is fetched.
    next: Option<BTreeMap<Partition, i64>>,
    /// The places before which a gap was met, by partition. Met again by a fetch from its beginning, it is there.
    gaps: BTreeMap<Partition, i64>,
    /// Records that the log dropped before they were read.
    missing: Vec<Record>,
    /// What the group was told last, and when.
    told: Option<(Instant, Vec<(Partition, i64)>)>,
}

impl Reader {
    /// Joins the group: what is read is divided among its members.
    pub(crate) fn open(settings: &KafkaSettings) -> Result<Reader, StreamError> {
        let reader = Reader::with(settings, &settings.group)?;
        let names: Vec<&str> =
            Topic::CONSUMED.into_iter().map(|topic| settings.topics.of(topic)).collect();
        reader.consumer.subscribe(&names).map_err(client::failed(
            settings,
            &reader.group.brokers,
            "join a group of",
        ))?;
        Ok(reader)
    }

    /// Stays outside: every partition is read, whoever else does, and nobody is told.
    pub(crate) fn beside(settings: &KafkaSettings) -> Result<Reader, StreamError> {
        let reader = Reader::with(settings, &format!("{}-beside", settings.group))?;
        let mut all = Vec::new();
        for topic in Topic::CONSUMED {
            let name = settings.topics.of(topic);
            let count =
                topics::count(reader.consumer.client(), settings, &reader.group.brokers, name)?;
            all.extend((0..count).map(|number| (name.to_owned(), number)));
        }
        reader.group.is(all);
        Ok(reader)
    }

    fn with(settings: &KafkaSettings, group_id: &str) -> Result<Reader, StreamError> {
        let group = Arc::new(Group::default());
        let mut config = client::config(settings);
        let has = |name: &str| settings.properties.iter().any(|(given, _)| given == name);
        for (name, value) in [
            // How soon a dead member's partitions go to others.
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1500"),
            ("socket.timeout.ms", "10000"),
            ("fetch.wait.max.ms", "100"),
        ] {
            if !has(name) {
                config.set(name, value);
            }
        }
        config
            .set("group.id", group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // What is not there is told, not skipped.
            .set("auto.offset.reset", "error")
            // Nobody waits for the end; what is no record is an error.
            .set("enable.partition.eof", "false")
            // By these it is known that a broker is back while nothing is read.
            .set("statistics.interval.ms", "1000")
            .set("partition.assignment.strategy", "range")
            .set("isolation.level", "read_committed");
        let context = Context::of(&group);
        let consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(client::failed(settings, &group.brokers, "join a group of"))?;
        Ok(Reader {
            settings: settings.clone(),
            consumer,
            offsets: Offsets::open(settings, &group.brokers)?,
            group,
            known: 0,
            next: None,
            gaps: BTreeMap::new(),
            missing: Vec::new(),
            told: None,
        })
    }

    pub(crate) fn assignment(&mut self) -> Assignment {
        let (generation, assigned) = self.group.assigned();
        if generation != self.known {
            self.known = generation;
            self.next = None;
        }
        let partition = |(name, number): &(String, i32)| {
            Some(Partition { topic: self.settings.topics.named(name)?, number: *number })
        };
        let mut partitions: Vec<Partition> = assigned.iter().filter_map(partition).collect();
        partitions.sort_unstable();
        Assignment { generation, partitions, sharing: Sharing::Exclusive }
    }

    pub(crate) fn read(
        &mut self,
        from: &[(Partition, i64)],
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let from: BTreeMap<Partition, i64> = from.iter().copied().collect();
        let is_known = self.group.generation() == self.known;
        if is_known && !from.is_empty() && self.next.as_ref() != Some(&from) {
            self.fetch(&from)?;
        }
        let mut records = std::mem::take(&mut self.missing);
        for record in &records {
            self.handed_out(record);
        }
        let deadline = Instant::now() + wait;
        while is_known && records.len() < limit {
            // Where something is there already, only what else is there already.
            let left = match records.is_empty() {
                true => deadline.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            let polled = self.consumer.poll(left);
            // Only now: the poll is where the group is heard.
            if self.group.generation() != self.known {
                // What it left is read again from the ledger's positions, by whoever has them then.
                self.next = None;
                break;
            }
            let message = match polled {
                None if left.is_zero() => break,
                None => continue,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.went_wrong(error)?;
                    continue;
                }
            };
            let Some(record) = self.record(&message)? else { continue };
            drop(message);
            if !self.is_next(&record) {
                break;
            }
            self.handed_out(&record);
            records.push(record);
        }
        if records.is_empty() && self.group.brokers.are_away() {
            return Err(self.away());
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Hears what the group has to say for up to `wait`, and reads nothing: whoever is not heard holds up all others
    /// when partitions are divided anew, and is put out in the end.
    pub(crate) fn stay(&mut self, wait: Duration) -> Result<(), StreamError> {
        if self.next.take().is_some() {
            // Nothing is fetched that nobody takes; the next read begins anew.
            self.consumer
                .assign(&TopicPartitionList::new())
                .map_err(self.failed("stop reading from"))?;
        }
        self.missing.clear();
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(Err(error)) = self.consumer.poll(left) {
                self.went_wrong(error)?;
            }
            if left.is_zero() || self.group.generation() != self.known {
                break;
            }
        }
        if self.group.brokers.are_away() { Err(self.away()) } else { Ok(()) }
    }

    /// Asks the group's coordinator by committing: it refuses whoever is no member any more.
    pub(crate) fn confirm(&mut self, positions: &[(Partition, i64)]) -> Result<bool, StreamError> {
        use RDKafkaErrorCode as Code;
        let list = self.list(positions);
        let Err(error) = self.consumer.commit(&list, CommitMode::Sync) else { return Ok(true) };
        let is_refusal = error.rdkafka_error_code().is_some_and(|code| {
            [
                Code::IllegalGeneration,
                Code::UnknownMemberId,
                Code::RebalanceInProgress,
                Code::FencedInstanceId,
                Code::FencedMemberEpoch,
                Code::StaleMemberEpoch,
            ]
            .contains(&code)
        });
        if is_refusal {
            return Ok(false);
        }
        Err(self.failed("hold partitions of")(error))
    }

    pub(crate) fn starts(
        &mut self,
        of: &[Partition],
    ) -> Result<Vec<(Partition, i64)>, StreamError> {
        self.bounds(of, Bound::First)
    }

    pub(crate) fn ends(&mut self, of: &[Partition]) -> Result<Vec<(Partition, i64)>, StreamError> {
        self.bounds(of, Bound::End)
    }

    pub(crate) fn oldest_unread(
        &mut self,
        from: &[(Partition, i64)],
    ) -> Result<Vec<(Partition, DateTime<Utc>)>, StreamError> {
        let partitions: Vec<Partition> = from.iter().map(|(partition, _)| *partition).collect();
        let firsts = self.bounds(&partitions, Bound::First)?;
        let ends = self.bounds(&partitions, Bound::End)?;
        let mut unread = Vec::new();
        for ((partition, position), ((_, first), (_, end))) in
            from.iter().zip(firsts.iter().zip(&ends))
        {
            if end > position {
                unread.push((*partition, *first.max(position)));
            }
        }
        peek::received_at(&self.settings, &unread)
    }

    pub(crate) fn applied(&mut self, positions: &[(Partition, i64)]) {
        const TELL_EVERY: Duration = Duration::from_secs(1);
        if let Some((at, told)) = &self.told
            && (at.elapsed() < TELL_EVERY || told == positions)
        {
            return;
        }
        self.told = Some((Instant::now(), positions.to_vec()));
        self.commit(positions, CommitMode::Async);
    }

    pub(crate) fn close(self, positions: &[(Partition, i64)]) {
        if !self.group.brokers.are_away() {
            self.commit(positions, CommitMode::Sync);
        }
        // Dropping it leaves the group.
    }

    fn commit(&self, positions: &[(Partition, i64)], mode: CommitMode) {
        let list = self.list(positions);
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            // For others' eyes only; the ledger has the positions.
            tracing::debug!(error = %error, "the group does not take the positions");
        }
    }

    /// Fetches anew, from these offsets.
    fn fetch(&mut self, from: &BTreeMap<Partition, i64>) -> Result<(), StreamError> {
        let mut from = from.clone();
        let mut missing = Vec::new();
        let partitions: Vec<Partition> = from.keys().copied().collect();
        let firsts = self.bounds(&partitions, Bound::First)?;
        let ends = self.bounds(&partitions, Bound::End)?;
        for ((partition, position), ((_, first), (_, end))) in
            from.iter_mut().zip(firsts.iter().zip(ends))
        {
            if *position > end {
                return Err(StreamError::Shrunk {
                    partition: *partition,
                    end,
                    position: *position,
                });
            }
            if *position < *first {
                missing.push(gone(*partition, *position, *first)?);
                *position = *first;
            }
        }
        let list: Vec<(Partition, i64)> =
            from.iter().map(|(partition, offset)| (*partition, *offset)).collect();
        self.consumer.assign(&self.list(&list)).map_err(self.failed("read from"))?;
        tracing::debug!(partitions = from.len(), "reads from the ledger's positions");
        self.missing = missing;
        self.next = Some(from);
        Ok(())
    }

    fn bounds(&self, of: &[Partition], bound: Bound) -> Result<Vec<(Partition, i64)>, StreamError> {
        let bounds = self.offsets.of(of, bound, &self.group.brokers)?;
        self.group.brokers.came_back();
        Ok(bounds)
    }

    /// `None` for what is of no partition of ours, or was handed out before.
    fn record(&self, message: &BorrowedMessage<'_>) -> Result<Option<Record>, StreamError> {
        let Some(topic) = self.settings.topics.named(message.topic()) else { return Ok(None) };
        let partition = Partition { topic, number: message.partition() };
        let next = self.next.as_ref().and_then(|next| next.get(&partition));
        if next.is_none_or(|next| message.offset() < *next) {
            return Ok(None);
        }
        let (envelope, defect) = cloud_event::read(message, topic)?;
        Ok(Some(Record { partition, offset: message.offset(), envelope, defect }))
    }

    /// Whether nothing stands before it that was not handed out. A transaction's marks leave gaps, so does
    /// compaction; but a gap is believed only when it is seen again by a fetch from its beginning.
    fn is_next(&mut self, record: &Record) -> bool {
        let expected = self.next.as_ref().and_then(|next| next.get(&record.partition)).copied();
        if expected == Some(record.offset) {
            return true;
        }
        // Each partition has its own: where several have gaps, none makes another's forgotten.
        if self.gaps.insert(record.partition, record.offset) == Some(record.offset) {
            return true;
        }
        // The next read is from what was handed out.
        self.next = None;
        false
    }

    fn handed_out(&mut self, record: &Record) {
        if let Some(next) = &mut self.next {
            next.insert(record.partition, record.offset + 1);
        }
    }

    fn went_wrong(&mut self, error: KafkaError) -> Result<(), StreamError> {
        match error.rdkafka_error_code() {
            // Retention was faster than us: the next fetch looks where the log begins.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.next = None;
                Ok(())
            }
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL,
            ) => {
                // Said again with every attempt to connect, and kept in the queue: whoever stopped at each would hear of
                // an outage for as many reads as it had attempts. The queue's last word counts.
                self.group.brokers.went();
                Ok(())
            }
            // librdkafka tries again by itself.
            Some(_) if client::is_away(&error) => Ok(()),
            _ => {
                // What was skipped for it is no gap.
                self.gaps.clear();
                Err(self.failed("read from")(error))
            }
        }
    }

    fn away(&self) -> StreamError {
        self.group.brokers.away(&self.settings)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(KafkaError) -> StreamError {
        client::failed(&self.settings, &self.group.brokers, action)
    }

    fn list(&self, positions: &[(Partition, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            let name = self.settings.topics.of(partition.topic);
            if let Err(error) =
                list.add_partition_offset(name, partition.number, Offset::Offset(*offset))
            {
                tracing::error!(error = %error, partition = %partition, "an offset is not one");
            }
        }
        list
    }
}

/// What stands for records that the log has dropped: at the last of them, so that the next is the first that is left.
fn gone(partition: Partition, first: i64, next: i64) -> Result<Record, StreamError> {
    tracing::error!(partition = %partition, first, next, "the log has dropped records before they were read");
    let envelope = Envelope {
        id: String::new(),
        topic: partition.topic,
        kind: Kind::NotificationReceived,
        provider: Provider::Alipay,
        app_id: unknown_app()?,
        key: String::new(),
        source: Source::Notification,
        received_at: DateTime::UNIX_EPOCH,
        sequence: None,
        reason: None,
        body: Vec::new(),
    };
    Ok(Record { partition, offset: next - 1, envelope, defect: Some(Defect::Missing { first }) })
}
