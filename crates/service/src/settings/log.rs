use std::collections::BTreeMap;

use serde::Deserialize;

use super::overlay::Contradiction;
use super::{field, properties};
use crate::Reference;

/// `[log]`: the log between the rooms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Which log. Default `postgres`.
    pub kind: LogKind,
    /// Into how many parts each topic is cut, 1 to 1000; can only grow. Default 4.
    #[serde(deserialize_with = "field::within::<_, _, 1, 1_000>")]
    pub partitions: i32,
    /// How long messages are kept, 1 to 87600 hours; in Postgres only applied ones go. Default 168, a week.
    #[serde(deserialize_with = "field::within::<_, _, 1, 87_600>")]
    pub keep_hours: u32,
    /// `[log.kafka]`: there when `kind` is `kafka`, and only then.
    pub kafka: Option<KafkaSettings>,
}

/// Which log carries the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// Tables in the same Postgres.
    #[default]
    Postgres,
    /// Topics of Apache Kafka, or of what speaks its protocol.
    Kafka,
}

/// `[log.kafka]`: which brokers, which topics, and how to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Some of the cluster's brokers: `host:port`, separated by commas, without blanks.
    #[serde(deserialize_with = "field::brokers")]
    pub brokers: String,
    /// The raw notifications. Default `suanpan.notifications`.
    #[serde(default = "notifications_topic", deserialize_with = "field::topic")]
    pub notifications_topic: String,
    /// Genuine ones that failed a check. Default `suanpan.quarantine`.
    #[serde(default = "quarantine_topic", deserialize_with = "field::topic")]
    pub quarantine_topic: String,
    /// What could not be applied. Default `suanpan.dead-letters`.
    #[serde(default = "dead_letters_topic", deserialize_with = "field::topic")]
    pub dead_letters_topic: String,
    /// What changed in the ledger. Default `suanpan.ledger-events`.
    #[serde(default = "ledger_events_topic", deserialize_with = "field::topic")]
    pub ledger_events_topic: String,
    /// The consumers' group. Default `suanpan`.
    #[serde(default = "group", deserialize_with = "field::group")]
    pub group: String,
    /// On how many brokers a message lies, 1 to 7. Default 3.
    #[serde(default = "replication", deserialize_with = "field::within::<_, _, 1, 7>")]
    pub replication: i32,
    /// Default `plaintext`.
    #[serde(default)]
    pub security: Security,
    /// How the password is proved. Default `SCRAM-SHA-512`. Counts with SASL only.
    #[serde(default)]
    pub sasl_mechanism: SaslMechanism,
    /// Given with SASL, and only then.
    #[serde(default)]
    pub username: Option<String>,
    /// Given with SASL, and only then. Line ends behind it do not count.
    #[serde(default)]
    pub password: Option<Reference>,
    /// PEM of those who may vouch for the brokers; a plain path is a file. Absent: the system's.
    #[serde(default, deserialize_with = "field::reference_or_path")]
    pub ca: Option<Reference>,
    /// Our own certificate, where the brokers ask for one; PEM. A plain path is a file.
    #[serde(default, deserialize_with = "field::reference_or_path")]
    pub certificate: Option<Reference>,
    /// The certificate's private key; PEM.
    #[serde(default)]
    pub key: Option<Reference>,
    /// What opens the key, if it is encrypted. Line ends behind it do not count.
    #[serde(default)]
    pub key_password: Option<Reference>,
    /// librdkafka's properties, as it names and writes them; none that another setting or a promise decides.
    #[serde(default, deserialize_with = "properties::read")]
    pub properties: BTreeMap<String, String>,
}

/// What the connection to the brokers is protected by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Nothing.
    #[default]
    Plaintext,
    /// TLS; Kafka calls it SSL.
    #[serde(alias = "ssl")]
    Tls,
    /// A password over a connection that everybody on the way can read.
    SaslPlaintext,
    /// A password over TLS.
    #[serde(alias = "sasl_ssl")]
    SaslTls,
}

/// How a password is proved to the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    /// By sending it.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Security {
    /// Whether TLS is spoken.
    pub fn has_tls(self) -> bool {
        match self {
            Security::Tls | Security::SaslTls => true,
            Security::Plaintext | Security::SaslPlaintext => false,
        }
    }

    /// Whether a password is proved.
    pub fn has_sasl(self) -> bool {
        match self {
            Security::SaslPlaintext | Security::SaslTls => true,
            Security::Plaintext | Security::Tls => false,
        }
    }
}

