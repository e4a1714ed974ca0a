mod log;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alipay::{App, Gateway, KeyRing, SigningKey, Timeouts, VerificationKey};
use anyhow::{Context, anyhow, bail};
use payment::{AppId, SellerId};
use reconciliation::{Client, Terms};
use service::settings::{self, AppSettings, Settings};
use service::{Cluster, ClusterError, Reference, Shutdown};
use stream::{Log, StreamError};

pub(crate) use self::log::{keep, log};
use crate::cli::Common;

pub(crate) fn settings(common: &Common) -> anyhow::Result<Settings> {
    let settings = Settings::load(&common.config, settings::environment())?;
    if settings.apps.is_empty() {
        bail!("{} has no app: add an [[app]] section", common.config.display());
    }
    Ok(settings)
}

/// The settings of one app.
pub(crate) fn app_settings<'s>(
    settings: &'s Settings,
    app_id: &AppId,
) -> anyhow::Result<&'s AppSettings> {
    settings.apps.iter().find(|app| app.id == app_id.as_str()).ok_or_else(|| {
        anyhow!("app `{app_id}` is not in the settings: add an [[app]] with that id")
    })
}

/// An app as the rooms know it, with its keys read.
pub(crate) fn app(app: &AppSettings) -> anyhow::Result<Arc<App>> {
    let (app_id, seller_id) = ids(app)?;
    Ok(Arc::new(App {
        app_id,
        seller_id,
        keys: keys(app)?,
        refund_fee: match app.refund_fee {
            settings::RefundFee::Cumulative => alipay::RefundFee::Cumulative,
            settings::RefundFee::Single => alipay::RefundFee::Single,
        },
    }))
}

pub(crate) fn apps(settings: &Settings) -> anyhow::Result<Vec<Arc<App>>> {
    settings.apps.iter().map(app).collect()
}

fn ids(app: &AppSettings) -> anyhow::Result<(AppId, SellerId)> {
    let app_id = AppId::parse(&app.id).with_context(|| format!("the app's id `{}`", app.id))?;
    let seller_id = SellerId::parse(&app.seller_id)
        .with_context(|| format!("the seller_id of app `{app_id}`"))?;
    Ok((app_id, seller_id))
}

fn keys(app: &AppSettings) -> anyhow::Result<KeyRing> {
    let read = |references: &[Reference]| -> anyhow::Result<Vec<VerificationKey>> {
        references
            .iter()
            .map(|reference| {
                let text = reference.read()?;
                Ok(VerificationKey::read(&reference.name(), &text)?)
            })
            .collect()
    };
    let of_app = || format!("the keys of app `{}`", app.id);
    let active = read(&app.verification_keys).with_context(of_app)?;
    let retired = read(&app.retired_verification_keys).with_context(of_app)?;
    KeyRing::new(active, retired).with_context(of_app)
}

/// The app's way to the open API, `None` without a signing key.
pub(crate) fn gateway(app: &AppSettings) -> anyhow::Result<Option<Gateway>> {
    let Some(reference) = &app.signing_key else { return Ok(None) };
    let of_app = || format!("the gateway of app `{}`", app.id);
    let text = reference.read().with_context(of_app)?;
    let signing_key = SigningKey::read(&reference.name(), &text).with_context(of_app)?;
    let environment = match app.environment {
        settings::Environment::Production => alipay::Environment::Production,
        settings::Environment::Sandbox => alipay::Environment::Sandbox,
    };
    let (app_id, _) = ids(app)?;
    Gateway::new(
        app.gateway_url(),
        app_id,
        environment,
        signing_key,
        keys(app)?,
        Timeouts::default(),
    )
    .map(Some)
    .with_context(of_app)
}

/// Whether a gateway was refused because it belongs to Alipay's other world.
pub(crate) fn is_of_another_environment(error: &anyhow::Error) -> bool {
    let gateway = error.downcast_ref::<alipay::GatewayError>();
    matches!(gateway, Some(alipay::GatewayError::OtherEnvironment { .. }))
}

pub(crate) fn client(settings: &Settings, app: &AppSettings) -> anyhow::Result<Client> {
    let (app_id, seller_id) = ids(app)?;
    let minutes = i64::from(settings.reconciliation.carry_window_minutes);
    Ok(Client {
        app_id,
        seller_id,
        terms: Terms {
            fee_rate_millionths: app.fee_rate_millionths,
            carry_window: chrono::Duration::minutes(minutes),
        },
        data_dir: settings.data_dir.clone(),
    })
}

/// The database of the settings. The private cluster stops when the last process lets go of it.
pub(crate) struct Database {
    pub(crate) url: String,
    cluster: Option<Arc<Mutex<Cluster>>>,
}

