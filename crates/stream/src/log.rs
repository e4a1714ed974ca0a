use std::fmt;
use std::time::Duration;

/// Which log, and how to reach it.
#[derive(Clone, Debug)]
pub enum Log {
    /// Tables in a Postgres.
    Postgres {
        /// May hold a password.
        database_url: String,
    },
    /// Topics at these brokers.
    Kafka(KafkaSettings),
}

/// How to reach a Kafka, and what its topics are to be like.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// How the topics are called there.
    pub topics: TopicNames,
    /// The consumers' group.
    pub group: String,
    /// Of each topic.
    pub partitions: i32,
    /// On how many brokers each message lies.
    pub replication: i32,
    /// How long messages are kept.
    pub keep: Duration,
    /// librdkafka's, security and secrets included.
    pub properties: Vec<(String, String)>,
}

/// The topics' names at the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Raw notifications.
    pub notifications: String,
    /// Genuine ones that failed a check.
    pub quarantine: String,
    /// What could not be applied.
    pub dead_letters: String,
    /// What changed in the ledger.
    pub ledger_events: String,
}

/// Properties by name only: their values may be secrets.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("keep", &self.keep)
            .field("properties", &properties)
            .finish()
    }
}
