use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use payment::AppId;
use prometheus::Registry;
use service::{Clock, Health, Server};
use stream::Appender;

use crate::metrics::Metrics;
use crate::notify::{Door, receive};

/// Opens the door: `POST` and `GET /notify/alipay/{app_id}` on `settings.listen`, for `apps`.
///
/// Its part of `health` is `log`: whether what comes in can be appended. Metrics go to `registry`.
///
/// # Errors
/// When the address cannot be bound, an app is given twice, or the registry has these metrics already.
pub fn start(
    settings: Settings,
    apps: Vec<Arc<alipay::App>>,
    appender: Appender,
    clock: Arc<dyn Clock>,
    registry: &Registry,
    health: &Health,
) -> Result<Ingress, StartError> {
    let metrics = Metrics::register(registry, apps.iter().map(|app| app.app_id.as_str()))?;
    let mut by_id = BTreeMap::new();
    for app in apps {
        if let Some(app) = by_id.insert(app.app_id.as_str().to_owned(), app) {
            return Err(StartError::AppTwice(app.app_id.clone()));
        }
    }
    health.register(LOG);
    let door = Door {
        apps: by_id,
        appender: appender.clone(),
        clock,
        metrics,
        health: health.clone(),
        settings,
    };
    let door = web::Data::new(door);
    let health_of_log = health.clone();
    let server = Server::start("ingress", settings.listen, move |listener| {
        actix_web::rt::spawn(watch(appender, health_of_log));
        let server = HttpServer::new(move || {
            App::new().app_data(door.clone()).default_service(web::to(receive))
        });
        let server = server
            .workers(settings.workers)
            .client_request_timeout(settings.read_timeout + CLOCK_LAG)
            .keep_alive(KEEP_ALIVE)
            .tcp_nodelay(true)
            .shutdown_timeout(settings.stop_limit.as_secs().saturating_add(1))
            .disable_signals()
            .listen(listener)?;
        Ok(server.run())
    })
    .map_err(|source| StartError::Listen { listen: settings.listen, source })?;
    Ok(Ingress { server, health: health.clone() })
}

/// The open door.
#[derive(Debug)]
pub struct Ingress {
    server: Server,
    health: Health,
}

/// How the door works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; port 0 takes any free port. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The longest body, or query string, that is read. Default 65536.
    pub body_limit_bytes: usize,
    /// How long a sender may take to send a request. Default 5 s.
    pub read_timeout: Duration,
    /// How long an append may take before the sender is told `fail`. Default 3 s.
    pub append_timeout: Duration,
    /// How long senders who are being served when the door closes may take, in whole seconds rounded up.
    /// Default 10 s.
    pub stop_limit: Duration,
    /// How many threads verify. Default: one for each core.
    pub workers: usize,
}

/// Why the door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there, or the address is not this machine's.
    #[error("cannot listen on {listen}; choose another `[ingress] listen`")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Two apps with one id: whose keys would count?
    #[error("the app `{0}` is given twice")]
    AppTwice(AppId),
    /// The registry has metrics of these names.
    #[error("cannot register the metrics of the ingress")]
    Metrics(#[from] prometheus::Error),
}

impl Ingress {
    /// Where it listens; the port is the real one.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Accepts nothing more, answers what is in flight within [`Settings::stop_limit`], and returns.
    pub fn stop(self) {
        self.health.draining();
        self.server.stop();
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            body_limit_bytes: 65_536,
            read_timeout: Duration::from_secs(5),
            append_timeout: Duration::from_secs(3),
            stop_limit: Duration::from_secs(10),
            workers: thread::available_parallelism().map_or(1, NonZero::get),
        }
    }
}

/// The health part that this room answers for.
pub(crate) const LOG: &str = "log";

/// The server's own clock may be so late, and would hang up on a sender that was in time.
const CLOCK_LAG: Duration = Duration::from_millis(500);
/// An idle connection holds up a stop for as long.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Keeps the health part true while nothing comes in: a process that is not ready is sent nothing, so
/// no append would ever show that the log is back.
async fn watch(appender: Appender, health: Health) {
    loop {
        if appender.is_connected() {
            health.ok(LOG);
        } else {
            health.failed(LOG, "the log is away");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
