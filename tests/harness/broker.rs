//! A real Kafka broker, started as people start it: `deploy/kafka/start`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Proxy, port, wait};

/// A running broker with a folder of its own. Killed when dropped, and its folder removed.
pub(crate) struct Broker {
    // Before its folder: first the process ends, then the folder goes.
    process: Mutex<Option<Process>>,
    /// How it is started, every time.
    arguments: Vec<String>,
    /// Where it listens.
    listens: SocketAddr,
    /// Where it tells clients to go.
    advertises: SocketAddr,
    /// What a client needs beside the address: TLS, a password.
    client: Vec<(String, String)>,
    folder: TempDir,
}

/// What makes the tests' broker quicker to start, and nothing else.
const PROPERTIES: &str = "
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=1
";

impl Broker {
    /// The one that all tests share. Gone with the last test that holds it: a test binary has no other end.
    /// Whoever makes topics takes a [`fresh_name`](Self::fresh_name) for them.
    pub(crate) fn shared() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        // A test that could not start it says so; the others try for themselves.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let running = Arc::new(Broker::own());
        *shared = Arc::downgrade(&running);
        running
    }

    /// One for a test that kills it.
    pub(crate) fn own() -> Broker {
        let listens = SocketAddr::from(([127, 0, 0, 1], port::free()));
        Broker::start(listens, listens, folder(), &[], PROPERTIES, &[])
    }

    /// One with settings of Kafka's own.
    pub(crate) fn own_with(properties: &str) -> Broker {
        let listens = SocketAddr::from(([127, 0, 0, 1], port::free()));
        Broker::start(listens, listens, folder(), &[], &format!("{PROPERTIES}{properties}\n"), &[])
    }

    /// One that clients reach through a line that can be cut.
    pub(crate) fn behind_proxy() -> (Broker, Proxy) {
        let listens = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let proxy = Proxy::to(listens);
        let broker = Broker::start(listens, proxy.address(), folder(), &[], PROPERTIES, &[]);
        (broker, proxy)
    }

    /// One that speaks TLS with a certificate in [`ca`](Self::ca), and lets in `alice` alone, with [`PASSWORD`],
    /// by PLAIN or either SCRAM.
    pub(crate) fn secured() -> Broker {
        let listens = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let folder = folder();
        let store = make_certificate(folder.path());
        let ca = folder.path().join(CA);
        let scram = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|mechanism| format!("{mechanism}=[name=alice,password={PASSWORD}]"));
        let properties = format!(
            r#"{PROPERTIES}
ssl.keystore.type=PKCS12
ssl.keystore.location={store}
ssl.keystore.password={PASSWORD}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="node" password="{PASSWORD}" user_alice="{PASSWORD}";
listener.name.clients.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"#,
            store = store.display(),
            ca = ca.display()
        );
        let arguments = ["--protocol", "SASL_SSL", "--scram", &scram[0], "--scram", &scram[1]];
        let client = [
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", ca.to_str().unwrap()),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", PASSWORD),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Broker::start(listens, listens, folder, &arguments, &properties, &client)
    }

    /// One with its data in this folder, which somebody else removes.
    pub(crate) fn within(data: &Path) -> Broker {
        let listens = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let arguments = ["--data", data.to_str().unwrap()];
        Broker::start(listens, listens, folder(), &arguments, PROPERTIES, &[])
    }

    fn start(
        listens: SocketAddr,
        advertises: SocketAddr,
        folder: TempDir,
        arguments: &[&str],
        properties: &str,
        client: &[(String, String)],
    ) -> Broker {
        let file = folder.path().join("test.properties");
        fs::write(&file, properties).unwrap();
        let mut all: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        if !arguments.contains(&"--data") {
            let data = folder.path().join("data").display().to_string();
            all.extend(["--data".to_owned(), data]);
        }
        for (name, value) in [
            ("--port", listens.port().to_string()),
            ("--controller-port", port::free().to_string()),
            ("--advertise", advertises.to_string()),
            ("--properties", file.display().to_string()),
        ] {
            all.extend([name.to_owned(), value]);
        }
        let (process, client) = (Mutex::new(None), client.to_vec());
        let broker = Broker { process, arguments: all, listens, advertises, client, folder };
        broker.restart();
        broker
    }

    /// What one of Kafka's own tools prints, run as `deploy/kafka/tool`.
    pub(crate) fn tool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(kafka().join("tool"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The folder of one partition's files.
    pub(crate) fn files_of(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.path().join("data/log").join(format!("{topic}-{partition}"))
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        self.advertises.to_string()
    }

    /// Whose signature a client of a [`secured`](Self::secured) one must trust, as PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join(CA)
    }

    /// The settings of a librdkafka client of it, to which a test adds its own.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
        config.extend(self.client.iter().cloned());
        config
    }

    /// What a client needs beside the address.
    pub(crate) fn client_properties(&self) -> Vec<(String, String)> {
        self.client.clone()
    }

    /// A name that no other test of this broker has.
    pub(crate) fn fresh_name(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// `kill -9`
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(process.expect("the broker runs"));
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_end(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        wait::until("Kafka has ended by itself", || {
            process.as_mut().expect("the broker runs").child.try_wait().unwrap().is_some()
        });
        *process = None;
    }

    /// Starts it again after a `kill`, with its data and on its port, and waits until it answers.
    pub(crate) fn restart(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "the broker runs");
        let process = process.insert(Process::start(&self.arguments, self.folder.path()));
        let mut config = self.client();
        // Past any proxy, which may be cut.
        config.set("bootstrap.servers", self.listens.to_string());
        let client: BaseConsumer = config.create().unwrap();
        wait::until("Kafka answers", || {
            process.assert_runs();
            let answer = client.fetch_metadata(None, Duration::from_millis(500));
            answer.is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
    }

    /// SIGSTOP: it keeps its connections, and is silent.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let process = process.as_ref().expect("the broker runs");
        kill_process(Pid::from_child(&process.child), signal).unwrap();
    }
}