/// The address with limits, where it has none of its own: a server whose machine is gone says nothing, and the system
/// would wait for it for a quarter of an hour.
fn impatient(url: &str) -> String {
    const LIMITS: [(&str, &str); 5] = [
        ("connect_timeout", "5"),
        ("keepalives_idle", "10"),
        ("keepalives_interval", "5"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "15000"),
    ];
    let is_uri = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let missing = LIMITS.iter().filter(|(name, _)| !url.contains(&format!("{name}=")));
    missing.fold(url.to_owned(), |url, (name, value)| {
        let joint = match (is_uri, url.contains('?')) {
            (true, true) => '&',
            (true, false) => '?',
            (false, _) => ' ',
        };
        format!("{url}{joint}{name}={value}")
    })
}

/// What a command may do to a schema that is behind, or to topics that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Bring it to this version.
    Migrate,
    /// Refuse it, unless the database is our own.
    Check,
}

/// The log of the settings, made or checked. `database` is where a log in Postgres lies.
pub(crate) fn open_log(
    settings: &Settings,
    database: Option<&Database>,
    schema: Schema,
) -> anyhow::Result<Log> {
    let log = log(settings, database.map_or("", |database| &database.url))?;
    let is_ours = database.is_some_and(|database| database.cluster.is_some());
    let is_in_it = matches!(log, Log::Postgres { .. });
    if schema == Schema::Migrate || is_ours && is_in_it {
        for done in stream::set_up(&log).context("cannot set up the log")? {
            tracing::info!("{done}");
        }
    } else {
        stream::check(&log).context("the log is not fit")?;
    }
    if let (Log::Kafka(_), Some(database)) = (&log, database) {
        consumer::parity::check_positions(&log, &mut database.connect()?)
            .context("the log is not the one that the ledger has applied")?;
    }
    Ok(log)
}

/// The same for a role that is started: brokers that are just coming up are waited for, a while.
pub(crate) fn wait_for_log(
    settings: &Settings,
    database: Option<&Database>,
    schema: Schema,
    shutdown: &Shutdown,
) -> anyhow::Result<Log> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let started = Instant::now();
    loop {
        let error = match open_log(settings, database, schema) {
            Ok(log) => return Ok(log),
            Err(error) => error,
        };
        // Whoever is turned away is not helped by waiting.
        let is_away = matches!(
            error.downcast_ref::<StreamError>(),
            Some(StreamError::Away { why: None, .. })
        );
        if !is_away || started.elapsed() > PATIENCE || shutdown.wait_for(LOOK_EVERY) {
            return Err(error);
        }
        tracing::warn!(error = service::chain(&*error), "waiting for the log");
    }
}

impl Database {
    pub(crate) fn open(settings: &Settings, schema: Schema) -> anyhow::Result<Database> {
        let database = match &settings.database.url {
            Some(url) => Database { url: impatient(&url.read()?), cluster: None },
            None => {
                let cluster = Cluster::open(&settings.data_dir)
                    .context("cannot start the private database")?;
                let url = cluster.url().to_owned();
                Database { url, cluster: Some(Arc::new(Mutex::new(cluster))) }
            }
        };
        let mut conn = database.connect()?;
        if database.cluster.is_some() || schema == Schema::Migrate {
            let ran = ledger::migrate(&mut conn)?;
            for version in ran {
                tracing::info!(version, "migrated the database");
            }
        } else {
            ledger::check_schema(&mut conn)?;
        }
        Ok(database)
    }

    pub(crate) fn connect(&self) -> anyhow::Result<ledger::Connection> {
        Ok(ledger::connect(&self.url)?)
    }

    /// What starts the private server again if it has died; `None` for a database that is not ours to start.
    pub(crate) fn reviver(
        &self,
    ) -> Option<impl FnMut() -> Result<bool, ClusterError> + Send + 'static> {
        let cluster = self.cluster.clone()?;
        Some(move || cluster.lock().unwrap_or_else(PoisonError::into_inner).revive())
    }

    /// Leaves the private cluster; whoever holds it last stops it.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        let cluster = self.cluster.and_then(Arc::into_inner).map(Mutex::into_inner);
        if let Some(cluster) = cluster {
            let cluster = cluster.unwrap_or_else(PoisonError::into_inner);
            cluster.close().context("cannot stop the private database")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::impatient;

    #[test]
    fn an_address_gets_the_limits_that_it_lacks() {
        let limits =
            "keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=15000";
        assert_eq!(
            impatient("postgres://u@h/d"),
            format!("postgres://u@h/d?connect_timeout=5&{limits}")
        );
        let own = "postgresql://u@/d?host=/run&connect_timeout=60";
        assert_eq!(impatient(own), format!("{own}&{limits}"));
        let words = "host=h dbname=d";
        let expected = format!("{words} connect_timeout=5 {}", limits.replace('&', " "));
        assert_eq!(impatient(words), expected);
    }
}
