use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ledger::outbox::{self, LEAD_SILENT_MAX, OutboxError, Outgoing};
use payment::{Envelope, Topic};
use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use service::{Clock, Shutdown, chain};
use stream::{AppendError, AppendSettings, Appender, Log, StreamError};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Carries what the ledger tells others from its outbox to the log: in order per trade, each at least once, under
/// an id that stays. One relay works at a time, whichever process holds the ledger's lock.
pub struct Relay {
    log: Log,
    database_url: String,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    runtime: Runtime,
    ledger: Option<ledger::Connection>,
    appender: Option<Appender>,
    observed: Option<Instant>,
}

/// Why nothing, or not everything, was carried. What was not stays in the outbox, for the next step.
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
    /// The outbox cannot be worked on. What the log has taken may be sent again.
    #[error("cannot work on the outbox")]
    Outbox(#[from] OutboxError),
    /// The log cannot be reached.
    #[error("cannot open the log")]
    Log(#[from] StreamError),
    /// The log takes nothing now, or not this.
    #[error("cannot append the ledger's events")]
    Append(#[source] AppendError),
    /// Too much time passed since the events were read: another relay may have sent them, and later ones.
    #[error("the relay slept for more than {} s over what it was to send", FRESH.as_secs())]
    Slept,
}

/// How many events are on their way at once, of as many trades.
const AT_ONCE: i64 = 4_000;
/// For how long what was read may be sent. With the delivery's own time it stays below what the ledger grants a
/// leader who is silent, so that nobody sends beside the next leader, not even a process that was frozen.
const FRESH: Duration = Duration::from_secs(5);
/// How long the log may take.
const DEADLINE: Duration = Duration::from_secs(5);
const _: () = assert!(FRESH.as_secs() + DEADLINE.as_secs() < LEAD_SILENT_MAX.as_secs());
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
            ledger: None,
            appender: None,
            observed: None,
        })
    }

    /// Carries what waits, once, and says how much that was; `None` while another relay is at it. What was not
    /// acknowledged stays in the outbox.
    ///
    /// # Errors
    /// See [`RelayError`]; what could be carried was.
    pub fn step(&mut self) -> Result<Option<usize>, RelayError> {
        let outcome = self.try_step();
        match &outcome {
            // The log's appender finds its way back by itself.
            Ok(_) | Err(RelayError::Log(_) | RelayError::Append(_) | RelayError::Slept) => {}
            Err(
                RelayError::Ledger(_)
                | RelayError::Outbox(_)
                | RelayError::Metrics(_)
                | RelayError::Runtime(_),
            ) => self.ledger = None,
        }
        outcome
    }

    fn try_step(&mut self) -> Result<Option<usize>, RelayError> {
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            place @ None => place.insert(ledger::connect(&self.database_url)?),
        };
        // Also while the log is away: that is when it matters.
        if self.observed.is_none_or(|at| at.elapsed() >= OBSERVE_EVERY) {
            let waiting = outbox::waiting(ledger).map_err(OutboxError::Database)?;
            self.observed = Some(Instant::now());
            self.metrics.waiting(waiting, self.clock.now());
        }
        // One commit for all that is read at once.
        let settings =
            AppendSettings { batch: 4_096, deadline: DEADLINE, ..AppendSettings::default() };
        let appender = match &mut self.appender {
            Some(appender) => &*appender,
            place @ None => &*place.insert(Appender::start(&self.log, settings)?),
        };
        let runtime = &self.runtime;
        let asked = Instant::now();
        let carried = outbox::lead::<_, OutboxError>(ledger, |ledger| {
            let waiting = outbox::next(ledger, AT_ONCE)?;
            if waiting.is_empty() {
                return Ok(Carried::default());
            }
            let carried = runtime.block_on(append_all(appender, waiting, asked));
            outbox::sent(ledger, &carried.outbox_ids)?;
            Ok(carried)
        })?;
        let Some(carried) = carried else { return Ok(None) };
        for kind in &carried.kinds {
            self.metrics.sent.with_label_values(&[*kind]).inc();
        }
        carried.failure.map_or(Ok(Some(carried.kinds.len())), Err)
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
        if let Some(appender) = self.appender {
            appender.close();
        }
    }
}

/// What became of events that were on their way.
#[derive(Default)]
struct Carried {
    /// Those that the log has acknowledged.
    outbox_ids: Vec<i64>,
    /// What they tell.
    kinds: Vec<&'static str>,
    /// Why others were not.
    failure: Option<RelayError>,
}

/// All beside each other: no two are of one trade.
async fn append_all(appender: &Appender, waiting: Vec<Outgoing>, read_at: Instant) -> Carried {
    let mut running = JoinSet::new();
    for Outgoing { outbox_id, envelope } in waiting {
        let appender = appender.clone();
        let kind = envelope.kind.as_str();
        running.spawn(async move {
            let outcome = match read_at.elapsed() < FRESH {
                true => append(&appender, envelope).await.map_err(RelayError::Append),
                false => Err(RelayError::Slept),
            };
            outcome.map(|()| (outbox_id, kind))
        });
    }
    let mut carried = Carried::default();
    while let Some(outcome) = running.join_next().await {
        match outcome {
            Ok(Ok((outbox_id, kind))) => {
                carried.outbox_ids.push(outbox_id);
                carried.kinds.push(kind);
            }
            Ok(Err(error)) => carried.failure = Some(error),
            // A task that fell over sent nothing that is known of.
            Err(_) => carried.failure = Some(RelayError::Append(AppendError::Unavailable)),
        }
    }
    carried
}

/// A dead letter that is longer than its topic takes is told without its bytes, which the ledger keeps: it would
/// wait for good otherwise.
async fn append(appender: &Appender, envelope: Envelope) -> Result<(), AppendError> {
    let bare = (envelope.topic == Topic::DeadLetters).then(|| bare(&envelope));
    match (appender.append(envelope).await, bare) {
        (Err(AppendError::TooLarge { bytes }), Some(bare)) => {
            warn!(
                letter = bare.id,
                bytes, "a dead letter is too long for its topic: its bytes stay behind"
            );
            appender.append(bare).await.map(drop)
        }
        (outcome, _) => outcome.map(drop),
    }
}

fn bare(letter: &Envelope) -> Envelope {
    let (reason, bytes) = (letter.reason.as_deref().unwrap_or_default(), letter.body.len());
    let note = format!(
        "{reason}; too long for this topic: `suanpan dead-letters show {} --raw` has its {bytes} bytes",
        letter.id
    );
    Envelope {
        id: letter.id.clone(),
        app_id: letter.app_id.clone(),
        key: letter.key.clone(),
        reason: Some(note),
        body: Vec::new(),
        ..*letter
    }
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
