use rdkafka::error::KafkaError;

use crate::Partition;

/// Why the log cannot be used. Never holds a record's content.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No connection to the database.
    #[error("cannot connect to the log's database")]
    Connect(#[source] diesel::ConnectionError),
    /// The database refused a statement, or the connection broke.
    #[error("cannot {action} the log")]
    Query {
        /// `read`, `append to`...
        action: &'static str,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
    /// The log has not been set up.
    #[error("the log has no partitions; run `suanpan migrate`")]
    NoPartitions,
    /// A partition that was there is gone.
    #[error("the log's partition {0} is missing; was the database replaced?")]
    PartitionMissing(Partition),
    /// A number that the database's columns cannot hold.
    #[error("the log is full: a number in it is larger than the database can hold")]
    TooLarge,
    /// The log ends before what was read from it.
    #[error(
        "{partition} of the log ends at {end}, but the ledger has applied it up to {position}: was the log \
         replaced? A new log needs topics of other names"
    )]
    Shrunk {
        /// Which.
        partition: Partition,
        /// The offset that its next record will get.
        end: i64,
        /// The offset that was to be read next.
        position: i64,
    },
    /// No broker answers.
    #[error("none of the brokers `{brokers}` answers{}", after_colon(why.as_deref()))]
    Away {
        /// As in the settings.
        brokers: String,
        /// Why the last connection was not made, where that is known to be no passing trouble: a wrong password, a
        /// certificate that nobody here trusts. librdkafka's words, which hold no secret.
        why: Option<String>,
    },
    /// A broker, or librdkafka, refuses.
    #[error("cannot {action} Kafka at `{brokers}`")]
    Kafka {
        /// `join a group of`, `look for the topics of`...
        action: &'static str,
        /// As in the settings.
        brokers: String,
        /// What it says.
        #[source]
        source: KafkaError,
    },
    /// librdkafka does not take a property. Its value is not repeated: it may be a secret.
    #[error("Kafka's property `{name}` is not taken ({why}); see `[log.kafka.properties]`")]
    Property {
        /// Which.
        name: String,
        /// librdkafka's words, or none where they could repeat a secret.
        why: String,
    },
    /// A topic is missing, or not as the settings want it.
    #[error("topic `{topic}` {what}; {remedy}")]
    Unfit {
        /// Its name.
        topic: String,
        /// What is wrong.
        what: String,
        /// What to run.
        remedy: String,
    },
    /// The system gives no thread, or no runtime.
    #[error("cannot start the thread that works on the log")]
    Thread(#[source] std::io::Error),
}

fn after_colon(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}; see `[log.kafka]`"))
}

/// For `map_err`: what was tried.
pub(crate) fn query(action: &'static str) -> impl FnOnce(diesel::result::Error) -> StreamError {
    move |source| StreamError::Query { action, source }
}
