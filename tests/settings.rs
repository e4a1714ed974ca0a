//! The settings file and the variables laid over it: what is wrong is named with its place.

use std::path::Path;

use service::Settings;
use service::settings::KafkaSettings;

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Ended;
use crate::harness::home::{Home, settings};

/// A command that reads the settings first. The text takes the place of the settings file.
fn start_with(home: &Home, text: &str) -> Ended {
    home.write("suanpan.toml", text);
    home.run(&["verify", "--app", APP_ID])
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_key_its_file_and_its_line() {
    let home = Home::with_private_cluster();
    let good = settings("file:alipay.pem");
    assert_eq!(start_with(&home, &good).code, Some(1), "an empty body, read with good settings");
    for (from, to, line, words) in [
        ("data_dir =", "data_folder =", 1, "data_folder"),
        ("[admin]", "[admin]\nport = 9090", 7, "port"),
        ("[admin]", "[metrics]", 6, "metrics"),
        ("seller_id =", "pid =", 12, "pid"),
        (r#""127.0.0.1:0""#, "8080", 4, "listen"),
        (r#""127.0.0.1:0""#, r#""localhost""#, 4, "listen"),
        ("data_dir =", "data_dir = 5\n#", 1, "data_dir"),
        (r#"fee_rate = "0.006""#, "fee_rate = 0.006", 15, "fee_rate"),
        (r#"fee_rate = "0.006""#, r#"fee_rate = "6e-3""#, 15, "fee_rate"),
        (r#""sandbox""#, r#""staging""#, 13, "environment"),
        (r#""file:alipay.pem""#, "", 14, "verification_keys"),
        (r#""file:alipay.pem""#, r#""MIIBIjANBgkqhkiG9w0BAQ""#, 14, "verification_keys"),
        ("[ingress]", "[ingress", 3, ""),
        ("[ingress]", "[log]\nkind = \"kafka\"\n[ingress]", 4, "brokers"),
        ("[ingress]", "[log.kafka]\nbrokers = \"host:9092\"\n[ingress]", 3, "kind = \"kafka\""),
        ("[ingress]", "[log]\nkafka.brokers = \"host\"\n[ingress]", 4, "`host:port`"),
        (
            "[ingress]",
            "[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"h:1\"\nproperties.acks = 1\n[ingress]",
            7,
            "`acks` cannot be set here: `success` promises",
        ),
        ("[ingress]", "[stop]\ndelay_ms = 20000\n[ingress]", 4, "stop.delay_ms"),
        (
            "fee_rate =",
            "verification_certificates = [\"file:alipay.crt\"]\nfee_rate =",
            15,
            "certificate mode is not in this version",
        ),
        ("fee_rate =", "root_certificate = \"file:root.crt\"\nfee_rate =", 15, "certificate mode"),
        ("fee_rate =", "app_certificate = \"file:app.crt\"\nfee_rate =", 15, "certificate mode"),
    ] {
        assert!(good.contains(from), "{from}");
        let ended = start_with(&home, &good.replacen(from, to, 1));
        ended.assert_refused(&["suanpan.toml", &format!("line {line}"), words]);
        assert!(!ended.stderr.contains("MIIBIjANBgkqhkiG9w0BAQ"), "a key's text: {}", ended.stderr);
    }
    let twice = format!("{good}{}", &good[good.find("[[app]]").unwrap()..]);
    start_with(&home, &twice).assert_refused(&["suanpan.toml", "line 18", APP_ID]);
    let none = &good[..good.find("[[app]]").unwrap()];
    start_with(&home, none).assert_refused(&["suanpan.toml", "[[app]]"]);
}

#[test]
fn a_variable_overrides_the_file_and_a_wrong_one_is_named() {
    for (name, value, words) in [
        ("SUANPAN__INGRESS__PORT", "8080", "port"),
        ("SUANPAN__INGRES__LISTEN", "127.0.0.1:0", "ingres"),
        ("SUANPAN__INGRESS__LISTEN", "here", ""),
        ("SUANPAN__LOG__KIND", "kafka", "brokers"),
        ("SUANPAN__LOG__KAFKA__BROKERS", "host:9092", "kind = \"kafka\""),
        ("SUANPAN__STOP__LIMIT_MS", "soon", "whole number"),
        ("SUANPAN__APP__7__ID", "2021000000000009", ""),
    ] {
        let home = Home::with_private_cluster().variable(name, value);
        home.run(&["verify", "--app", APP_ID]).assert_refused(&[name, words]);
    }
    let home = Home::with_private_cluster().variable("SUANPAN__APP__0__ID", "2021000000000009");
    home.run(&["verify", "--app", APP_ID]).assert_refused(&["is not in the settings"]);
    assert_eq!(home.run(&["verify", "--app", "2021000000000009"]).code, Some(1));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let home = Home::with_private_cluster();
    std::fs::remove_file(home.path("suanpan.toml")).unwrap();
    home.run(&["verify", "--app", APP_ID]).assert_refused(&["suanpan.toml", "--config"]);
}

#[test]
fn a_database_that_cannot_be_reached_is_refused_without_its_password() {
    let home = Home::with_private_cluster()
        .variable("SUANPAN__DATABASE__URL", "env:SUANPAN_TEST_DATABASE")
        .variable("SUANPAN_TEST_DATABASE", "postgres://suanpan:top-secret@127.0.0.1:1/suanpan");
    let ended = home.run(&["quarantine", "list"]);
    ended.assert_refused(&[]);
    assert!(!ended.stderr.contains("top-secret"), "{}", ended.stderr);
}

#[test]
fn the_settings_that_are_shipped_are_good_and_show_every_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/suanpan.toml");
    let shipped = Settings::load(&file, std::iter::empty()).unwrap();
    let default = Settings::default();
    assert_eq!(shipped.database, default.database);
    assert_eq!(shipped.log, default.log);
    assert_eq!(shipped.ingress, default.ingress);
    assert_eq!(shipped.admin, default.admin);
    assert_eq!(shipped.console, default.console);
    assert_eq!(shipped.reconciliation, default.reconciliation);
    assert_eq!(shipped.stop, default.stop);
    assert_eq!(shipped.logs, default.logs);
    assert_eq!(shipped.apps.len(), 1);
}

#[test]
fn the_containers_settings_are_good_and_fit_the_containers() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let settings = Settings::load(&deploy.join("compose.toml"), std::iter::empty()).unwrap();
    let compose = std::fs::read_to_string(deploy.join("compose.yaml")).unwrap();
    let kafka = settings.log.kafka.unwrap();
    assert!(compose.contains(&format!("CLIENTS://{}", kafka.brokers)), "{}", kafka.brokers);
    assert_eq!(kafka.replication, 1, "there is one broker");
    for (listen, port) in [(settings.ingress.listen, "8080:8080"), (settings.admin.listen, "/9090")]
    {
        assert!(listen.ip().is_unspecified(), "nobody outside of the container reaches {listen}");
        assert!(compose.contains(port) && port.ends_with(&listen.port().to_string()), "{listen}");
    }
    assert!(settings.stop.limit_ms < 30_000 && compose.contains("stop_grace_period: 30s"));
}

#[test]
fn the_kafka_section_that_is_shipped_is_good_once_it_is_no_comment_and_shows_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/suanpan.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let section = text.split("\n\n").find(|section| section.starts_with("# [log.kafka]")).unwrap();
    let uncommented: String =
        section.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap())).collect();
    let read = |text: &str| Settings::parse(text, &file, std::iter::empty()).unwrap().log.kafka;
    let kafka = "[log]\nkind = \"kafka\"\n";
    let shown = read(&format!("{kafka}{uncommented}")).unwrap();
    let default = read(&format!("{kafka}kafka.brokers = \"{}\"", shown.brokers)).unwrap();
    assert_eq!(shown.properties.len(), 2);
    assert!(shown.password.is_some() && shown.ca.is_some() && shown.key_password.is_some());
    // What only counts with security is shown; everything else is as it is without the line.
    let without_security = KafkaSettings {
        security: default.security,
        username: None,
        password: None,
        ca: None,
        certificate: None,
        key: None,
        key_password: None,
        properties: default.properties.clone(),
        ..shown
    };
    assert_eq!(without_security, default);
}
