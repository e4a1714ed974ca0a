mod binaries;
mod error;
mod owner;
mod process;
mod server;
mod setup;
mod socket;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use self::error::ClusterError;
use self::error::at;
use self::owner::Owner;
use self::server::Server;

/// The private Postgres cluster in a data folder: made on first use, started when the first process
/// opens it, stopped when the last one closes it.
///
/// Reached over a Unix socket only, in a folder that no other user may enter. Every commit is on disk
/// when it is acknowledged. After a `kill -9` the server goes on; the next `open` takes it over.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    data_dir: PathBuf,
    owner: Owner,
    server: Server,
    locks: Locks,
    closed: bool,
}

/// Two locks, which the system releases however a process ends.
#[derive(Debug)]
struct Locks {
    /// Held shared by every process that uses the cluster.
    users: File,
    /// Held by whoever is starting or stopping the server.
    start: PathBuf,
}

impl Cluster {
    /// Opens the cluster in `data_dir`, creating and starting what is not there. Several processes
    /// may have it open at once. As root, the server runs as the user `postgres`.
    ///
    /// # Errors
    /// No Postgres of version 14 or later is installed, the folder cannot be used by the user the server
    /// runs as, or the server does not start: each says what to do.
    pub fn open(data_dir: &Path) -> Result<Cluster, ClusterError> {
        let owner = Owner::of_this_process()?;
        let data_dir = make_data_dir(data_dir, &owner)?;
        owner.check_can_enter(&data_dir)?;

        let locks = Locks {
            users: lock_file(&data_dir.join("suanpan.lock"))?,
            start: data_dir.join("start.lock"),
        };
        let _starting = locks.starting()?;
        locks.users.lock_shared().map_err(at(&data_dir.join("suanpan.lock"), "lock"))?;

        let server = Server::start(&data_dir, &owner)?;
        let url = socket::url(server.socket_folder());
        Ok(Cluster { url, data_dir, owner, server, locks, closed: false })
    }

    /// A libpq URI of the database `suanpan` in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server again if it has died, and says whether it had. Its clients connect anew by themselves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn revive(&mut self) -> Result<bool, ClusterError> {
        if self.server.is_running() {
            return Ok(false);
        }
        let _starting = self.locks.starting()?;
        self.server = Server::start(&self.data_dir, &self.owner)?;
        Ok(true)
    }

    /// Leaves the cluster. If no other process uses it, stops the server and waits until it has.
    ///
    /// # Errors
    /// When the server does not stop.
    pub fn close(mut self) -> Result<(), ClusterError> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), ClusterError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let users = &self.locks.users;
        // Under the start lock, so that nobody can open between our look and the stop.
        let _stopping = self.locks.starting()?;
        users.unlock().map_err(at(&self.locks.start, "unlock"))?;
        match users.try_lock() {
            Ok(()) => self.server.stop(),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(source)) => Err(at(&self.locks.start, "lock")(source)),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::error!(error = %error, "cannot stop the private Postgres");
        }
    }
}

impl Locks {
    fn starting(&self) -> Result<File, ClusterError> {
        let file = lock_file(&self.start)?;
        file.lock().map_err(at(&self.start, "lock"))?;
        Ok(file)
    }
}

fn lock_file(path: &Path) -> Result<File, ClusterError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    options.open(path).map_err(at(path, "open"))
}

/// The absolute path of `data_dir`, made if it is not there: nobody else may look into it, though as
/// root the server's user must be able to pass through.
fn make_data_dir(data_dir: &Path, owner: &Owner) -> Result<PathBuf, ClusterError> {
    if !data_dir.exists() {
        let mode = if owner.is_other() { 0o711 } else { 0o700 };
        let make = DirBuilder::new().recursive(true).mode(mode).create(data_dir);
        make.map_err(at(data_dir, "create"))?;
        // Whatever the umask took away.
        fs::set_permissions(data_dir, fs::Permissions::from_mode(mode))
            .map_err(at(data_dir, "set the permissions of"))?;
    }
    data_dir.canonicalize().map_err(at(data_dir, "find"))
}
