//! The log, written as the ingress writes it.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::DateTime;
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};
use stream::{AppendError, AppendSettings, Appender, Partition, Reader, Record};
use tokio::runtime::{Builder, Runtime};

use super::Database;
use super::alipay::APP_ID;

pub(crate) struct Log {
    pub(crate) appender: Appender,
    runtime: Runtime,
}

impl Log {
    pub(crate) fn open(database: &Database) -> Log {
        Log::with(database, AppendSettings::default())
    }

    pub(crate) fn with(database: &Database, settings: AppendSettings) -> Log {
        let runtime = Builder::new_current_thread().build().unwrap();
        Log { appender: Appender::start(&database.url, settings).unwrap(), runtime }
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

/// Everything in the log, read over a new connection.
pub(crate) fn read_all(database: &Database) -> Vec<Record> {
    let mut reader = Reader::open(&database.url).unwrap();
    let from: Vec<(Partition, i64)> =
        reader.partitions().unwrap().into_iter().map(|partition| (partition, 0)).collect();
    reader.read(&from, usize::from(u16::MAX), std::time::Duration::ZERO).unwrap()
}
