use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ClusterError;
use super::binaries::Binaries;
use super::error::at;
use super::owner::Owner;
use super::process::{self, Left, Running};
use super::setup;
use super::socket::{self, Answer, PORT};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// Between two tries to start, where it cannot be seen what keeps the server from it.
const RETRY: Duration = Duration::from_millis(300);
/// A log longer than this is put aside at the next start.
const LOG_LIMIT_BYTES: u64 = 16 << 20;

/// The running `postgres`, whether we started it or found it.
#[derive(Debug)]
pub(super) struct Server {
    pgdata: PathBuf,
    log: PathBuf,
    socket_folder: PathBuf,
    /// If we started it.
    child: Option<OwnChild>,
}

/// A server that we started. A thread waits for its end, whenever that comes: a dead child that nobody
/// waits for keeps its process number, and the next server would take it for alive.
#[derive(Debug)]
struct OwnChild {
    pid: u32,
    waiting: JoinHandle<()>,
}

impl Server {
    /// Takes over the server that runs on this data, or starts one, and waits until it is ready.
    /// The caller holds the start lock.
    pub(super) fn start(data_dir: &Path, owner: &Owner) -> Result<Self, ClusterError> {
        let pgdata = data_dir.join("postgres");
        let binaries = Binaries::find(&pgdata)?;
        if !pgdata.exists() {
            let started = Instant::now();
            setup::make(data_dir, &pgdata, &binaries, owner)?;
            let took_ms = started.elapsed().as_millis();
            tracing::info!(took_ms, "made a private Postgres in `{}`", pgdata.display());
        }
        owner.check_owns(&pgdata)?;
        let socket_folder = socket::make_folder(data_dir, owner)?;
        let log = data_dir.join("postgres.log");
        let mut server = Server { pgdata, log, socket_folder, child: None };
        match server.wait_until_ready(&binaries, owner) {
            Ok(()) => Ok(server),
            Err(error) => {
                // Nobody will use it. What went wrong first is what is told.
                if let Err(error) = server.stop() {
                    tracing::error!(error = %error, "cannot stop the private Postgres");
                }
                Err(error)
            }
        }
    }

    pub(super) fn socket_folder(&self) -> &Path {
        &self.socket_folder
    }

    fn wait_until_ready(&mut self, binaries: &Binaries, owner: &Owner) -> Result<(), ClusterError> {
        let started = Instant::now();
        let mut tries_left = 3_u8;
        while started.elapsed() < START_LIMIT {
            if !self.is_running() {
                match process::left_in(&self.pgdata) {
                    Left::Nothing => {
                        let socket_lock = socket::lock_file(&self.socket_folder);
                        process::forget_dead(&self.pgdata, &socket_lock)?;
                    }
                    // They end by themselves, and must have before the next server begins.
                    Left::Processes => {
                        thread::sleep(PAUSE);
                        continue;
                    }
                    // A new server looks after it too, less well.
                    Left::Unknown if self.child.is_some() => thread::sleep(RETRY),
                    Left::Unknown => {}
                }
                tries_left = match tries_left.checked_sub(1) {
                    Some(left) => left,
                    None => return Err(self.does_not_start("it ends at once")),
                };
                self.child = Some(self.spawn(binaries, owner)?);
            }
            match socket::knock(&self.socket_folder) {
                Answer::Ready => {
                    let took_ms = started.elapsed().as_millis();
                    tracing::info!(took_ms, "the private Postgres is ready");
                    return Ok(());
                }
                Answer::NotYet => thread::sleep(PAUSE),
                Answer::Refused => {
                    return Err(self.does_not_start("it refuses the user or the database"));
                }
            }
        }
        Err(self.does_not_start("it takes longer than a minute"))
    }

    pub(super) fn is_running(&mut self) -> bool {
        if let Some(child) = &self.child {
            return !child.waiting.is_finished();
        }
        let Some(running) = Running::find(&self.pgdata) else { return false };
        // It may have been started when the socket had another place.
        if let Some(folder) = running.socket_folder {
            self.socket_folder = folder;
        }
        true
    }

