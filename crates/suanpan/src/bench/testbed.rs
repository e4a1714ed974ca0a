use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use payment::Topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use service::Cluster;
use service::settings::Settings;
use stream::{KafkaSettings, Log, Partition, Reader};

use super::cpu;
use super::notification::{APP_ID, SELLER_ID};
use crate::home::Home;
use crate::setup;

/// A merchant's folder with settings, keys and a Postgres of its own, all new.
pub(super) struct Testbed {
    cluster: Cluster,
    settings: Settings,
    log: Log,
    config: PathBuf,
    // The last to go: the others lie in it.
    home: Home,
}

/// One role of `suanpan`, as a process of its own. Killed when dropped.
pub(super) struct Role {
    name: &'static str,
    child: Child,
    /// `None` for a role without a front door.
    pub(super) ingress: Option<SocketAddr>,
    stderr: PathBuf,
    /// Held open: a process whose output nobody takes would fail at the next word.
    _stdout: BufReader<ChildStdout>,
}

impl Testbed {
    /// Makes all of it; `name` tells it from others of this process. With `kafka`, the log is in topics of its own
    /// at these brokers.
    pub(super) fn make(
        name: &str,
        public_key_base64: &str,
        kafka: Option<&str>,
    ) -> anyhow::Result<Testbed> {
        let home = Home::make(&format!("bench-{name}"))?;
        let folder = home.path();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        write("alipay.txt", public_key_base64)?;
        let config = write("suanpan.toml", &settings_text(name, kafka))?;
        let settings = Settings::load(&config, std::iter::empty())?;
        let cluster =
            Cluster::open(&settings.data_dir).context("cannot start a private Postgres")?;
        let log = setup::log(&settings, cluster.url())?;
        let bed = Testbed { cluster, settings, log, config, home };
        let migrated = bed.command("migrate")?.output().context("cannot run `suanpan migrate`")?;
        if !migrated.status.success() {
            bail!("`suanpan migrate` failed: {}", String::from_utf8_lossy(&migrated.stderr).trim());
        }
        Ok(bed)
    }

    /// Starts a role and waits until it says where its doors are.
    pub(super) fn start(&self, name: &'static str) -> anyhow::Result<Role> {
        let stderr = self.home.path().join(format!("{name}.log"));
        let log =
            File::create(&stderr).with_context(|| format!("cannot write {}", stderr.display()))?;
        let mut child = self
            .command(name)?
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `suanpan {name}`"))?;
        let stdout = child.stdout.take().context("the role's output is piped")?;
        let mut role = Role { name, child, ingress: None, stderr, _stdout: BufReader::new(stdout) };
        let mut line = String::new();
        role._stdout.read_line(&mut line)?;
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            bail!("`suanpan {name}` did not start: {}", role.last_words());
        };
        role.ingress = said.get("ingress").and_then(Value::as_str).and_then(|at| at.parse().ok());
        Ok(role)
    }

    pub(super) fn connect(&self) -> anyhow::Result<ledger::Connection> {
        Ok(ledger::connect(self.cluster.url())?)
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// How many messages are in a topic.
    pub(super) fn held(&self, topic: Topic) -> anyhow::Result<u64> {
        let of: Vec<Partition> =
            (0..self.settings.log.partitions).map(|number| Partition { topic, number }).collect();
        let ends = Reader::beside(&self.log)?.ends(&of)?;
        Ok(u64::try_from(ends.iter().map(|(_, end)| *end).sum::<i64>())?)
    }

    /// What the Postgres server has used, all its processes.
    pub(super) fn postgres_cpu(&self) -> Option<Duration> {
        let file = self.settings.data_dir.join("postgres/postmaster.pid");
        let pid = fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()?;
        cpu::of_family(pid)
    }

    /// Stops the database, and removes everything unless it is to be kept.
    pub(super) fn close(self, keep: bool) -> anyhow::Result<()> {
        self.cluster.close().context("cannot stop the private Postgres")?;
        if keep {
            let path = self.home.keep();
            eprintln!("kept: {}", path.display());
            return Ok(());
        }
        match &self.log {
            Log::Postgres { .. } => Ok(()),
            Log::Kafka(kafka) => remove_topics(kafka),
        }
    }

    fn command(&self, role: &str) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("cannot find this very program")?;
        let mut command = Command::new(program);
        // The bench says what is measured, not the caller's settings.
        for (name, _) in service::settings::environment() {
            if name.starts_with("SUANPAN__") {
                command.env_remove(name);
            }
        }
        command.arg("--json").arg("--config").arg(&self.config).arg(role).stdin(Stdio::null());
        Ok(command)
    }
}

impl Role {
    /// What it has used since it was started.
    pub(super) fn cpu(&self) -> Option<Duration> {
        cpu::of_process(self.child.id())
    }

    /// An error if it has ended by itself.
    pub(super) fn check_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("`suanpan {}` ended with {status}: {}", self.name, self.last_words())
            }
        }
    }

    /// Tells it to stop, and waits for its end.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot stop `suanpan {}`", self.name))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`suanpan {}` ended with {status}: {}", self.name, self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        last_lines(&self.stderr)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It has ended already where it was stopped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn remove_topics(kafka: &KafkaSettings) -> anyhow::Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let names = Topic::ALL.map(|topic| kafka.topics.of(topic));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for removed in runtime.block_on(admin.delete_topics(&names, &AdminOptions::new()))? {
        removed.map_err(|(name, code)| anyhow!("cannot remove the topic `{name}`: {code}"))?;
    }
    Ok(())
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ")
}

fn settings_text(name: &str, kafka: Option<&str>) -> String {
    // Names of this bench's own; one broker is enough, for more would be measured, too.
    let log = kafka.map_or(String::new(), |brokers| {
        let prefix = format!("suanpan-bench-{}-{name}", std::process::id());
        format!(
            r#"[log]
kind = "kafka"

[log.kafka]
brokers = {}
group = "{prefix}"
replication = 1
notifications_topic = "{prefix}.notifications"
quarantine_topic = "{prefix}.quarantine"
dead_letters_topic = "{prefix}.dead-letters"
ledger_events_topic = "{prefix}.ledger-events"
"#,
            // A JSON string is a TOML basic string, too.
            Value::from(brokers)
        )
    });
    format!(
        r#"data_dir = "./data"

[ingress]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

{log}
[[app]]
provider = "alipay"
id = "{APP_ID}"
seller_id = "{SELLER_ID}"
environment = "sandbox"
verification_keys = ["file:alipay.txt"]
"#
    )
}