/// Of `alice`, and of the file that holds the broker's key.
pub(crate) const PASSWORD: &str = "open-sesame";

const CA: &str = "ca.pem";

/// A key and a certificate for loopback; the latter also as `ca.pem`. Where both are kept.
pub(crate) fn make_certificate(folder: &Path) -> PathBuf {
    let store = folder.join("broker.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new("keytool");
        command.args(arguments).args(["-alias", "broker", "-storetype", "PKCS12", "-keystore"]);
        let output = command.arg(&store).args(["-storepass", PASSWORD]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let (name, places) = ("CN=localhost", "san=dns:localhost,ip:127.0.0.1");
    keytool(&["-genkeypair", "-keyalg", "EC", "-dname", name, "-ext", places, "-validity", "2"]);
    keytool(&["-exportcert", "-rfc", "-file", folder.join(CA).to_str().unwrap()]);
    store
}

fn kafka() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka")
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("suanpan-kafka-").tempdir().unwrap()
}

/// The broker's process, and what ends it if this one is killed.
struct Process {
    child: Child,
    guard: Child,
    log: PathBuf,
}

impl Process {
    fn start(arguments: &[String], folder: &Path) -> Process {
        let kafka = kafka();
        let libs = std::env::var_os("KAFKA_LIBS").map_or_else(|| kafka.join("libs"), PathBuf::from);
        assert!(
            libs.is_dir(),
            "{} is not there: run tests/run, which fetches Kafka",
            libs.display()
        );
        let log = folder.join("broker.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(kafka.join("start"));
        command.args(arguments).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        command.env("KAFKA_HEAP_OPTS", "-Xmx384m");
        // Starts in half the time of what is best for a server that runs for weeks.
        command.env("KAFKA_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC");
        let child = command.spawn().unwrap();
        // Its input ends when this process does, however that comes; nobody else holds the other end.
        let guard = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\"; rm -rf \"$1\"", &child.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Process { child, guard, log }
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("Kafka did not start ({status}):\n{log}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: it knows the broker by a number that is free as soon as the broker was waited for.
        for process in [&mut self.guard, &mut self.child] {
            // It may have ended already.
            drop(process.kill());
            drop(process.wait());
        }
    }
}
