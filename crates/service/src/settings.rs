mod field;
mod log;
mod overlay;
mod properties;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

pub use self::log::{KafkaSettings, LogKind, LogSettings, SaslMechanism, Security};
use self::overlay::Contradiction;
use crate::{DatabaseUrl, Reference};

/// Everything that can be set, read once at the start and handed down.
///
/// One TOML file; any key may be overridden by an environment variable: `SUANPAN__INGRESS__LISTEN`
/// for `ingress.listen`, `SUANPAN__APP__0__SELLER_ID` for the first app's `seller_id`. A variable's
/// value is text, or a TOML array if it begins with `[`. Behind `SUANPAN__LOG__KAFKA__PROPERTIES__` a `_`
/// stands for a `.`, which most shells allow in no variable: `SOCKET_KEEPALIVE_ENABLE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the private database and kept bills lie; relative to the file. Default `./suanpan-data`.
    pub data_dir: PathBuf,
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[ingress]`
    pub ingress: IngressSettings,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[console]`
    pub console: ConsoleSettings,
    /// `[reconciliation]`
    pub reconciliation: ReconciliationSettings,
    /// `[stop]`
    pub stop: StopSettings,
    /// `[logs]`
    pub logs: LogsSettings,
    /// `[[app]]`, in the file's order; no two with one id.
    #[serde(rename = "app")]
    pub apps: Vec<AppSettings>,
}

/// `[database]`: which Postgres holds the ledger and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// A Postgres 14 or later. Absent: the private cluster in `data_dir`.
    pub url: Option<DatabaseUrl>,
}

/// `[ingress]`: where notifications come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressSettings {
    /// Default `127.0.0.1:8080`; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The longest body accepted, 1 KiB to 16 MiB. Default 65536.
    #[serde(deserialize_with = "field::within::<_, _, 1_024, 16_777_216>")]
    pub body_limit_bytes: usize,
    /// How long a sender may take to send a request, 100 to 60000 ms. Default 5000.
    #[serde(deserialize_with = "field::within::<_, _, 100, 60_000>")]
    pub read_timeout_ms: u64,
    /// How long an append may take before the sender is told `fail`, 100 to 60000 ms. Default 3000.
    #[serde(deserialize_with = "field::within::<_, _, 100, 60_000>")]
    pub append_timeout_ms: u64,
}

/// `[admin]`: `/healthz`, `/readyz`, `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Default `127.0.0.1:9090`.
    pub listen: SocketAddr,
}

/// `[console]`: the pages for finance teams. Accepted; this version serves none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Default `127.0.0.1:8090`.
    pub listen: SocketAddr,
}

/// `[reconciliation]`: how a day is compared with its bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconciliationSettings {
    /// What one side lacks this near the end of the day is waited for until the next,
    /// 0 to 720 minutes. Default 5.
    #[serde(deserialize_with = "field::within::<_, _, 0, 720>")]
    pub carry_window_minutes: u32,
    /// From which hour in Shanghai yesterday's bill is asked for, 0 to 23. Default 9.
    #[serde(deserialize_with = "field::within::<_, _, 0, 23>")]
    pub from_hour: u32,
}

/// `[stop]`: how a process ends when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopSettings {
    /// How long the door stays open after `/readyz` says no, 0 to 60000 ms: as long as a load balancer takes to
    /// see it. Default 0.
    #[serde(deserialize_with = "field::within::<_, _, 0, 60_000>")]
    pub delay_ms: u64,
    /// How long the whole stop may take, the delay included, 100 to 600000 ms. Default 15000.
    #[serde(deserialize_with = "field::within::<_, _, 100, 600_000>")]
    pub limit_ms: u64,
}

/// `[logs]`: what this process tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsSettings {
    /// Default `text`.
    pub format: LogFormat,
}

/// How a line of the process's own logs looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[app]]`: one application of a merchant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// Whose protocol it speaks.
    pub provider: Provider,
    /// Alipay's `app_id`.
    #[serde(deserialize_with = "field::id")]
    pub id: String,
    /// The merchant's account, 2088...
    #[serde(deserialize_with = "field::id")]
    pub seller_id: String,
    /// Default `production`.
    #[serde(default)]
    pub environment: Environment,
    /// Alipay's public keys in use, one or more; PEM or the console's bare base64.
    #[serde(deserialize_with = "field::at_least_one")]
    pub verification_keys: Vec<Reference>,
    /// Alipay's public keys out of use: good for replays of old messages only.
    #[serde(default)]
    pub retired_verification_keys: Vec<Reference>,
    /// The app's own private key, which signs requests to the gateway.
    #[serde(default)]
    pub signing_key: Option<Reference>,
    /// Where the open API is asked; absent: see [`gateway_url`](Self::gateway_url).
    #[serde(default)]
    pub gateway: Option<String>,
    /// How `refund_fee` in notifications is to be read. Default `cumulative`.
    #[serde(default)]
    pub refund_fee: RefundFee,
    /// What Alipay charges, as millionths of the amount; in the file decimal text: `"0.006"` is 6000.
    #[serde(default, rename = "fee_rate", deserialize_with = "field::millionths")]
    pub fee_rate_millionths: Option<u32>,
}

