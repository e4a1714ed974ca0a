use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use consumer::{Consumer, Relay};
use ingress::Ingress;
use prometheus::Registry;
use reconciliation::Reconciler;
use serde_json::json;
use service::settings::{LogKind, Settings};
use service::shutdown::Hold;
use service::{Admin, Clock, Health, Shutdown, SystemClock, admin, shutdown};
use stream::{AppendSettings, Appender, Log};
use tracing::{error, info, warn};

use crate::cli::Common;
use crate::setup::{self, Database, Schema};

/// A room that runs as long as the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingress,
    Consumer,
    Reconciler,
}

impl Role {
    pub(crate) const ALL: [Role; 3] = [Role::Ingress, Role::Consumer, Role::Reconciler];
}

/// Runs roles until SIGINT or SIGTERM.
pub(crate) fn run(common: &Common, roles: &[Role]) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let shutdown = Shutdown::new();
    // Before anything is started, so that no moment is without an orderly end.
    shutdown::on_signals(&shutdown).context("cannot listen for signals")?;
    let limit = Duration::from_millis(settings.stop.limit_ms);
    shutdown::end_within(limit, &shutdown).context("cannot watch over the stop")?;
    let starting = shutdown.hold("the start");
    let schema = if roles == Role::ALL { Schema::Migrate } else { Schema::Check };
    let house = House::start(&settings, roles, schema, &shutdown)?;
    drop(starting);
    house.announce(common)?;
    shutdown.wait();
    info!("stopping");
    house.stop()?;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn migrate(common: &Common) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let database = Database::open(&settings, Schema::Migrate)?;
    let log = setup::open_log(&settings, Some(&database), Schema::Migrate);
    database.close()?;
    println!("the database has this version's schema");
    match log? {
        Log::Postgres { partitions, .. } => println!("the log has {partitions} partitions in it"),
        Log::Kafka(kafka) => println!("the topics at {} are fit", kafka.brokers),
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks after the private database: its death is not the end of the process, which would come back to it.
fn keep_alive(
    mut revive: impl FnMut() -> Result<bool, service::ClusterError>,
    shutdown: &Shutdown,
) {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    while !shutdown.wait_for(LOOK_EVERY) {
        match revive() {
            Ok(false) => {}
            Ok(true) => warn!("the private database had died and was started again"),
            Err(error) => {
                error!(
                    error = service::chain(&error),
                    "the private database has died and does not start"
                );
            }
        }
    }
}

/// The roles of this process, running.
pub(crate) struct House {
    /// `None` for a front door whose log is elsewhere: it knows no table.
    database: Option<Database>,
    log: Log,
    admin: Admin,
    /// What the admin port and the database hold; they end last.
    base: Vec<Hold>,
    health: Health,
    ingress: Option<Door>,
    reconciler: Option<Loop>,
    /// They go on until the last notification that was answered is on its way to them.
    loops: Vec<Loop>,
    loops_shutdown: Shutdown,
    /// The process's own.
    shutdown: Shutdown,
}

struct Door {
    ingress: Ingress,
    appender: Appender,
    /// Of the log, then of the ingress.
    holds: (Hold, Hold),
    /// How long it stays open after the process has said that it is not ready.
    delay: Duration,
}

struct Loop {
    name: &'static str,
    thread: JoinHandle<()>,
}

impl House {
    /// Starts the database first and the front door last: what is let in can be kept.
    pub(crate) fn start(
        settings: &Settings,
        roles: &[Role],
        schema: Schema,
        shutdown: &Shutdown,
    ) -> anyhow::Result<House> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (registry, health) = (Registry::new(), Health::new());
        let apps = setup::apps(settings)?;
        let mut base = vec![shutdown.hold("admin")];
        let needs_database = settings.log.kind == LogKind::Postgres || roles != [Role::Ingress];
        let mut database = None;
        if needs_database {
            base.push(shutdown.hold("database"));
            database = Some(Database::open(settings, schema)?);
        }
        let log = setup::wait_for_log(settings, database.as_ref(), schema, shutdown);
        let (database, log) = match (database, log) {
            (database, Ok(log)) => (database, log),
            (database, Err(error)) => {
                database.map_or(Ok(()), Database::close)?;
                return Err(error);
            }
        };
        let admin = admin::start(settings.admin.listen, registry.clone(), health.clone())
            .with_context(|| {
                format!("cannot listen on {} ([admin] listen)", settings.admin.listen)
            })?;
        let mut house = House {
            database,
            log,
            admin,
            base,
            health,
            ingress: None,
            reconciler: None,
            loops: Vec::new(),
            loops_shutdown: Shutdown::new(),
            shutdown: shutdown.clone(),
        };
        if let Err(error) = house.open(settings, roles, apps, &clock, &registry) {
            // What runs already is stopped in order, the private database with it.
            if let Err(error) = house.stop() {
                error!(error = service::chain(&*error), "cannot stop what was started");
            }
            return Err(error);
        }
        if shutdown.is_triggered() {
            warn!("told to stop while starting");
        }
        Ok(house)
    }

    fn open(
        &mut self,
        settings: &Settings,
        roles: &[Role],
        apps: Vec<Arc<alipay::App>>,
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        if let Some(revive) = self.database.as_ref().and_then(Database::reviver) {
            let keeper =
                self.spawn("keeper of the database", move |shutdown| keep_alive(revive, shutdown))?;
            self.loops.push(keeper);
        }
        for role in roles {
            match role {
                Role::Consumer => self.start_consumer(settings, &apps, clock, registry)?,
                Role::Reconciler => self.start_reconciler(settings, clock, registry)?,
                Role::Ingress => {}
            }
        }
        if roles.contains(&Role::Ingress) {
            self.open_door(settings, apps, clock, registry)?;
        }
        Ok(())
    }

    fn open_door(
        &mut self,
        settings: &Settings,
        apps: Vec<Arc<alipay::App>>,
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let holds = (self.shutdown.hold("log"), self.shutdown.hold("ingress"));
        let limits = match &self.log {
            Log::Postgres { .. } => AppendSettings::default(),
            // The outcome is known before the sender is told `fail` for want of one.
            Log::Kafka(_) => AppendSettings {
                deadline: Duration::from_millis(settings.ingress.append_timeout_ms / 10 * 9),
                ..AppendSettings::default()
            },
        };
        let appender = Appender::start(&self.log, limits).context("cannot open the log")?;
        let ingress = ingress::start(
            ingress::Settings {
                listen: settings.ingress.listen,
                body_limit_bytes: settings.ingress.body_limit_bytes,
                read_timeout: Duration::from_millis(settings.ingress.read_timeout_ms),
                append_timeout: Duration::from_millis(settings.ingress.append_timeout_ms),
                stop_limit: Duration::from_millis(settings.stop.limit_ms),
                ..ingress::Settings::default()
            },
            apps,
            appender.clone(),
            clock.clone(),
            registry,
            &self.health,
        )
        .context("cannot open the front door ([ingress] listen)")?;
        let delay = Duration::from_millis(settings.stop.delay_ms);
        self.ingress = Some(Door { ingress, appender, holds, delay });
        Ok(())
    }

    fn start_consumer(
        &mut self,
        settings: &Settings,
        apps: &[Arc<alipay::App>],
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let consumer = Consumer::open(
            &self.log,
            self.database_url()?,
            apps.iter().cloned(),
            consumer::Settings { keep: setup::keep(settings), ..consumer::Settings::default() },
            clock.clone(),
            registry,
            &self.health,
        )?;
        let relay = Relay::open(&self.log, self.database_url()?, clock.clone(), registry)?;
        let consumer = self.spawn("consumer", move |shutdown| consumer.run(shutdown))?;
        self.loops.push(consumer);
        let relay = self.spawn("relay", move |shutdown| relay.run(shutdown))?;
        self.loops.push(relay);
        Ok(())
    }

    fn start_reconciler(
        &mut self,
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> anyhow::Result<()> {
        let metrics = reconciliation::Metrics::new(registry)?;
        let mut clients = Vec::new();
        for app in &settings.apps {
            let client = setup::client(settings, app)?;
            let gateway = match setup::gateway(app) {
                Ok(gateway) => gateway,
                // The two worlds never meet, and notifications come in all the same.
                Err(error) if setup::is_of_another_environment(&error) => {
                    let reason = service::chain(&*error);
                    error!(app.id = app.id, error = reason, "bills cannot be fetched");
                    None
                }
                Err(error) => return Err(error),
            };
            if gateway.is_none() && app.signing_key.is_none() {
                info!(app.id = app.id, "no signing_key: bills are not fetched");
            }
            clients.push((client, gateway));
        }
        let reconciler = Reconciler::new(
            self.database_url()?,
            clients,
            settings.reconciliation.from_hour,
            clock.clone(),
            metrics,
            &self.health,
        );
        // Nobody waits for it at the door: it stops as soon as it is told.
        let stop = self.shutdown.clone();
        self.reconciler = Some(self.spawn("reconciler", move |_| reconciler.run(&stop))?);
        Ok(())
    }

    fn spawn(
        &self,
        name: &'static str,
        run: impl FnOnce(&Shutdown) + Send + 'static,
    ) -> anyhow::Result<Loop> {
        let (shutdown, hold) = (self.loops_shutdown.clone(), self.shutdown.hold(name));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                run(&shutdown);
                drop(hold);
            })
            .with_context(|| format!("cannot start the {name}'s thread"))?;
        Ok(Loop { name, thread })
    }

    pub(crate) fn database(&self) -> anyhow::Result<&Database> {
        self.database.as_ref().context("no database is open")
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    fn database_url(&self) -> anyhow::Result<&str> {
        Ok(&self.database()?.url)
    }

    pub(crate) fn ingress_addr(&self) -> Option<SocketAddr> {
        self.ingress.as_ref().map(|door| door.ingress.addr())
    }

    /// Says where the doors are, once they are open.
    fn announce(&self, common: &Common) -> anyhow::Result<()> {
        let ingress = self.ingress_addr().map(|addr| addr.to_string());
        let admin = self.admin.addr().to_string();
        let mut out = std::io::stdout();
        if common.json {
            writeln!(out, "{}", json!({ "ingress": ingress, "admin": admin }))?;
        } else {
            if let Some(ingress) = ingress {
                writeln!(out, "notifications  http://{ingress}/notify/alipay/{{app_id}}")?;
            }
            writeln!(out, "admin          http://{admin}/healthz /readyz /metrics")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Not ready first, then the front door, then the log, then the loops, then the database; last the admin port,
    /// where all of it can be watched.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.health.draining();
        self.shutdown.trigger();
        if let Some(Door { ingress, appender, holds: (log, door), delay }) = self.ingress {
            std::thread::sleep(delay);
            ingress.stop();
            drop(door);
            appender.close();
            drop(log);
        }
        self.loops_shutdown.trigger();
        let mut stopped = Ok(());
        for Loop { name, thread } in self.loops.into_iter().chain(self.reconciler) {
            // The others are stopped all the same.
            if thread.join().is_err() {
                stopped = Err(anyhow!("the {name} ended by a defect"));
            }
        }
        let closed = self.database.map_or(Ok(()), Database::close);
        self.admin.stop();
        drop(self.base);
        stopped.and(closed)
    }
}
