use std::time::Duration;

use payment::Envelope;

use crate::{Log, Partition, StreamError, kafka, postgres};

/// Appends envelopes to the log, from any number of tasks. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Appender(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Postgres(postgres::Appender),
    Kafka(kafka::Appender),
}

/// The appender's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendSettings {
    /// How many envelopes may wait. Default 8192.
    pub queue: usize,
    /// How many bytes may wait. Default 64 MiB.
    pub queue_bytes: usize,
    /// How many envelopes one transaction takes; Kafka's batches are librdkafka's. Default 512.
    pub batch: usize,
    /// After how many bytes a transaction takes no more. Default 4 MiB.
    pub batch_bytes: usize,
    /// How long one statement may take (Postgres), or the delivery of one record with all its retries
    /// (Kafka). Default 10 s.
    pub deadline: Duration,
}

/// Why an envelope was not appended; never for another envelope's sake, unless the whole log is away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits already.
    #[error("the log takes less than comes in; too much waits")]
    Full,
    /// The log is away, or failed. The envelope may still have been appended, if it failed while
    /// committing: whoever sends it again makes a duplicate, which readers recognise.
    #[error("the log is not available")]
    Unavailable,
    /// A Postgres can never hold this envelope.
    #[error("`{field}` has a zero byte, which the log cannot hold")]
    ZeroByte {
        /// Which field of the envelope.
        field: &'static str,
    },
    /// The log's limit for one record is smaller.
    #[error(
        "the message has {bytes} bytes, more than the topic takes; raise its `max.message.bytes`"
    )]
    TooLarge {
        /// The body's length.
        bytes: usize,
    },
}

impl Appender {
    /// Connects.
    ///
    /// # Errors
    /// When the log cannot be reached, or has no partitions.
    pub fn start(log: &Log, settings: AppendSettings) -> Result<Appender, StreamError> {
        Ok(Appender(match log {
            Log::Postgres { database_url, .. } => {
                Inner::Postgres(postgres::Appender::start(database_url, settings)?)
            }
            Log::Kafka(kafka) => Inner::Kafka(kafka::Appender::start(kafka, settings)?),
        }))
    }

    /// Appends one envelope to its topic, in the partition of its key. `Ok`, with its place, only when it is
    /// durable: committed by Postgres, or acknowledged by all of Kafka's replicas that are in sync.
    ///
    /// Dropping the future does not undo it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, envelope: Envelope) -> Result<(Partition, i64), AppendError> {
        match &self.0 {
            Inner::Postgres(appender) => appender.append(envelope).await,
            Inner::Kafka(appender) => appender.append(envelope).await,
        }
    }

    /// Whether the log was there when last seen. While it is away, it is looked for every second.
    pub fn is_connected(&self) -> bool {
        match &self.0 {
            Inner::Postgres(appender) => appender.is_connected(),
            Inner::Kafka(appender) => appender.is_connected(),
        }
    }

    /// Takes nothing more, appends what waits, and returns when that is done. Other clones' appends
    /// fail from now on.
    pub fn close(self) {
        match self.0 {
            Inner::Postgres(appender) => appender.close(),
            Inner::Kafka(appender) => appender.close(),
        }
    }
}

impl Default for AppendSettings {
    fn default() -> Self {
        AppendSettings {
            queue: 8_192,
            queue_bytes: 64 << 20,
            batch: 512,
            batch_bytes: 4 << 20,
            deadline: Duration::from_secs(10),
        }
    }
}