/// Whose protocol an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Alipay's open platform.
    Alipay,
}

/// Which of Alipay's worlds an app lives in; their keys and gateways never mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real money.
    #[default]
    Production,
    /// Alipay's sandbox.
    Sandbox,
}

/// What `refund_fee` in a notification means; Alipay's documents contradict each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefundFee {
    /// Everything refunded on the trade so far.
    #[default]
    Cumulative,
    /// The one refund's amount.
    Single,
}

/// Why the settings were refused. Names the place; values are not repeated where they may be secret.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file `{}`; give another with `--config`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}, line {line}: {message}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the key's name.
        message: String,
    },
    /// An environment variable is wrong.
    #[error("environment variable `{name}`: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
}

impl Settings {
    /// Reads the file at `path`, overridden by the variables in `env` that begin with `SUANPAN__`.
    ///
    /// # Errors
    /// An unknown key, a wrong value, an app listed twice: named with file and line, or with the
    /// variable it came from.
    pub fn load(
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { file: path.to_owned(), source })?;
        Self::parse(&text, path, env)
    }

    /// The same over a text that is at hand; `path` says where it would lie, for the errors and for
    /// relative paths.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(
        text: &str,
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        let settings = overlay::read(text, path, env)?;
        Ok(settings.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    /// What each setting allows by itself and all of them together do not. `is_given` knows which keys
    /// were written, by their dotted names.
    fn contradiction(&self, is_given: impl Fn(&str) -> bool) -> Option<Contradiction> {
        if self.stop.delay_ms >= self.stop.limit_ms {
            let key = if is_given("stop.delay_ms") { "stop.delay_ms" } else { "stop.limit_ms" };
            let words = format!(
                "a delay of {} ms leaves nothing of the {} ms that the whole stop may take",
                self.stop.delay_ms, self.stop.limit_ms
            );
            return Some(Contradiction::at(key, &words));
        }
        self.log.contradiction(is_given)
    }

    fn relative_to(mut self, folder: &Path) -> Self {
        let there = |reference: Reference| reference.relative_to(folder);
        let all_there = |references: Vec<_>| references.into_iter().map(there).collect();
        self.data_dir = folder.join(&self.data_dir);
        self.database.url = self.database.url.map(|url| url.relative_to(folder));
        if let Some(kafka) = &mut self.log.kafka {
            let KafkaSettings { password, ca, certificate, key, key_password, .. } = kafka;
            for reference in [password, ca, certificate, key, key_password] {
                *reference = reference.take().map(there);
            }
        }
        for app in &mut self.apps {
            app.verification_keys = all_there(std::mem::take(&mut app.verification_keys));
            app.retired_verification_keys =
                all_there(std::mem::take(&mut app.retired_verification_keys));
            app.signing_key = app.signing_key.take().map(there);
        }
        self
    }
}

/// This process's environment, for [`Settings::load`]. Variables that are not UTF-8 are left out:
/// none of ours can be.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl AppSettings {
    /// Where the open API is asked: `gateway`, or else what belongs to the environment.
    pub fn gateway_url(&self) -> &str {
        match (&self.gateway, self.environment) {
            (Some(url), _) => url,
            (None, Environment::Production) => "https://openapi.alipay.com/gateway.do",
            (None, Environment::Sandbox) => "https://openapi-sandbox.dl.alipaydev.com/gateway.do",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            data_dir: PathBuf::from("./suanpan-data"),
            database: DatabaseSettings::default(),
            log: LogSettings::default(),
            ingress: IngressSettings::default(),
            admin: AdminSettings::default(),
            console: ConsoleSettings::default(),
            reconciliation: ReconciliationSettings::default(),
            stop: StopSettings::default(),
            logs: LogsSettings::default(),
            apps: Vec::new(),
        }
    }
}

impl Default for IngressSettings {
    fn default() -> Self {
        IngressSettings {
            listen: local(8080),
            body_limit_bytes: 65_536,
            read_timeout_ms: 5_000,
            append_timeout_ms: 3_000,
        }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        AdminSettings { listen: local(9090) }
    }
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        ConsoleSettings { listen: local(8090) }
    }
}

impl Default for ReconciliationSettings {
    fn default() -> Self {
        ReconciliationSettings { carry_window_minutes: 5, from_hour: 9 }
    }
}

impl Default for StopSettings {
    fn default() -> Self {
        StopSettings { delay_ms: 0, limit_ms: 15_000 }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
