use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger::outbox::{self, Outgoing};
use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use service::{Clock, Shutdown, chain};
use stream::{AppendError, AppendSettings, Appender, Log, StreamError};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tracing::{error, info};

/// Carries what the ledger tells others from its outbox to the log: in order per trade, each at least once, under
/// an id that stays. One relay works at a time, whichever process holds the ledger's lock.
pub struct Relay {
    log: Log,
    database_url: String,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    runtime: Runtime,
    links: Option<Links>,
    observed: Option<Instant>,
}

struct Links {
    ledger: ledger::Connection,
    appender: Appender,
    leads: bool,
}

/// Why nothing was carried. The next step connects anew.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The registry has metrics of these names.
    #[error("cannot register the relay's metrics")]
    Metrics(#[from] prometheus::Error),
    /// The system gives no runtime.
    #[error("cannot start the relay")]
    Runtime(#[source] std::io::Error),
    /// No connection to the ledger.
    #[error("cannot reach the ledger")]
    Ledger(#[from] ledger::ConnectError),
    /// Whether this relay leads cannot be asked.
    #[error("cannot ask for the lead of the outbox")]
    Lead(#[source] ledger::QueryError),
    /// The outbox cannot be read.
    #[error("cannot work on the outbox")]
    Outbox(#[from] outbox::OutboxError),
    /// The log has events that the outbox still holds: they will be sent again.
    #[error("cannot empty the outbox")]
    Sent(#[source] ledger::QueryError),
    /// The log cannot be reached.
    #[error("cannot open the log")]
    Log(#[from] StreamError),
    /// The log takes nothing now.
    #[error("cannot append the ledger's events")]
    Append(#[source] AppendError),
}

/// How many events are on their way at once, of as many trades.
const AT_ONCE: i64 = 2_000;
/// How often an empty outbox is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
/// How often whoever does not lead asks again, and how long a failure is waited out.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl Relay {
    /// Connects at the first step.
    ///
    /// # Errors
    /// When the registry has these metrics already, or there is no runtime.
    pub fn open(
        log: &Log,
        database_url: &str,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Relay, RelayError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(RelayError::Runtime)?;
        Ok(Relay {
            log: log.clone(),
            database_url: database_url.to_owned(),
            clock,
            metrics: Metrics::new(registry)?,
            runtime,
            links: None,
            observed: None,
        })
    }

    /// Carries what waits, once, and says how much that was; `None` while another relay leads. What was not
    /// acknowledged stays in the outbox.
    pub fn step(&mut self) -> Result<Option<usize>, RelayError> {
        let mut links = match self.links.take() {
            Some(links) => links,
            None => Links {
                ledger: ledger::connect(&self.database_url)?,
                appender: Appender::start(&self.log, AppendSettings::default())?,
                leads: false,
            },
        };
        if !links.leads {
            links.leads = outbox::lead(&mut links.ledger).map_err(RelayError::Lead)?;
        }
        if self.observed.is_none_or(|at| at.elapsed() >= OBSERVE_EVERY) {
            self.observed = Some(Instant::now());
            let waiting = outbox::waiting(&mut links.ledger).map_err(RelayError::Lead)?;
            self.metrics.waiting(waiting, self.clock.now());
        }
        let carried = match links.leads {
            true => Some(self.carry(&mut links)?),
            false => None,
        };
        self.links = Some(links);
        Ok(carried)
    }

    /// Steps until told to stop; then what is on its way arrives.
    pub fn run(mut self, shutdown: &Shutdown) {
        let mut failing = false;
        while !shutdown.is_triggered() {
            let wait = match self.step() {
                Ok(carried) => {
                    if failing {
                        info!("the ledger's events leave again");
                    }
                    failing = false;
                    match carried {
                        None => ASK_EVERY,
                        Some(0) => LOOK_EVERY,
                        Some(_) => Duration::ZERO,
                    }
                }
                Err(error) => {
                    if !failing {
                        error!(error = chain(&error), "the ledger's events cannot leave and wait");
                    }
                    failing = true;
                    ASK_EVERY
                }
            };
            shutdown.wait_for(wait);
        }
        if let Some(links) = self.links {
            links.appender.close();
        }
    }

    fn carry(&self, links: &mut Links) -> Result<usize, RelayError> {
        let waiting = outbox::next(&mut links.ledger, AT_ONCE)?;
        if waiting.is_empty() {
            return Ok(0);
        }
        let (sent, failure) = self.runtime.block_on(append_all(&links.appender, waiting));
        let ids: Vec<i64> = sent.iter().map(|(outbox_id, _)| *outbox_id).collect();
        outbox::sent(&mut links.ledger, &ids).map_err(RelayError::Sent)?;
        for (_, kind) in &sent {
            self.metrics.sent.with_label_values(&[*kind]).inc();
        }
        match failure {
            Some(error) => Err(RelayError::Append(error)),
            None => Ok(sent.len()),
        }
    }
}

/// All beside each other: no two are of one trade. What was acknowledged, and why something was not.
async fn append_all(
    appender: &Appender,
    waiting: Vec<Outgoing>,
) -> (Vec<(i64, &'static str)>, Option<AppendError>) {
    let mut running = JoinSet::new();
    for Outgoing { outbox_id, envelope } in waiting {
        let appender = appender.clone();
        let kind = envelope.kind.as_str();
        running.spawn(async move { (outbox_id, kind, appender.append(envelope).await) });
    }
    let (mut sent, mut failure) = (Vec::new(), None);
    while let Some(outcome) = running.join_next().await {
        match outcome {
            Ok((outbox_id, kind, Ok(_))) => sent.push((outbox_id, kind)),
            Ok((_, _, Err(error))) => failure = Some(error),
            // A task that fell over sent nothing that is known of.
            Err(_) => failure = Some(AppendError::Unavailable),
        }
    }
    (sent, failure)
}

struct Metrics {
    waiting: IntGauge,
    oldest_age: Gauge,
    sent: IntCounterVec,
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let metrics = Metrics {
            waiting: IntGauge::new(
                "suanpan_outbox_events",
                "Events of the ledger that have not left for the log yet.",
            )?,
            oldest_age: Gauge::new(
                "suanpan_outbox_oldest_event_age_seconds",
                "Age of the oldest event that has not left yet; 0 when all have.",
            )?,
            sent: IntCounterVec::new(
                Opts::new("suanpan_outbox_sent_total", "Events that the log has taken, by kind."),
                &["kind"],
            )?,
        };
        for kind in payment::Kind::ALL {
            match kind {
                // What the ingress writes.
                payment::Kind::NotificationReceived | payment::Kind::NotificationQuarantined => {}
                kind @ (payment::Kind::MessageDead
                | payment::Kind::TradePaid
                | payment::Kind::TradeRefunded
                | payment::Kind::TradeClosed
                | payment::Kind::TradeCorrected
                | payment::Kind::TradeConflict
                | payment::Kind::DifferenceOpened
                | payment::Kind::DifferenceResolved) => {
                    metrics.sent.with_label_values(&[kind.as_str()]).reset();
                }
            }
        }
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.oldest_age.clone()))?;
        registry.register(Box::new(metrics.sent.clone()))?;
        Ok(metrics)
    }

    fn waiting(&self, waiting: outbox::Waiting, now: DateTime<Utc>) {
        self.waiting.set(waiting.events);
        let age = waiting.oldest.and_then(|oldest| (now - oldest).to_std().ok());
        self.oldest_age.set(age.map_or(0.0, |age| age.as_secs_f64()));
    }
}
