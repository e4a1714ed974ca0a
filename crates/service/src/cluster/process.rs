use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::process::{Pid, test_kill_process};

use super::ClusterError;
use super::error::at;

/// A live server on the data, as its `postmaster.pid` tells.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) socket_folder: Option<PathBuf>,
}

impl Running {
    pub(super) fn find(pgdata: &Path) -> Option<Self> {
        // Lines: process, data folder, start time, port, socket folder, ...
        let text = fs::read_to_string(pgdata.join(PID_FILE)).ok()?;
        let mut lines = text.lines();
        let pid = Pid::from_raw(lines.next()?.trim().parse().ok()?)?;
        let socket_folder = lines.nth(3).filter(|line| !line.is_empty()).map(PathBuf::from);
        let alive = if has_proc() {
            let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
            // Not every container lets root see the folder; the name must do then.
            folder_of_postgres(&process).is_some_and(|it| it.map_or(true, |it| it == pgdata))
        } else {
            test_kill_process(pid).is_ok()
        };
        alive.then_some(Running { pid, socket_folder })
    }
}

const PID_FILE: &str = "postmaster.pid";

/// What is left of the servers of some data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// No process of theirs lives.
    Nothing,
    /// Some live, be it only the last session of a server that was killed.
    Processes,
    /// This system, or this container, does not let us see.
    Unknown,
}

/// Looks through all processes for those of a server on this data.
pub(super) fn left_in(pgdata: &Path) -> Left {
    let Ok(entries) = fs::read_dir("/proc") else { return Left::Unknown };
    let user_of = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    let mut left = Left::Nothing;
    for process in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        match folder_of_postgres(&process) {
            Some(Ok(folder)) if folder == pgdata => return Left::Processes,
            // Another user's cannot be one of these.
            Some(Err(_)) if user_of(&process) == user_of(pgdata) => left = Left::Unknown,
            Some(_) | None => {}
        }
    }
    left
}

/// Removes what a killed server wrote to keep others out: its `postmaster.pid`, and the same beside the
/// socket. The caller holds the start lock and has seen that nothing of the server is left.
///
/// A new server would ask only whether the number in them belongs to any process of its user: a dead one that
/// its parent never waits for, as happens in containers, or another that got the number, would keep it out.
pub(super) fn forget_dead(pgdata: &Path, socket_lock: &Path) -> Result<(), ClusterError> {
    for file in [&pgdata.join(PID_FILE), socket_lock] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(file, "remove")(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// Where a live Postgres process stands, which is in its data; `None` for any other `/proc` entry.
fn folder_of_postgres(process: &Path) -> Option<io::Result<PathBuf>> {
    // `12 (postgres) S 1 ...`; a zombie (Z) has ended.
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (head, state) = stat.rsplit_once(") ")?;
    let alive = head.ends_with("(postgres") && !state.starts_with(['Z', 'X']);
    alive.then(|| fs::read_link(process.join("cwd")))
}
