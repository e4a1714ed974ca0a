//! Which log the settings mean, in the log's own words.

use std::time::Duration;

use anyhow::{Context, anyhow};
use service::Reference;
use service::settings::{self, LogKind, SaslMechanism, Security, Settings};
use stream::{KafkaSettings, Log, TopicNames};

/// The log of these settings. `database_url` is where the Postgres log lies. The secrets of the Kafka log are
/// read here.
///
/// # Errors
/// Where a reference cannot be followed, or leads to no text; named, with the setting.
pub(crate) fn log(settings: &Settings, database_url: &str) -> anyhow::Result<Log> {
    match (settings.log.kind, &settings.log.kafka) {
        (LogKind::Postgres, _) => Ok(Log::Postgres {
            database_url: database_url.to_owned(),
            partitions: settings.log.partitions,
        }),
        (LogKind::Kafka, None) => Err(anyhow!("the settings have no `[log.kafka]`")),
        (LogKind::Kafka, Some(kafka)) => Ok(Log::Kafka(KafkaSettings {
            brokers: kafka.brokers.clone(),
            topics: TopicNames {
                notifications: kafka.notifications_topic.clone(),
                quarantine: kafka.quarantine_topic.clone(),
                dead_letters: kafka.dead_letters_topic.clone(),
                ledger_events: kafka.ledger_events_topic.clone(),
            },
            group: kafka.group.clone(),
            partitions: settings.log.partitions,
            replication: kafka.replication,
            keep: keep(settings),
            properties: properties(kafka)?,
        })),
    }
}

/// How long the log keeps messages.
pub(crate) fn keep(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.log.keep_hours) * 3600)
}

/// librdkafka's properties: the operator's own, then those that the settings stand for.
fn properties(kafka: &settings::KafkaSettings) -> anyhow::Result<Vec<(String, String)>> {
    let mut properties: Vec<(String, String)> =
        kafka.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut set = |name: &str, value: String| properties.push((name.to_owned(), value));

    set(
        "security.protocol",
        match kafka.security {
            Security::Plaintext => "plaintext",
            Security::Tls => "ssl",
            Security::SaslPlaintext => "sasl_plaintext",
            Security::SaslTls => "sasl_ssl",
        }
        .to_owned(),
    );
    if kafka.security.has_sasl() {
        set(
            "sasl.mechanism",
            match kafka.sasl_mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            }
            .to_owned(),
        );
        if let Some(username) = &kafka.username {
            set("sasl.username", username.clone());
        }
    }
    for (property, setting, reference) in [
        ("sasl.password", "password", &kafka.password),
        ("ssl.ca.pem", "ca", &kafka.ca),
        ("ssl.certificate.pem", "certificate", &kafka.certificate),
        ("ssl.key.pem", "key", &kafka.key),
        ("ssl.key.password", "key_password", &kafka.key_password),
    ] {
        if let Some(reference) = reference {
            set(property, text(setting, reference)?);
        }
    }
    Ok(properties)
}

/// What a setting's reference leads to: something, and no zero byte, which librdkafka takes for the end.
fn text(setting: &str, reference: &Reference) -> anyhow::Result<String> {
    let of_setting = || format!("the `{setting}` of `[log.kafka]`");
    let text = reference.read_text().with_context(of_setting)?;
    if text.is_empty() || text.contains('\0') {
        return Err(anyhow!("`{reference}` is empty or holds a zero byte"))
            .with_context(of_setting);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What becomes of settings with these lines under `[log.kafka]`, in a folder that holds `secret`.
    fn kafka(lines: &str) -> anyhow::Result<KafkaSettings> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "hunter2\r\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let text = format!("[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"b:9092\"\n{lines}");
        let file = folder.path().join("suanpan.toml");
        let settings = Settings::parse(&text, &file, std::iter::empty()).unwrap();
        match log(&settings, "postgres://here")? {
            Log::Kafka(kafka) => Ok(kafka),
            Log::Postgres { .. } => panic!("not Kafka"),
        }
    }

    fn shown(lines: &str) -> Vec<String> {
        let kafka = kafka(lines).unwrap();
        kafka.properties.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_postgres_log_lies_in_the_database() {
        let settings = Settings::parse("", Path::new("suanpan.toml"), std::iter::empty()).unwrap();
        let log = log(&settings, "postgres://here").unwrap();
        let Log::Postgres { database_url, partitions } = log else { panic!("{log:?}") };
        assert_eq!((database_url.as_str(), partitions), ("postgres://here", 4));
    }

    #[test]
    fn topics_group_and_sizes_are_the_settings() {
        let kafka = kafka("group = \"g\"\nreplication = 2\nquarantine_topic = \"q\"").unwrap();
        assert_eq!((kafka.brokers.as_str(), kafka.group.as_str()), ("b:9092", "g"));
        assert_eq!((kafka.partitions, kafka.replication), (4, 2));
        assert_eq!(kafka.keep, Duration::from_secs(168 * 3600));
        assert_eq!(kafka.topics.notifications, "suanpan.notifications");
        assert_eq!(kafka.topics.quarantine, "q");
        assert_eq!(kafka.topics.dead_letters, "suanpan.dead-letters");
        assert_eq!(kafka.topics.ledger_events, "suanpan.ledger-events");
    }

    #[test]
    fn security_becomes_librdkafkas_properties_with_the_secrets_read() {
        assert_eq!(shown(""), ["security.protocol=plaintext"]);
        assert_eq!(
            shown("security = \"tls\"\nca = \"secret\"\nproperties.linger.ms = 2"),
            ["linger.ms=2", "security.protocol=ssl", "ssl.ca.pem=hunter2"]
        );
        let lines = r#"
            security = "sasl_tls"
            username = "suanpan"
            password = "file:secret"
            certificate = "secret"
            key = "file:secret"
            key_password = "file:secret"
        "#;
        assert_eq!(
            shown(lines),
            [
                "security.protocol=sasl_ssl",
                "sasl.mechanism=SCRAM-SHA-512",
                "sasl.username=suanpan",
                "sasl.password=hunter2",
                "ssl.certificate.pem=hunter2",
                "ssl.key.pem=hunter2",
                "ssl.key.password=hunter2",
            ]
        );
        let plain = r#"
            security = "sasl_plaintext"
            sasl_mechanism = "PLAIN"
            username = "u"
            password = "file:secret"
        "#;
        assert_eq!(
            shown(plain),
            [
                "security.protocol=sasl_plaintext",
                "sasl.mechanism=PLAIN",
                "sasl.username=u",
                "sasl.password=hunter2",
            ]
        );
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_with_its_setting() {
        for (reference, words) in [
            ("file:nowhere", "nowhere"),
            ("file:empty", "empty"),
            ("env:SUANPAN_TEST_NEVER_SET", "SUANPAN_TEST_NEVER_SET"),
        ] {
            let lines =
                format!("security = \"sasl_tls\"\nusername = \"u\"\npassword = \"{reference}\"");
            let error = service::chain(&*kafka(&lines).unwrap_err());
            assert!(error.contains("the `password` of `[log.kafka]`"), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }
}
