//! The built binary, run as people run it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::wait;

/// Where it lies: beside this test's own folder. One that is older than what it is made of would prove
/// nothing, so it is refused.
static SUANPAN: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let binary = profile.join("suanpan");
    let shown = binary.display();
    let built = fs::metadata(&binary).and_then(|found| found.modified());
    let built = built.map_err(|error| format!("{shown}: {error}"))?;
    // What cargo made it from: `binary: source source ...`, a blank in a path as `\ `.
    let sources = fs::read_to_string(binary.with_extension("d")).unwrap();
    let (_, sources) = sources.split_once(": ").unwrap();
    for source in sources.replace("\\ ", "\0").split_whitespace() {
        let source = PathBuf::from(source.replace('\0', " "));
        if newest(&source).is_none_or(|changed| changed > built) {
            return Err(format!("{shown} is older than {}", source.display()));
        }
    }
    Ok(binary)
});

/// When it, or anything in it, was changed last; `None` where it is gone.
fn newest(path: &Path) -> Option<SystemTime> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_dir() {
        return metadata.modified().ok();
    }
    fs::read_dir(path).ok()?.filter_map(|entry| newest(&entry.ok()?.path())).max()
}

/// A command line of the binary, without any setting of the caller's environment.
pub(crate) fn suanpan(arguments: &[&str]) -> Command {
    let binary = SUANPAN.as_ref().unwrap_or_else(|why| {
        panic!("{why}: these tests start the built binary; run tests/run, which builds it first")
    });
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SUANPAN") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command that ended has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Ended {
        Ended::with_input(command, &[])
    }

    /// With these bytes on its standard input.
    pub(crate) fn with_input(command: &mut Command, input: &[u8]) -> Ended {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        match child.stdin.take().unwrap().write_all(input) {
            // It ended before it read anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one JSON document on its standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Could not run, and says every one of these words about it.
    #[track_caller]
    pub(crate) fn assert_refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

/// A running `suanpan up`, or one of its roles. Killed when dropped.
pub(crate) struct Up {
    child: Child,
    /// `None` for a role without a front door.
    ingress: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Up {
    /// Starts all roles and waits until the doors are open. Standard error goes to the end of `log`.
    pub(crate) fn start(command: Command, log: &Path) -> Up {
        Up::start_role("up", command, log)
    }

    /// The same with one role.
    pub(crate) fn start_role(role: &str, command: Command, log: &Path) -> Up {
        Up::try_start_role(role, command, log).unwrap_or_else(|| {
            panic!("`suanpan {role}` did not start: {}", fs::read_to_string(log).unwrap())
        })
    }

    /// The same; `None` where it ends before its doors are open.
    pub(crate) fn try_start_role(role: &str, mut command: Command, log: &Path) -> Option<Up> {
        let stderr = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.arg(role).arg("--json").stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody listens any more where the test has given up.
            drop(stdout.read_line(&mut line).map(|_| said.send(line)));
        });
        let line = first_line.recv_timeout(Duration::from_secs(60)).unwrap_or_default();
        let Ok(addresses) = serde_json::from_str::<Value>(&line) else {
            drop(child.kill());
            child.wait().unwrap();
            return None;
        };
        let address = |name: &str| addresses[name].as_str().map(|text| text.parse().unwrap());
        Some(Up { ingress: address("ingress"), admin: address("admin").unwrap(), child })
    }

    /// `kill -9`
    pub(crate) fn kill(&self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
    }

    /// SIGSTOP: it keeps its connections and locks, and does nothing.
    pub(crate) fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// SIGCONT
    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        let mut ended = None;
        wait::until("`suanpan up` has ended", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// What the process says about itself: status and body of a page of its admin port.
    pub(crate) fn ask(&self, path: &str) -> (u16, String) {
        let (status, body) = super::http::get(&format!("http://{}{path}", self.admin));
        (status, String::from_utf8(body).unwrap())
    }

    /// The value of one metric, named with its labels; `None` where there is no such line.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let (_, text) = self.ask("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned)
    }

    pub(crate) fn ingress(&self) -> SocketAddr {
        self.ingress.unwrap()
    }

    /// Where notifications for this app are sent.
    pub(crate) fn notify_url(&self, app_id: &str) -> String {
        format!("http://{}/notify/alipay/{app_id}", self.ingress())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
