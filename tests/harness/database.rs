//! One private cluster for all tests, a database each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use service::Cluster;
use tempfile::TempDir;

use super::{sql, wait};

/// A database of its own, on the cluster that all tests share. Gone with the cluster.
pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
    cluster: Arc<SharedCluster>,
}

impl Database {
    /// With this version's schema and four partitions.
    pub(crate) fn new() -> Database {
        let database = Database::empty();
        let mut conn = database.connect();
        ledger::migrate(&mut conn).unwrap();
        stream::create_partitions(&mut conn, 4).unwrap();
        database
    }

    /// Without any schema.
    pub(crate) fn empty() -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = SharedCluster::get();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        sql::run(&mut cluster.connect(), &format!("CREATE DATABASE {name}"));
        let (server, options) = cluster.cluster.url().split_once("/suanpan?").unwrap();
        Database { url: format!("{server}/{name}?{options}"), name, cluster }
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