    fn spawn(&self, binaries: &Binaries, owner: &Owner) -> Result<OwnChild, ClusterError> {
        let program = binaries.program("postgres");
        let log = self.open_log()?;
        let second = log.try_clone().map_err(at(&self.log, "open"))?;
        let mut command = owner.command(&program, &self.pgdata);
        command.arg("-D").arg(&self.pgdata).arg("-c").arg(socket_setting(&self.socket_folder));
        for setting in [
            format!("port={PORT}"),
            "listen_addresses=".to_owned(),
            "unix_socket_permissions=0700".to_owned(),
            // What was answered `success` must outlive a power cut.
            "fsync=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            "full_page_writes=on".to_owned(),
            // Buyer data stands in statements, parameters and details: none of it is logged.
            "log_statement=none".to_owned(),
            "log_min_error_statement=panic".to_owned(),
            "log_error_verbosity=terse".to_owned(),
            "log_min_duration_statement=-1".to_owned(),
            "log_parameter_max_length=0".to_owned(),
            "log_checkpoints=off".to_owned(),
            "log_timezone=UTC".to_owned(),
            "timezone=UTC".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
            "jit=off".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        command.stdout(Stdio::from(log)).stderr(Stdio::from(second));
        let mut child = command.spawn().map_err(at(&program, "run"))?;
        let pid = child.id();
        let wait = move || match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => tracing::error!(%status, "the private Postgres ended with {status}"),
            Err(error) => tracing::error!(%error, "cannot wait for the private Postgres"),
        };
        let thread = thread::Builder::new().name("postgres".to_owned()).spawn(wait);
        Ok(OwnChild { pid, waiting: thread.map_err(at(&program, "wait for"))? })
    }

    fn open_log(&self) -> Result<File, ClusterError> {
        if fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT_BYTES) {
            let old = self.log.with_extension("log.1");
            fs::rename(&self.log, &old).map_err(at(&self.log, "rename"))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.open(&self.log).map_err(at(&self.log, "open"))
    }

    /// Stops the server and waits for its end. The caller holds the start lock and is the last user.
    pub(super) fn stop(&mut self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // SIGINT: sessions are cut, everything is written down. SIGQUIT: at once; the next start
        // recovers from the log. Nothing committed is lost either way.
        for (signal, limit) in [(Signal::INT, STOP_LIMIT), (Signal::QUIT, Duration::from_secs(10))]
        {
            if let Err(error) = kill_process(pid, signal) {
                tracing::debug!(%error, "cannot signal the private Postgres");
            }
            let asked = Instant::now();
            while asked.elapsed() < limit {
                if self.pid() != Some(pid) {
                    let took_ms = asked.elapsed().as_millis();
                    tracing::info!(took_ms, "the private Postgres has stopped");
                    return Ok(());
                }
                thread::sleep(PAUSE);
            }
        }
        Err(ClusterError::Stop { pid: pid.as_raw_nonzero().get() })
    }

    /// The live server's process: our own child from its first moment, or what its files tell.
    fn pid(&self) -> Option<Pid> {
        let child = self.child.as_ref().filter(|child| !child.waiting.is_finished());
        let child = child.and_then(|child| Pid::from_raw(i32::try_from(child.pid).ok()?));
        child.or_else(|| Running::find(&self.pgdata).map(|running| running.pid))
    }

    fn does_not_start(&self, reason: &str) -> ClusterError {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n");
        ClusterError::Start { reason: reason.to_owned(), log: self.log.clone(), tail }
    }
}

/// Quoted, since a path may hold a comma, which would end it in this list.
fn socket_setting(folder: &Path) -> OsString {
    let mut setting = b"unix_socket_directories=\"".to_vec();
    for byte in folder.as_os_str().as_bytes() {
        // A quote is doubled.
        setting.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    setting.push(b'"');
    OsString::from_vec(setting)
}
