//! One private cluster for all tests, a database each; and a log each, of the kind that this run is about.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use service::Cluster;
use tempfile::TempDir;

use stream::Log;

use super::log::{self, LogKind};
use super::{Broker, sql, wait};

/// A database of its own, on the cluster that all tests share, and a log of its own. Gone with the cluster.
pub(crate) struct Database {
    pub(crate) url: String,
    /// In this database, or topics of its own in the Kafka that all tests share.
    pub(crate) log: Log,
    name: String,
    cluster: Arc<SharedCluster>,
    _broker: Option<Arc<Broker>>,
}

impl Database {
    /// With this version's schema and a log of four partitions.
    pub(crate) fn new() -> Database {
        Database::empty().set_up()
    }

    /// The same, with the Postgres log whatever this run is about.
    pub(crate) fn with_postgres_log() -> Database {
        let mut database = Database::empty();
        database.log = Log::Postgres { database_url: database.url.clone(), partitions: 4 };
        database.set_up()
    }

    /// The same, with topics of its own on this broker whatever this run is about.
    pub(crate) fn with_kafka_log(broker: &Broker) -> Database {
        Database::with_log(Log::Kafka(log::kafka(broker)))
    }

    /// The same, with this log.
    pub(crate) fn with_log(log: Log) -> Database {
        let mut database = Database::empty();
        database.log = log;
        database.set_up()
    }

    fn set_up(self) -> Database {
        ledger::migrate(&mut self.connect()).unwrap();
        stream::set_up(&self.log).unwrap();
        self
    }

    /// Without any schema, and with a log that nobody has set up.
    pub(crate) fn empty() -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = SharedCluster::get();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        sql::run(&mut cluster.connect(), &format!("CREATE DATABASE {name}"));
        let (server, options) = cluster.cluster.url().split_once("/suanpan?").unwrap();
        let url = format!("{server}/{name}?{options}");
        let (log, broker) = match log::kind() {
            LogKind::Postgres => (Log::Postgres { database_url: url.clone(), partitions: 4 }, None),
            LogKind::Kafka => {
                let broker = Broker::shared();
                (Log::Kafka(log::kafka(&broker)), Some(broker))
            }
        };
        Database { url, log, name, cluster, _broker: broker }
    }

    pub(crate) fn connect(&self) -> ledger::Connection {
        ledger::connect(&self.url).unwrap()
    }

    /// Throws everybody out and lets nobody in.
    pub(crate) fn go_away(&self) {
        let name = &self.name;
        let mut admin = self.cluster.connect();
        sql::run(&mut admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) AS number FROM pg_stat_activity WHERE datname = '{name}'"
        );
        // Whoever loses one connection may close another before it is asked to end.
        wait::until("nobody is connected", || sql::number(&mut admin, &end) == 0);
    }

    /// Lets everybody in again.
    pub(crate) fn come_back(&self) {
        let name = &self.name;
        let allow = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
        sql::run(&mut self.cluster.connect(), &allow);
    }
}

/// Stopped and removed when the last test that holds it ends: a test binary has no other end.
struct SharedCluster {
    cluster: Cluster,
    // After the cluster: first the server stops, then its folder goes.
    _folder: TempDir,
}

impl SharedCluster {
    fn get() -> Arc<SharedCluster> {
        static SHARED: Mutex<Weak<SharedCluster>> = Mutex::new(Weak::new());
        // A test that could not start it says so; the others try for themselves.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        // As root, the server's user must be able to pass through.
        let folder = tempfile::Builder::new()
            .prefix("suanpan-tests-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let cluster = Cluster::open(&folder.path().join("data")).expect(
            "the tests need PostgreSQL's server binaries: run tests/run, which installs them",
        );
        let running = Arc::new(SharedCluster { cluster, _folder: folder });
        *shared = Arc::downgrade(&running);
        running
    }

    fn connect(&self) -> ledger::Connection {
        ledger::connect(self.cluster.url()).unwrap()
    }
}
