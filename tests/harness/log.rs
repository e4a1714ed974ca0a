//! The log, written as the ingress writes it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::DateTime;
use consumer::parity::ParityError;
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};
use stream::{
    AppendError, AppendSettings, Appender, KafkaSettings, Partition, Reader, Record, StreamError,
    TopicNames,
};
use tokio::runtime::{Builder, Runtime};

use super::alipay::APP_ID;
use super::{Broker, Database, wait};

/// Which log this run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
    Postgres,
    Kafka,
}

/// `SUANPAN_TEST_LOG=kafka` runs the same tests over Kafka; `tests/run` does both.
pub(crate) fn kind() -> LogKind {
    match std::env::var("SUANPAN_TEST_LOG").as_deref() {
        Err(_) | Ok("" | "postgres") => LogKind::Postgres,
        Ok("kafka") => LogKind::Kafka,
        Ok(other) => panic!("SUANPAN_TEST_LOG is postgres or kafka, and not {other}"),
    }
}

/// Topics and a group that no other test has.
pub(crate) fn kafka(broker: &Broker) -> KafkaSettings {
    let name = broker.fresh_name();
    let topic = |topic: Topic| format!("{name}.{}", topic.as_str());
    KafkaSettings {
        brokers: broker.address(),
        topics: TopicNames {
            notifications: topic(Topic::Notifications),
            quarantine: topic(Topic::Quarantine),
            dead_letters: topic(Topic::DeadLetters),
            ledger_events: topic(Topic::LedgerEvents),
        },
        group: name,
        partitions: 4,
        replication: 1,
        keep: Duration::from_secs(3600),
        properties: Vec::new(),
    }
}

pub(crate) struct Log {
    pub(crate) appender: Appender,
    runtime: Runtime,
}

impl Log {
    pub(crate) fn open(database: &Database) -> Log {
        Log::with(database, AppendSettings::default())
    }

    pub(crate) fn with(database: &Database, settings: AppendSettings) -> Log {
        Log::over(&database.log, settings)
    }

    pub(crate) fn over(log: &stream::Log, settings: AppendSettings) -> Log {
        let runtime = Builder::new_current_thread().build().unwrap();
        Log { appender: Appender::start(log, settings).unwrap(), runtime }
    }

    pub(crate) fn append(&self, envelope: Envelope) -> Result<(Partition, i64), AppendError> {
        self.block_on(self.appender.append(envelope))
    }

    pub(crate) fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        self.runtime.block_on(task)
    }

    /// All at once, and returns when all are acknowledged.
    pub(crate) fn append_all(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        self.all(envelopes.into_iter().map(|envelope| {
            let appender = self.appender.clone();
            async move { appender.append(envelope).await.unwrap() }
        }));
    }

    /// Runs the tasks beside each other; what each gives, in their order.
    pub(crate) fn all<T: Send + 'static>(
        &self,
        tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        let running: Vec<_> = tasks.into_iter().map(|task| self.runtime.spawn(task)).collect();
        self.runtime.block_on(async {
            let mut done = Vec::new();
            for task in running {
                done.push(task.await.unwrap());
            }
            done
        })
    }
}

/// A notification of our app, received with this body.
pub(crate) fn envelope(key: &str, body: Vec<u8>) -> Envelope {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Envelope {
        id: NEXT.fetch_add(1, Ordering::Relaxed).to_string(),
        topic: Topic::Notifications,
        kind: Kind::NotificationReceived,
        provider: Provider::Alipay,
        app_id: AppId::parse(APP_ID).unwrap(),
        key: format!("{APP_ID}/{key}"),
        source: Source::Notification,
        sequence: None,
        received_at: DateTime::UNIX_EPOCH,
        reason: None,
        body,
    }
}

/// Everything in the consumed topics, read over a new connection.
pub(crate) fn read_all(database: &Database) -> Vec<Record> {
    let mut reader = Reader::beside(&database.log).unwrap();
    let partitions = reader.assignment().unwrap().partitions;
    let mut next = reader.starts(&partitions).unwrap();
    let ends = reader.ends(&partitions).unwrap();
    let mut records = Vec::new();
    wait::until("the log is read to its end", || {
        for record in reader.read(&next, 1_000, Duration::from_millis(100)).unwrap() {
            let (_, next) = next.iter_mut().find(|(other, _)| *other == record.partition).unwrap();
            *next = record.offset + 1;
            records.push(record);
        }
        next.iter().zip(&ends).all(|((_, next), (_, end))| next >= end)
    });
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// How many records are in the consumed topics.
pub(crate) fn count(database: &Database) -> i64 {
    let mut reader = Reader::beside(&database.log).unwrap();
    let partitions = reader.assignment().unwrap().partitions;
    reader.ends(&partitions).unwrap().iter().map(|(_, end)| end).sum()
}

/// Waits until everything in the log is in the ledger.
pub(crate) fn wait_until_applied(log: &stream::Log, database_url: &str) {
    let mut conn = ledger::connect(database_url).unwrap();
    let mut reader = Reader::beside(log).unwrap();
    wait::until("the log is applied", || {
        match consumer::parity::unapplied(log, &mut reader, &mut conn) {
            // A broker that has just been started does not know all of its partitions yet.
            Err(ParityError::Log(StreamError::Away { .. })) => false,
            left => left.unwrap() == 0,
        }
    });
}