impl LogSettings {
    /// What each setting allows by itself and all of them together do not. `is_given` knows which keys
    /// were written.
    pub(super) fn contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        match (self.kind, &self.kafka) {
            (LogKind::Kafka, Some(kafka)) => kafka.contradiction(is_given),
            (LogKind::Kafka, None) => Some(Contradiction::at(
                "log.kind",
                "`kafka` needs to know the brokers: add `[log.kafka] brokers = \"host:9092\"`",
            )),
            (LogKind::Postgres, None) => None,
            // Which of the two was meant decides where every notification goes.
            (LogKind::Postgres, Some(_)) => Some(Contradiction::at(
                "log.kafka",
                "the log is `postgres`: write `kind = \"kafka\"` under `[log]`, or leave this section out",
            )),
        }
    }
}

impl KafkaSettings {
    fn contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        self.sasl_contradiction(&is_given)
            .or_else(|| self.tls_contradiction(&is_given))
            .or_else(|| self.topic_contradiction(is_given))
    }

    fn sasl_contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        if self.security.has_sasl() {
            let missing = match (&self.username, &self.password) {
                (Some(_), Some(_)) => return None,
                (None, Some(_)) => "`username`",
                (Some(_), None) => "`password`",
                (None, None) => "`username` and `password`",
            };
            return Some(Contradiction::at(
                "log.kafka.security",
                &format!("SASL needs {missing}, which the section does not give"),
            ));
        }
        let of_sasl = ["log.kafka.password", "log.kafka.username", "log.kafka.sasl_mechanism"];
        let key = of_sasl.into_iter().find(|key| is_given(key))?;
        Some(Contradiction::at(
            key,
            "nobody would be told it: it needs `security = \"sasl_tls\"`, or `sasl_plaintext`",
        ))
    }

    fn tls_contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        let of_tls = [
            ("log.kafka.ca", "ssl.ca.location"),
            ("log.kafka.certificate", "ssl.certificate.location"),
            ("log.kafka.key", "ssl.key.location"),
            ("log.kafka.key_password", "ssl.keystore.location"),
        ];
        for (key, property) in of_tls {
            if !is_given(key) {
                continue;
            }
            if !self.security.has_tls() {
                let words = "it counts with TLS only: write `security = \"tls\"`, or `sasl_tls`";
                return Some(Contradiction::at(key, words));
            }
            if self.properties.contains_key(property) {
                let words = format!("the property `{property}` says the same; give one of the two");
                return Some(Contradiction::at(key, &words));
            }
        }
        match (&self.certificate, &self.key, &self.key_password) {
            (Some(_), None, _) if !self.properties.contains_key("ssl.key.location") => {
                Some(Contradiction::at("log.kafka.certificate", "a certificate needs its `key`"))
            }
            (None, Some(_), _) if !self.properties.contains_key("ssl.certificate.location") => {
                Some(Contradiction::at("log.kafka.key", "a key needs its `certificate`"))
            }
            (_, _, _) => None,
        }
    }

    fn topic_contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        let topics = [
            ("log.kafka.notifications_topic", &self.notifications_topic),
            ("log.kafka.quarantine_topic", &self.quarantine_topic),
            ("log.kafka.dead_letters_topic", &self.dead_letters_topic),
            ("log.kafka.ledger_events_topic", &self.ledger_events_topic),
        ];
        let mut seen = BTreeMap::new();
        for (key, topic) in topics {
            // Kafka refuses a topic whose name differs from another's only in this.
            if let Some((other, name)) = seen.insert(topic.replace('_', "."), (key, topic)) {
                let (told, of) = if is_given(key) { (key, other) } else { (other, key) };
                let words = format!(
                    "`{topic}` and `{name}` are one name to Kafka; `{of}` must be another topic"
                );
                return Some(Contradiction::at(told, &words));
            }
        }
        None
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { kind: LogKind::Postgres, partitions: 4, keep_hours: 168, kafka: None }
    }
}

fn notifications_topic() -> String {
    "suanpan.notifications".to_owned()
}

fn quarantine_topic() -> String {
    "suanpan.quarantine".to_owned()
}

fn dead_letters_topic() -> String {
    "suanpan.dead-letters".to_owned()
}

fn ledger_events_topic() -> String {
    "suanpan.ledger-events".to_owned()
}

fn group() -> String {
    "suanpan".to_owned()
}

fn replication() -> i32 {
    3
}
