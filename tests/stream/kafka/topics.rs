//! Which topics are fit, how they are made, and what is said about those that are not.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use payment::Topic;
use rdkafka::admin::{NewTopic, ResourceSpecifier, TopicReplication};
use stream::{AppendSettings, KafkaSettings};

use super::as_admin;
use crate::harness::binary::Up;
use crate::harness::home::Home;
use crate::harness::{Broker, Log, log};

fn check(settings: &KafkaSettings) -> Result<(), String> {
    let log = stream::Log::Kafka(settings.clone());
    stream::check(&log).map_err(|error| error.to_string())
}

fn set_up(settings: &KafkaSettings) -> Result<Vec<String>, String> {
    let log = stream::Log::Kafka(settings.clone());
    stream::set_up(&log).map_err(|error| error.to_string())
}

/// The topic's configuration, as the broker tells it.
fn configuration(broker: &Broker, topic: &str) -> BTreeMap<String, String> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let told =
        as_admin(broker, async |admin, options| admin.describe_configs(&asked, options).await);
    let entries = told.unwrap().remove(0).unwrap().entries.into_iter();
    entries.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect()
}

fn create(broker: &Broker, topic: &str, partitions: i32, configuration: (&str, &str)) {
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let topic = topic.set(configuration.0, configuration.1);
    let made =
        as_admin(broker, async |admin, options| admin.create_topics([&topic], options).await);
    assert!(made.unwrap().iter().all(Result::is_ok));
}

#[test]
fn topics_that_are_missing_are_made_once_and_then_fit() {
    let broker = Broker::shared();
    let settings = log::kafka(&broker);
    let name = &settings.topics.notifications;
    for _ in 0..2 {
        // Asking makes nothing.
        let words = format!("topic `{name}` is not there; run `suanpan migrate`");
        assert_eq!(check(&settings), Err(words.clone()));
        let log = stream::Log::Kafka(settings.clone());
        let error = stream::Appender::start(&log, AppendSettings::default()).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
    let done = set_up(&settings).unwrap();
    let names = Topic::ALL.map(|topic| settings.topics.of(topic));
    assert_eq!(done, names.map(|name| format!("created topic {name}: 4 partitions, 1 replicas")));
    for name in names {
        let configuration = configuration(&broker, name);
        assert_eq!(configuration["cleanup.policy"], "delete");
        assert_eq!(configuration["retention.ms"], "3600000");
        assert_eq!(configuration["min.insync.replicas"], "1");
        assert_eq!(configuration["unclean.leader.election.enable"], "false");
    }
    for _ in 0..2 {
        assert_eq!(set_up(&settings), Ok(Vec::new()));
        assert_eq!(check(&settings), Ok(()));
    }
}

#[test]
fn two_that_set_up_at_once_do_not_collide() {
    let broker = Broker::shared();
    for _ in 0..3 {
        let mut settings = log::kafka(&broker);
        for partitions in [2, 5] {
            settings.partitions = partitions;
            let start = Barrier::new(2);
            thread::scope(|scope| {
                let both = [0, 1].map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        set_up(&settings)
                    })
                });
                for one in both {
                    one.join().unwrap().unwrap();
                }
            });
            assert_eq!(check(&settings), Ok(()));
        }
    }
}

#[test]
fn partitions_grow_and_never_shrink() {
    let broker = Broker::shared();
    let mut settings = log::kafka(&broker);
    set_up(&settings).unwrap();
    let name = settings.topics.notifications.clone();
    for (partitions, has) in [(6, 4), (3, 6), (7, 6)] {
        settings.partitions = partitions;
        if partitions < has {
            assert_eq!(check(&settings), Ok(()));
            assert_eq!(set_up(&settings), Ok(Vec::new()));
            continue;
        }
        let words = format!(
            "topic `{name}` has {has} partitions, and the settings want {partitions}; \
             run `suanpan migrate`, or lower `[log] partitions`"
        );
        assert_eq!(check(&settings), Err(words));
        let done = set_up(&settings).unwrap();
        assert_eq!(done[0], format!("topic {name} grew from {has} to {partitions} partitions"));
        assert_eq!(done.len(), 4);
    }
    // What is appended now is spread over all of them.
    let log = Log::over(&stream::Log::Kafka(settings), AppendSettings::default());
    let mut seen = [false; 7];
    for number in 0..200 {
        let (partition, _) = log.append(log::envelope(&format!("O-{number}"), Vec::new())).unwrap();
        seen[usize::try_from(partition.number).unwrap()] = true;
    }
    assert_eq!(seen, [true; 7]);
}

