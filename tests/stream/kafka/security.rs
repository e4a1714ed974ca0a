//! Who is let in: TLS and passwords, from the settings file to the ledger.

use stream::KafkaSettings;

use crate::harness::broker::{PASSWORD, make_certificate};
use crate::harness::form::Form;
use crate::harness::home::{self, Home};
use crate::harness::{Broker, log, sql, wait};

/// A house whose file has these lines under `[log.kafka]`, on topics of its own.
fn home(broker: &Broker, lines: &str) -> (Home, KafkaSettings) {
    let mut kafka = log::kafka(broker);
    let home = Home::new().over(&kafka);
    let brokers = &kafka.brokers;
    let section =
        format!("[log]\nkind = \"kafka\"\n[log.kafka]\nbrokers = \"{brokers}\"\n{lines}\n");
    home.write("suanpan.toml", home::settings("file:alipay.pem") + &section);
    home.write("password", format!("{PASSWORD}\n"));
    home.write("wrong-password", "hunter2-is-wrong\n");
    // The test itself is let in, too.
    kafka.properties = broker.client_properties();
    (home, kafka)
}

#[test]
fn a_notification_goes_over_tls_and_by_every_mechanism_into_the_ledger() {
    let broker = Broker::secured();
    let ca = broker.ca();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let lines = format!(
            "security = \"sasl_tls\"\nsasl_mechanism = \"{mechanism}\"\nusername = \"alice\"\n\
             password = \"file:password\"\nca = \"{}\"",
            ca.display()
        );
        let (home, kafka) = home(&broker, &lines);
        let up = home.up();
        for trade_no in ["T1", "T2"] {
            home.tell(&up, &Form::paid(trade_no));
        }
        log::wait_until_applied(&stream::Log::Kafka(kafka), &home.database.as_ref().unwrap().url);
        assert_eq!(sql::count(&mut home.connect(), "trade"), 2, "{mechanism}");
        wait::until("every room is ready", || up.ask("/readyz").0 == 200);
        assert!(up.stop().success());
        assert!(!home.stderr().contains(PASSWORD), "{}", home.stderr());
    }
}

#[test]
fn a_wrong_password_is_named_as_such_and_not_repeated() {
    let broker = Broker::secured();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let lines = format!(
            "security = \"sasl_tls\"\nsasl_mechanism = \"{mechanism}\"\nusername = \"alice\"\n\
             password = \"file:wrong-password\"\nca = \"{}\"",
            broker.ca().display()
        );
        let (home, kafka) = home(&broker, &lines);
        for _ in 0..2 {
            let ended = home.run(&["migrate"]);
            ended.assert_refused(&[&kafka.brokers, "Authentication failed", "[log.kafka]"]);
            let said = ended.stdout + &ended.stderr;
            assert!(!said.contains("hunter2") && !said.contains(PASSWORD), "{said}");
        }
    }
}

#[test]
fn a_broker_whom_nobody_vouches_for_is_named_as_such() {
    let broker = Broker::secured();
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    let other_ca = format!("ca = \"{}\"", folder.path().join("ca.pem").display());
    // Somebody else's, and the system's.
    for ca in [other_ca.as_str(), ""] {
        let lines = format!(
            "security = \"sasl_tls\"\nusername = \"alice\"\npassword = \"file:password\"\n{ca}"
        );
        let (home, kafka) = home(&broker, &lines);
        for _ in 0..2 {
            let ended = home.run(&["migrate"]);
            ended.assert_refused(&[&kafka.brokers, "certificate verify failed", "[log.kafka]"]);
            assert!(!ended.stderr.contains(PASSWORD), "{ended:?}");
        }
    }
}
