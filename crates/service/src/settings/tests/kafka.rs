use super::*;

/// `[log]` and `[log.kafka]`, with these lines from line 5 on.
fn kafka(lines: &str) -> String {
    format!("[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"a:9092\"\n{lines}")
}

fn read_kafka(text: &str, env: &[(&str, &str)]) -> KafkaSettings {
    read(text, env).unwrap().log.kafka.unwrap()
}

const SASL: &str = "security = \"sasl_tls\"\nusername = \"suanpan\"\npassword = \"env:KAFKA\"\n";

#[test]
fn brokers_are_enough() {
    let settings = read(&kafka(""), &[]).unwrap();
    assert_eq!(settings.log.kind, LogKind::Kafka);
    let kafka = settings.log.kafka.unwrap();
    assert_eq!(kafka.brokers, "a:9092");
    assert_eq!(kafka.notifications_topic, "suanpan.notifications");
    assert_eq!(kafka.quarantine_topic, "suanpan.quarantine");
    assert_eq!(kafka.dead_letters_topic, "suanpan.dead-letters");
    assert_eq!(kafka.ledger_events_topic, "suanpan.ledger-events");
    assert_eq!((kafka.group.as_str(), kafka.replication), ("suanpan", 3));
    assert_eq!(kafka.security, Security::Plaintext);
    assert!(kafka.properties.is_empty());
}

#[test]
fn every_name_of_the_section_is_read() {
    let kafka = read_kafka(
        r#"
            [log]
            kind = "kafka"
            [log.kafka]
            brokers = "a:9092, [::1]:9093"
            notifications_topic = "pay.in"
            quarantine_topic = "pay.aside"
            dead_letters_topic = "pay.dead"
            ledger_events_topic = "pay.out"
            group = "pay"
            replication = 2
            security = "sasl_tls"
            sasl_mechanism = "SCRAM-SHA-256"
            username = "suanpan"
            password = "file:kafka.password"
            ca = "kafka/ca.pem"
            certificate = "file:kafka/client.pem"
            key = "env:KAFKA_KEY"
            key_password = "file:/run/secrets/key"
            [log.kafka.properties]
            socket.keepalive.enable = true
            socket.timeout.ms = 30000
            "linger.ms" = 2
            client.id = "suanpan-1"
        "#,
        &[],
    );
    assert_eq!(kafka.brokers, "a:9092,[::1]:9093");
    assert_eq!(kafka.notifications_topic, "pay.in");
    assert_eq!(kafka.quarantine_topic, "pay.aside");
    assert_eq!(kafka.dead_letters_topic, "pay.dead");
    assert_eq!(kafka.ledger_events_topic, "pay.out");
    assert_eq!((kafka.group.as_str(), kafka.replication), ("pay", 2));
    assert_eq!(kafka.security, Security::SaslTls);
    assert_eq!(kafka.sasl_mechanism, SaslMechanism::ScramSha256);
    assert_eq!(kafka.username.as_deref(), Some("suanpan"));
    let place = |reference: &Option<Reference>| reference.as_ref().unwrap().to_string();
    assert_eq!(place(&kafka.password), "file:/etc/kafka.password");
    assert_eq!(place(&kafka.ca), "file:/etc/kafka/ca.pem");
    assert_eq!(place(&kafka.certificate), "file:/etc/kafka/client.pem");
    assert_eq!(place(&kafka.key), "env:KAFKA_KEY");
    assert_eq!(place(&kafka.key_password), "file:/run/secrets/key");
    let properties: Vec<_> = kafka.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        properties,
        [
            "client.id=suanpan-1",
            "linger.ms=2",
            "socket.keepalive.enable=true",
            "socket.timeout.ms=30000"
        ]
    );
}

#[test]
fn kafkas_own_words_for_tls_are_understood() {
    let security = |word: &str| {
        let lines = SASL.replace("sasl_tls", word);
        read_kafka(&kafka(if word == "ssl" { "security = \"ssl\"" } else { &lines }), &[]).security
    };
    assert_eq!(security("ssl"), Security::Tls);
    assert_eq!(security("sasl_ssl"), Security::SaslTls);
    assert_eq!(security("sasl_plaintext"), Security::SaslPlaintext);
}

#[test]
fn variables_override_kafkas_settings_and_properties() {
    let env = [
        ("SUANPAN__LOG__KAFKA__BROKERS", "b:9092,c:9092"),
        ("SUANPAN__LOG__KAFKA__REPLICATION", "1"),
        ("SUANPAN__LOG__KAFKA__PROPERTIES__SOCKET_KEEPALIVE_ENABLE", "false"),
        ("SUANPAN__LOG__KAFKA__PROPERTIES__linger.ms", "9"),
        ("SUANPAN__LOG__KAFKA__PROPERTIES__CLIENT_ID", "x_1"),
    ];
    for properties in [
        "[log.kafka.properties]\nsocket.keepalive.enable = true\nlinger.ms = 2",
        "[log.kafka.properties]\n\"socket.keepalive.enable\" = true\n\"linger.ms\" = 2",
        "",
    ] {
        let kafka = read_kafka(&kafka(properties), &env);
        assert_eq!((kafka.brokers.as_str(), kafka.replication), ("b:9092,c:9092", 1));
        let value = |name: &str| kafka.properties.get(name).map(String::as_str);
        assert_eq!(value("socket.keepalive.enable"), Some("false"), "{properties}");
        assert_eq!((value("linger.ms"), value("client.id")), (Some("9"), Some("x_1")));
        assert_eq!(kafka.properties.len(), 3);
    }
    let env = [("SUANPAN__LOG__KIND", "kafka"), ("SUANPAN__LOG__KAFKA__BROKERS", "b:9092")];
    assert_eq!(read_kafka("", &env).brokers, "b:9092");
}

