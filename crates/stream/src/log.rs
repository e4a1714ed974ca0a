use std::fmt;
use std::time::Duration;

use payment::Topic;

/// Which log, and how to reach it.
#[derive(Clone, Debug)]
pub enum Log {
    /// Tables in a Postgres.
    Postgres {
        /// As libpq takes it.
        database_url: String,
        /// Into how many parts each topic is cut; only ever grows.
        partitions: i32,
    },
    /// Apache Kafka, or whatever speaks its protocol.
    Kafka(KafkaSettings),
}

/// A Kafka cluster, and our topics in it.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// The topics' names there.
    pub topics: TopicNames,
    /// The consumers' group; it divides the partitions, and keeps no position that counts.
    pub group: String,
    /// Into how many parts each topic is cut; only ever grows.
    pub partitions: i32,
    /// On how many brokers each record is kept.
    pub replication: i32,
    /// For how long records are kept.
    pub keep: Duration,
    /// librdkafka's properties, security and secrets included. What our promises rest on is set after them.
    pub properties: Vec<(String, String)>,
}

/// What the topics are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// [`Topic::Notifications`]
    pub notifications: String,
    /// [`Topic::Quarantine`]
    pub quarantine: String,
    /// [`Topic::DeadLetters`]
    pub dead_letters: String,
    /// [`Topic::LedgerEvents`]
    pub ledger_events: String,
}

impl Log {
    /// What the topic is called in this log; the ledger names places by it.
    pub fn topic_name(&self, topic: Topic) -> &str {
        match self {
            Log::Postgres { .. } => topic.as_str(),
            Log::Kafka(settings) => settings.topics.of(topic),
        }
    }
}

impl TopicNames {
    /// The topic's name.
    pub fn of(&self, topic: Topic) -> &str {
        match topic {
            Topic::Notifications => &self.notifications,
            Topic::Quarantine => &self.quarantine,
            Topic::DeadLetters => &self.dead_letters,
            Topic::LedgerEvents => &self.ledger_events,
        }
    }

    /// The topic of that name.
    pub fn named(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.of(*topic) == name)
    }
}

impl Default for TopicNames {
    fn default() -> Self {
        let name = |topic: &str| format!("suanpan.{topic}");
        TopicNames {
            notifications: name("notifications"),
            quarantine: name("quarantine"),
            dead_letters: name("dead-letters"),
            ledger_events: name("ledger-events"),
        }
    }
}

/// Names the properties and never their values: passwords are among them.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("keep", &self.keep)
            .field("properties", &names)
            .finish()
    }
}
