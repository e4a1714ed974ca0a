use std::io;
use std::path::{Path, PathBuf};

/// Why the private Postgres cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The system refused something about a file or folder.
    #[error("cannot {action} `{}`", path.display())]
    Path {
        /// What was tried: `create`, `lock`...
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No directory with `initdb` and `postgres` was found.
    #[error(
        "no Postgres 14 or later is installed; install it with `{INSTALL}`, or set `database.url`"
    )]
    NotInstalled,
    /// The data was made by another major version than those installed.
    #[error(
        "`{}` was made by Postgres {version}, which is not installed; install that version, \
         or give another `data_dir`",
        path.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        path: PathBuf,
        /// Its major version.
        version: u32,
    },
    /// Postgres refuses to run as root, and there is nobody else to run it.
    #[error(
        "Postgres does not run as root and there is no user `postgres`; create it with \
         `useradd --system postgres`, or start as an ordinary user"
    )]
    NoPostgresUser,
    /// The server's user cannot reach its data.
    #[error(
        "the user `{user}`, as which Postgres runs here, cannot enter `{}`; \
         run `chmod o+x {}`, or give another `data_dir`",
        folder.display(),
        folder.display()
    )]
    CannotEnter {
        /// Who.
        user: String,
        /// The folder on the way that keeps it out.
        folder: PathBuf,
    },
    /// The data or the socket's folder belongs to somebody else.
    #[error(
        "`{}` belongs to user id {found}, not to `{user}` as which Postgres runs here; \
         start as its owner, or give another `data_dir`",
        path.display()
    )]
    OtherOwner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        user: String,
    },
    /// A Postgres program ended with an error.
    #[error("`{program}` failed: {output}")]
    Program {
        /// Which.
        program: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server ended while starting, refused us, or took too long.
    #[error("the private Postgres does not start ({reason}); `{}` ends with: {tail}", log.display())]
    Start {
        /// What was seen.
        reason: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server did not end.
    #[error("the private Postgres (process {pid}) does not stop; stop it with `kill -QUIT {pid}`")]
    Stop {
        /// Its process id.
        pid: i32,
    },
}

#[cfg(target_os = "macos")]
const INSTALL: &str = "brew install postgresql";
#[cfg(not(target_os = "macos"))]
const INSTALL: &str = "apt-get install postgresql";

/// For `map_err`: what was tried, and with what.
pub(super) fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Path { action, path, source }
}