#[test]
fn an_unfit_topic_is_named_with_a_remedy_that_works() {
    let broker = Broker::shared();
    for (configuration, fault) in [
        (("cleanup.policy", "compact"), "has cleanup.policy=compact, which drops all but the last"),
        (("cleanup.policy", "compact,delete"), "has cleanup.policy=compact,delete, which drops"),
        (("retention.ms", "60000"), "keeps messages for 60000 ms, and the settings want 3600000"),
    ] {
        let settings = log::kafka(&broker);
        // The last of them: the others are made and fit.
        let name = &settings.topics.ledger_events;
        create(&broker, name, 4, configuration);
        let words = set_up(&settings).unwrap_err();
        assert_eq!(check(&settings), Err(words.clone()));
        assert!(words.starts_with(&format!("topic `{name}` {fault}")), "{words}");
        // What it says to run, run: with the tool's name here for the one that Kafka's packages give it.
        let (_, remedy) = words.split_once("run `kafka-configs.sh ").expect(&words);
        let (remedy, _) = remedy.split_once('`').unwrap();
        let arguments: Vec<&str> = ["configs"].into_iter().chain(remedy.split(' ')).collect();
        broker.tool(&arguments);
        assert_eq!(check(&settings), Ok(()), "after {remedy}");
    }
    // More than is asked for is fit.
    for configuration in [("retention.ms", "-1"), ("retention.ms", "7200000")] {
        let settings = log::kafka(&broker);
        create(&broker, &settings.topics.notifications, 5, configuration);
        set_up(&settings).unwrap();
        assert_eq!(check(&settings), Ok(()));
    }
}

#[test]
fn replicas_that_the_cluster_does_not_have_are_told() {
    let broker = Broker::shared();
    let mut settings = log::kafka(&broker);
    set_up(&settings).unwrap();
    settings.replication = 2;
    for outcome in [check(&settings).unwrap_err(), set_up(&settings).unwrap_err()] {
        let name = &settings.topics.notifications;
        let fault = format!("topic `{name}` keeps 1 replicas, and the settings want 2; run ");
        assert!(outcome.starts_with(&fault), "{outcome}");
        assert!(outcome.contains("[log.kafka] replication"), "{outcome}");
    }
    let settings = KafkaSettings { replication: 2, ..log::kafka(&broker) };
    for _ in 0..2 {
        let words = set_up(&settings).unwrap_err();
        let name = &settings.topics.notifications;
        assert!(words.starts_with(&format!("topic `{name}` cannot be created: ")), "{words}");
        assert!(words.contains("replication factor"), "{words}");
        assert!(words.contains("[log.kafka] replication"), "{words}");
    }
}

#[test]
fn where_brokers_make_topics_by_themselves_ours_are_made_by_us() {
    let broker = Broker::own_with("auto.create.topics.enable=true");
    let settings = log::kafka(&broker);
    for _ in 0..2 {
        let words = check(&settings).unwrap_err();
        assert!(words.contains("is not there; run `suanpan migrate`"), "{words}");
    }
    assert_eq!(set_up(&settings).unwrap().len(), 4);
    for topic in Topic::ALL {
        let configuration = configuration(&broker, settings.topics.of(topic));
        assert_eq!(configuration["retention.ms"], "3600000", "{topic:?}");
    }
}

#[test]
fn a_role_does_not_start_on_topics_that_are_missing_or_unfit_and_migrate_makes_them() {
    let broker = Broker::shared();
    let kafka = KafkaSettings { keep: Duration::from_secs(168 * 3600), ..log::kafka(&broker) };
    let home = Home::new().over(&kafka);
    for _ in 0..2 {
        let words = [&kafka.topics.notifications, "is not there", "run `suanpan migrate`"];
        home.run(&["ingress"]).assert_refused(&words);
    }
    for _ in 0..2 {
        let ended = home.run(&["migrate"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("are fit"), "{ended:?}");
    }
    for role in ["ingress", "consumer"] {
        let up = Up::start_role(role, home.command(&[]), &home.path("stderr.log"));
        assert!(up.stop().success(), "{}", home.stderr());
    }
    let home = home.variable("SUANPAN__LOG__PARTITIONS", "5");
    for role in ["ingress", "consumer"] {
        let words =
            [&kafka.topics.notifications, "has 4 partitions", "want 5", "`suanpan migrate`"];
        home.run(&[role]).assert_refused(&words);
    }
    let home = home.variable("SUANPAN__LOG__KAFKA__REPLICATION", "3");
    home.run(&["migrate"]).assert_refused(&["keeps 1 replicas", "[log.kafka] replication"]);
}
