//! A merchant's folder: settings, keys, data. Every test has its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ::alipay::SigningKey;
use service::Cluster;
use stream::{KafkaSettings, TopicNames};
use tempfile::TempDir;

use super::alipay::{APP_ID, SELLER_ID};
use super::binary::{Ended, Up, suanpan};
use super::form::{Form, Rule};
use super::log::{self, LogKind};
use super::{Broker, Database, http};

pub(crate) struct Home {
    pub(crate) folder: TempDir,
    /// Alipay's key, of this test alone.
    pub(crate) key: SigningKey,
    /// A database on the cluster that all tests share; `None` where the program starts its own.
    pub(crate) database: Option<Database>,
    /// Where this run is about Kafka.
    kafka: Option<(KafkaSettings, Arc<Broker>)>,
    variables: Vec<(String, String)>,
}

impl Home {
    /// A merchant whose database is one of the shared cluster's.
    pub(crate) fn new() -> Home {
        let database = Database::empty();
        let home = Home::with(Some(database));
        let url = home.database.as_ref().unwrap().url.clone();
        let home = home.variable("SUANPAN__DATABASE__URL", "env:SUANPAN_TEST_DATABASE");
        home.variable("SUANPAN_TEST_DATABASE", &url)
    }

    /// The log of this merchant, where it is not in a private cluster.
    pub(crate) fn log(&self) -> stream::Log {
        match (&self.kafka, &self.database) {
            (Some((kafka, _)), _) => stream::Log::Kafka(kafka.clone()),
            (None, Some(database)) => database.log.clone(),
            (None, None) => {
                let cluster = self.open_cluster();
                let database_url = cluster.url().to_owned();
                cluster.close().unwrap();
                stream::Log::Postgres { database_url, partitions: 4 }
            }
        }
    }

    /// Waits until everything in the log is in the ledger.
    pub(crate) fn wait_until_applied(&self) {
        match &self.database {
            Some(database) => log::wait_until_applied(&self.log(), &database.url),
            None => {
                let cluster = self.open_cluster();
                log::wait_until_applied(&self.log(), cluster.url());
                cluster.close().unwrap();
            }
        }
    }

    /// A merchant whose program starts a Postgres of its own.
    pub(crate) fn with_private_cluster() -> Home {
        Home::with(None)
    }

    fn with(database: Option<Database>) -> Home {
        let kafka = match (&database, log::kind()) {
            (_, LogKind::Postgres) => None,
            (Some(Database { log: stream::Log::Kafka(kafka), .. }), LogKind::Kafka) => {
                Some((kafka.clone(), Broker::shared()))
            }
            (_, LogKind::Kafka) => {
                let broker = Broker::shared();
                Some((log::kafka(&broker), broker))
            }
        };
        let mut home = Home::bare();
        home.database = database;
        if let Some((settings, broker)) = kafka {
            home = home.over(&settings);
            home.kafka = Some((settings, broker));
        }
        home
    }

    /// A merchant whose variables say where database and log are; without any, all is in a Postgres that the program
    /// starts by itself.
    pub(crate) fn bare() -> Home {
        // As root, the server's user must be able to pass through.
        let folder = tempfile::Builder::new()
            .prefix("suanpan-t")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        let (database, kafka, variables) = (None, None, Vec::new());
        let home = Home { folder, key, database, kafka, variables };
        home.write("alipay.pem", pem(&home.key.public_key_base64()));
        home.write("suanpan.toml", settings("file:alipay.pem"));
        home
    }

    /// The same merchant with this log.
    pub(crate) fn over(self, kafka: &KafkaSettings) -> Home {
        let TopicNames { notifications, quarantine, dead_letters, ledger_events } = &kafka.topics;
        let replication = kafka.replication.to_string();
        let home = self.variable("SUANPAN__LOG__KIND", "kafka");
        [
            ("BROKERS", &kafka.brokers),
            ("NOTIFICATIONS_TOPIC", notifications),
            ("QUARANTINE_TOPIC", quarantine),
            ("DEAD_LETTERS_TOPIC", dead_letters),
            ("LEDGER_EVENTS_TOPIC", ledger_events),
            ("GROUP", &kafka.group),
            ("REPLICATION", &replication),
        ]
        .into_iter()
        .fold(home, |home, (name, value)| {
            home.variable(&format!("SUANPAN__LOG__KAFKA__{name}"), value)
        })
    }

    /// An environment variable for every command.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Home {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = suanpan(arguments);
        command.arg("--config").arg(self.path("suanpan.toml"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    pub(crate) fn up(&self) -> Up {
        Up::start(self.command(&[]), &self.path("stderr.log"))
    }

    /// Everything that `up` has written to its standard error.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// The form's body, signed with this test's key by rule V1.
    pub(crate) fn sign(&self, form: &Form) -> Vec<u8> {
        form.clone().signed(&self.key, Rule::V1).body()
    }

    /// Posts a genuine notification, which must be answered `success`.
    #[track_caller]
    pub(crate) fn tell(&self, up: &Up, form: &Form) {
        let (status, answer) = http::post(&up.notify_url(APP_ID), &self.sign(form));
        assert_eq!((status, answer.as_slice()), http::SUCCESS, "{}", self.stderr());
    }

    /// A connection to the shared cluster's database.
    pub(crate) fn connect(&self) -> ledger::Connection {
        self.database.as_ref().unwrap().connect()
    }

    /// The private cluster, held open as by one more process.
    pub(crate) fn open_cluster(&self) -> Cluster {
        Cluster::open(&self.data_dir()).unwrap()
    }

    /// Whether a private Postgres runs, or died and left its trace.
    pub(crate) fn has_server(&self) -> bool {
        self.data_dir().join("postgres/postmaster.pid").exists()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What a killed `up` has left running is taken over, and stopped.
        if self.has_server()
            && let Err(error) = Cluster::open(&self.data_dir()).and_then(Cluster::close)
        {
            eprintln!("cannot stop the private Postgres in {}: {error}", self.data_dir().display());
        }
    }
}

/// Settings with one app, its keys listed as given: `file:a.pem", "file:b.pem`.
pub(crate) fn settings(keys: &str) -> String {
    format!(
        r#"data_dir = "./data"

[ingress]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[[app]]
provider = "alipay"
id = "{APP_ID}"
seller_id = "{SELLER_ID}"
environment = "sandbox"
verification_keys = ["{keys}"]
fee_rate = "0.006"
"#
    )
}

/// Bare base64 as PEM.
pub(crate) fn pem(base64: &str) -> String {
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}
