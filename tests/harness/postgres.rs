//! A Postgres server of one test, which may be killed: the server that somebody else looks after.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use diesel::connection::SimpleConnection as _;
use rustix::process::{Pid, Signal, kill_process};
use service::Cluster;
use tempfile::TempDir;

use super::wait;

pub(crate) struct Postgres {
    pub(crate) url: String,
    data_dir: PathBuf,
    cluster: Mutex<Cluster>,
    // After the cluster: first the server stops, then its folder goes.
    _folder: Option<TempDir>,
}

impl Postgres {
    /// In a folder that goes with it.
    pub(crate) fn own() -> Postgres {
        // As root, the server's user must be able to pass through.
        let folder = tempfile::Builder::new()
            .prefix("suanpan-postgres-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        let data_dir = folder.path().join("data");
        Postgres { _folder: Some(folder), ..Postgres::within(&data_dir) }
    }

    /// With its data in this folder, which somebody else removes.
    pub(crate) fn within(data_dir: &Path) -> Postgres {
        let cluster = Cluster::open(data_dir).expect(
            "the tests need PostgreSQL's server binaries: run tests/run, which installs them",
        );
        let url = cluster.url().to_owned();
        let data_dir = data_dir.to_owned();
        Postgres { url, data_dir, cluster: Mutex::new(cluster), _folder: None }
    }

    /// `kill -9` of the postmaster; those it has started end by themselves.
    pub(crate) fn kill(&self) {
        let file = fs::read_to_string(self.data_dir.join("postgres/postmaster.pid")).unwrap();
        let server = Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap();
        kill_process(server, Signal::KILL).unwrap();
    }

    /// Starts it again after a `kill`, with its data and at its address.
    pub(crate) fn restart(&self) {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        wait::until("the killed server was started again", || cluster.revive().unwrap());
    }

    /// Starts it if it has ended, and waits until somebody can log in.
    pub(crate) fn revive(&self) {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        wait::until("the server lets somebody in", || {
            cluster.revive().unwrap();
            ledger::connect(&self.url).is_ok()
        });
    }
}

/// Asks a server whose disk is full for the one thing that it cannot do without, a new segment of its write-ahead log,
/// until it has ended.
pub(crate) fn make_it_give_up(url: &str) {
    wait::until("a server without room for its write-ahead log has given up", || {
        let Ok(mut conn) = ledger::connect(url) else { return true };
        // The answer is the end of the connection.
        drop(conn.batch_execute("SELECT pg_switch_wal(), pg_create_restore_point('full')"));
        false
    });
}