#[test]
fn what_is_wrong_about_kafka_is_told_with_its_line() {
    let property = |line: &str| kafka(&format!("[log.kafka.properties]\n{line}"));
    for (text, line, words) in [
        ("[log]\nkind = \"kafka\"", 2, "add `[log.kafka] brokers"),
        ("\n[log.kafka]\nbrokers = \"h:9092\"", 2, "write `kind = \"kafka\"`"),
        ("[log]\nkind = \"kafka\"\n[log.kafka]\ngroup = \"x\"", 3, "missing field `brokers`"),
        ("[log]\nkind = \"kafka\"\nkafka.brokers = \"kafka\"", 3, "`kafka` is no broker"),
        (&kafka("topic = \"x\""), 5, "unknown field `topic`"),
        (&kafka("group = \"\""), 5, "in `log.kafka.group`"),
        (&kafka("replication = 8"), 5, "`8` is not from 1 to 7"),
        (&kafka("quarantine_topic = \"a/b\""), 5, "in `log.kafka.quarantine_topic`"),
        (&kafka("quarantine_topic = \"..\""), 5, "in `log.kafka.quarantine_topic`"),
        (
            &kafka("\nquarantine_topic = \"suanpan_ledger-events\""),
            6,
            "`log.kafka.ledger_events_topic` must be another topic in `log.kafka.quarantine_topic`",
        ),
        (&kafka("security = \"tsl\""), 5, "in `log.kafka.security`"),
        (&kafka("security = \"sasl_tls\""), 5, "needs `username` and `password`"),
        (&kafka("username = \"x\"\nsecurity = \"sasl_tls\""), 6, "needs `password`"),
        (&kafka("password = \"env:X\""), 5, "in `log.kafka.password`"),
        (&kafka("security = \"tls\"\nusername = \"x\""), 6, "in `log.kafka.username`"),
        (&kafka("sasl_mechanism = \"PLAIN\""), 5, "in `log.kafka.sasl_mechanism`"),
        (&kafka(&format!("{SASL}sasl_mechanism = \"GSSAPI\"")), 8, "`SCRAM-SHA-256`"),
        (&kafka("password = \"hunter2\""), 5, "references"),
        (&kafka("ca = \"ca.pem\""), 5, "it counts with TLS only"),
        (&kafka("security = \"tls\"\nca = \"\"\"-----BEGIN\nX\"\"\""), 6, "not the text itself"),
        (&kafka("security = \"tls\"\nkey = \"file:k\""), 6, "a key needs its `certificate`"),
        (&kafka("security = \"tls\"\ncertificate = \"c\""), 6, "a certificate needs its `key`"),
        (
            &kafka("security = \"tls\"\nca = \"c\"\nproperties.ssl.ca.location = \"d\""),
            6,
            "the property `ssl.ca.location` says the same",
        ),
        (&kafka("properties = 5"), 5, "a table of librdkafka's properties"),
        (&property("linger.ms = 0.5"), 6, "a text, a whole number, true or false"),
        (&property("linger.ms = 1\n\"linger.ms\" = 1"), 7, "`linger.ms` is given twice"),
        (&property("\"Linger MS\" = 1"), 6, "no name of a librdkafka property"),
        (&property("linger.ms = 1\nacks = 1"), 7, "`acks` cannot be set here: `success` promises"),
        (&property("sasl.password = \"hunter2\""), 6, "`[log.kafka] password`"),
    ] {
        let error = read(text, &[]).unwrap_err();
        let place = format!("/etc/suanpan.toml, line {line}: ");
        assert!(error.starts_with(&place) && error.contains(words), "{text}\n=> {error}");
        assert!(!error.contains("hunter2"), "a secret is repeated: {error}");
    }
}

#[test]
fn properties_that_are_not_the_operators_are_refused_by_name_in_the_file_and_as_variables() {
    for name in [
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "group.id",
        "bootstrap.servers",
        "metadata.broker.list",
        "security.protocol",
        "sasl.password",
        "sasl.username",
        "sasl.mechanism",
        "sasl.mechanisms",
        "ssl.key.password",
        "ssl.key.pem",
        "transactional.id",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "partition.assignment.strategy",
        "partitioner",
        "plugin.library.paths",
    ] {
        let words = format!("`{name}` cannot be set here: ");
        for key in [name.to_owned(), format!("\"{name}\"")] {
            let text = kafka(&format!("[log.kafka.properties]\n{key} = \"all\""));
            let error = read(&text, &[]).unwrap_err();
            assert!(error.starts_with("/etc/suanpan.toml, line 6: "), "{error}");
            assert!(error.contains(&words), "{error}");
        }
        let variable = name.to_ascii_uppercase().replace('.', "_");
        let variable = format!("SUANPAN__LOG__KAFKA__PROPERTIES__{variable}");
        let error = read(&kafka(""), &[(&variable, "all")]).unwrap_err();
        let place = format!("environment variable `{variable}`: ");
        assert!(error.starts_with(&place) && error.contains(&words), "{error}");
    }
}
