//! Consumers as processes that are killed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use stream::{AppendSettings, KafkaSettings};

use super::{SOON_MISSED, beside};
use crate::harness::binary::Up;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::{Broker, Log, books, log, sql, wait};

/// A merchant whose roles are processes, on a Kafka log of its own.
pub(crate) struct House {
    pub(crate) home: Home,
    kafka: KafkaSettings,
    writer: Log,
    appended: AtomicU32,
    _broker: Arc<Broker>,
}

impl House {
    pub(crate) fn new(partitions: i32) -> House {
        let broker = Broker::shared();
        let kafka = KafkaSettings { partitions, ..log::kafka(&broker) };
        let mut home = Home::new()
            .over(&kafka)
            .variable("SUANPAN__LOG__PARTITIONS", &partitions.to_string())
            .variable("SUANPAN__LOG__KEEP_HOURS", "1");
        for (name, value) in SOON_MISSED {
            let name = name.to_uppercase().replace('.', "_");
            home = home.variable(&format!("SUANPAN__LOG__KAFKA__PROPERTIES__{name}"), value);
        }
        let ended = home.run(&["migrate"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let writer = Log::over(&stream::Log::Kafka(kafka.clone()), AppendSettings::default());
        House { home, kafka, writer, appended: AtomicU32::new(0), _broker: broker }
    }

    /// A consumer that writes its own standard error.
    pub(crate) fn start(&self, name: &str) -> Up {
        let log = self.home.path(&format!("{name}.log"));
        Up::start_role("consumer", self.home.command(&[]), &log)
    }

    pub(crate) fn stderr(&self, name: &str) -> String {
        fs::read_to_string(self.home.path(&format!("{name}.log"))).unwrap()
    }

    /// Payments of as many trades, appended as the ingress does it.
    pub(crate) fn pay(&self, times: usize) {
        self.writer.append_all((0..times).map(|_| {
            let number = self.appended.fetch_add(1, Ordering::Relaxed);
            let body = self.home.sign(&Form::paid(&format!("T{number}")));
            log::envelope(&format!("O-T{number}"), body)
        }));
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed).into()
    }

    /// Goes on paying, until `act` has returned; not faster than somebody applies, which would take the time of
    /// whoever is looked at.
    pub(crate) fn while_paying<T>(&self, act: impl FnOnce() -> T) -> T {
        let pay = || {
            let applied: i64 = self.positions().values().sum();
            if i64::try_from(self.appended()).unwrap() - applied < 200 {
                self.pay(5);
            }
        };
        beside(pay, act)
    }

    fn log(&self) -> stream::Log {
        stream::Log::Kafka(self.kafka.clone())
    }

    pub(crate) fn wait_until_applied(&self) {
        log::wait_until_applied(&self.log(), &self.home.database.as_ref().unwrap().url);
    }

    /// Of the notifications' partition 0, as the last claim left it; 0 before the first.
    pub(crate) fn epoch(&self) -> i64 {
        let topic = &self.kafka.topics.notifications;
        let epoch = format!(
            "SELECT coalesce(max(epoch), 0) AS number FROM log_position
              WHERE topic = '{topic}' AND partition = 0"
        );
        sql::number(&mut self.home.connect(), &epoch)
    }

    /// The next offset of each partition of the notifications.
    pub(crate) fn positions(&self) -> BTreeMap<i32, i64> {
        let topic = &self.kafka.topics.notifications;
        let rows = format!(
            "SELECT format('%s %s', partition, next_offset) AS text FROM log_position
              WHERE topic = '{topic}'"
        );
        let rows = sql::texts(&mut self.home.connect(), &rows).into_iter();
        rows.map(|row| {
            let (number, next) = row.split_once(' ').unwrap();
            (number.parse().unwrap(), next.parse().unwrap())
        })
        .collect()
    }

    #[track_caller]
    pub(crate) fn assert_applied_once(&self) {
        let mut conn = self.home.connect();
        let appended = i64::try_from(self.appended()).unwrap();
        for table in ["inbox", "inbox WHERE outcome = 'applied'", "trade"] {
            assert_eq!(sql::count(&mut conn, table), appended, "{table}");
        }
        assert_eq!(sql::count(&mut conn, "dead_letter"), 0);
        let nobody = std::iter::empty();
        let parity = consumer::parity::check(&self.log(), &mut conn, nobody).unwrap();
        assert!(parity.holds(), "{parity:#?}");
        books::assert_sound(&mut conn);
    }
}

impl Drop for House {
    /// What the processes said is gone with their folder.
    fn drop(&mut self) {
        if thread::panicking() {
            let files = fs::read_dir(self.home.folder.path()).unwrap();
            for path in files.map(|file| file.unwrap().path()) {
                if path.extension().is_some_and(|extension| extension == "log") {
                    println!("{}:\n{}", path.display(), fs::read_to_string(&path).unwrap());
                }
            }
        }
    }
}

#[test]
fn a_consumer_that_is_killed_is_followed_by_another_and_everything_is_applied_once() {
    let house = House::new(4);
    let pair = house.while_paying(|| {
        let (mut first, mut second) = (house.start("a"), house.start("b"));
        for round in 0..3 {
            let before = house.positions();
            first.kill();
            wait::until("the other goes on with all partitions", || {
                let now = house.positions();
                now.len() == 4
                    && now
                        .iter()
                        .all(|(number, next)| *next > before.get(number).copied().unwrap_or(0) + 20)
            });
            let newcomer = house.start(&format!("{round}"));
            first.wait();
            first = std::mem::replace(&mut second, newcomer);
        }
        [first, second]
    });
    house.wait_until_applied();
    house.assert_applied_once();
    for consumer in pair {
        assert!(consumer.stop().success());
    }
}
