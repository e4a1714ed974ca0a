//! Consumers over Kafka: they share partitions, die, sleep, come and go, and everything is applied once, by whoever
//! holds it.

mod death;
mod fence;
mod log_changes;
mod membership;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use chrono::DateTime;
use consumer::{Consumer, Settings, Step};
use payment::Envelope;
use prometheus::{Registry, TextEncoder};
use service::{FixedClock, Health, Shutdown};
use stream::{AppendSettings, KafkaSettings};

use crate::harness::{Alipay, Broker, Database, Log, Notice, books, log, sql, wait};

/// A consumer, and what it tells about itself.
pub(crate) struct Member {
    pub(crate) consumer: Consumer,
    pub(crate) tale: Tale,
}

/// What a consumer tells about itself, also while it runs elsewhere.
#[derive(Clone)]
pub(crate) struct Tale {
    registry: Registry,
    health: Health,
    pub(crate) clock: Arc<FixedClock>,
}

impl Member {
    pub(crate) fn open(database: &Database, alipay: &Alipay) -> Member {
        Member::with_batch(database, alipay, Settings::default().batch)
    }

    pub(crate) fn with_batch(database: &Database, alipay: &Alipay, batch: usize) -> Member {
        let (registry, health) = (Registry::new(), Health::new());
        let clock = Arc::new(FixedClock::new(DateTime::UNIX_EPOCH));
        let settings = Settings { batch, linger: Duration::ZERO, ..Settings::default() };
        let app = Arc::new(alipay.app());
        let (log, url) = (&database.log, &database.url);
        let consumer =
            Consumer::open(log, url, [app], settings, clock.clone(), &registry, &health).unwrap();
        Member { consumer, tale: Tale { registry, health, clock } }
    }

    /// Steps until it has applied this many messages, and no more.
    #[track_caller]
    pub(crate) fn apply(&mut self, messages: u64) {
        let before = self.tale.taken();
        wait::until("the messages are applied", || {
            self.step();
            self.tale.taken() - before >= messages
        });
        assert_eq!(self.tale.taken() - before, messages);
    }

    /// One step, which must succeed.
    #[track_caller]
    pub(crate) fn step(&mut self) -> Step {
        self.consumer.step(Duration::from_millis(10)).unwrap()
    }

    /// Applies in a thread until it is told to stop.
    fn run<'s>(self, scope: &'s Scope<'s, '_>) -> Running<'s> {
        let (shutdown, tale) = (Shutdown::new(), self.tale);
        let (told, consumer) = (shutdown.clone(), self.consumer);
        let thread = Some(scope.spawn(move || consumer.run(&told)));
        Running { tale, shutdown, thread }
    }
}

/// A consumer at work. Told to stop also where a test gives up, which would wait for its thread.
struct Running<'s> {
    tale: Tale,
    shutdown: Shutdown,
    thread: Option<ScopedJoinHandle<'s, ()>>,
}

impl Running<'_> {
    fn stop(mut self) -> Tale {
        self.shutdown.trigger();
        self.thread.take().unwrap().join().unwrap();
        self.tale.clone()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Tale {
    pub(crate) fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    /// A metric's value, as it is written.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned)
    }

    pub(crate) fn outcome(&self, outcome: &str) -> u64 {
        let name = format!("suanpan_consumer_applied_total{{outcome=\"{outcome}\"}}");
        self.metric(&name).unwrap().parse().unwrap()
    }

    /// Every message that it has brought into the ledger.
    pub(crate) fn taken(&self) -> u64 {
        let outcomes = ["applied", "kept", "duplicate", "quarantined", "dead_letter"];
        outcomes.iter().map(|outcome| self.outcome(outcome)).sum()
    }

    fn is_ready(&self) -> bool {
        self.health.report().ready
    }
}

/// A payment of its own with every message, appended as the ingress does it.
pub(crate) struct Payer {
    log: Log,
    pub(crate) alipay: Alipay,
    appended: AtomicU32,
}

impl Payer {
    pub(crate) fn new(database: &Database) -> Payer {
        Payer {
            log: Log::over(&database.log, AppendSettings::default()),
            alipay: Alipay::new(),
            appended: AtomicU32::new(0),
        }
    }

    pub(crate) fn pay(&self, times: usize) {
        self.log.append_all((0..times).map(|_| self.fresh()));
    }

    fn fresh(&self) -> Envelope {
        let number = self.appended.fetch_add(1, Ordering::Relaxed);
        let notice = Notice::paid(&format!("T{number}"));
        log::envelope(notice.out_trade_no(), self.alipay.sign(&notice))
    }

    fn appended(&self) -> u64 {
        self.appended.load(Ordering::Relaxed).into()
    }

    /// Goes on paying, until `act` has returned.
    fn while_paying<T>(&self, act: impl FnOnce() -> T) -> T {
        beside(|| self.pay(5), act)
    }

    /// All of it is in the ledger, once, and the ledger is sound.
    #[track_caller]
    fn assert_applied_once(&self, database: &Database) {
        log::wait_until_applied(&database.log, &database.url);
        let mut conn = database.connect();
        let appended = i64::try_from(self.appended()).unwrap();
        for table in ["inbox", "inbox WHERE outcome = 'applied'", "trade"] {
            assert_eq!(sql::count(&mut conn, table), appended, "{table}");
        }
        assert_eq!(sql::count(&mut conn, "dead_letter"), 0);
        let parity = consumer::parity::check(&database.log, &mut conn, std::iter::empty()).unwrap();
        assert!(parity.holds(), "{parity:#?}");
        books::assert_sound(&mut conn);
    }
}

/// Does it again and again until `act` has returned, or given up.
pub(crate) fn beside<T>(again: impl Fn() + Sync, act: impl FnOnce() -> T) -> T {
    struct Over<'o>(&'o AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                again();
            }
        });
        let _over = Over(&over);
        act()
    })
}

/// A ledger whose log has topics of its own on the shared broker, cut into so many parts.
pub(crate) fn database(partitions: i32, properties: &[(&str, &str)]) -> (Arc<Broker>, Database) {
    let broker = Broker::shared();
    let mut kafka = log::kafka(&broker);
    kafka.partitions = partitions;
    kafka.properties =
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let database = Database::with_log(stream::Log::Kafka(kafka));
    (broker, database)
}

/// Who is gone without a word is missed for longer than any test waits: what goes quicker was told.
const NOBODY_IS_MISSED: &[(&str, &str)] =
    &[("session.timeout.ms", "600000"), ("max.poll.interval.ms", "600000")];

/// As soon as Kafka allows.
const SOON_MISSED: &[(&str, &str)] =
    &[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];

pub(crate) fn kafka(database: &Database) -> &KafkaSettings {
    match &database.log {
        stream::Log::Kafka(kafka) => kafka,
        stream::Log::Postgres { .. } => panic!("the log is Postgres's"),
    }
}
