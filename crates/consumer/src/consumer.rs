use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use alipay::App;
use chrono::{DateTime, Utc};
use ledger::{Applied, ApplyError, Batch, Content, Message};
use payment::AppId;
use service::{Clock, Health, Shutdown, chain};
use stream::{Log, Partition, Reader, Record, StreamError};
use tracing::{debug, error, info, warn};

use crate::held::Held;
use crate::judge::judge;
use crate::metrics::Metrics;

/// How the consumer reads. The defaults are what production runs with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest batch, in messages.
    pub batch: usize,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
    /// Messages that were applied are kept in the log for this long.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch: 2_000,
            linger: Duration::from_millis(20),
            keep: Duration::from_secs(7 * 86_400),
        }
    }
}

/// One consumer: a reader of the log and a connection to the ledger.
pub struct Consumer {
    settings: Settings,
    log: Log,
    database_url: String,
    apps: HashMap<AppId, Arc<App>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Health,
    reader: Option<Reader>,
    ledger: Option<ledger::Connection>,
    /// The partitions that are ours, as the ledger knows it; `None` until it was asked.
    held: Option<Held>,
    /// How far they were applied when the ledger was last there to ask; for the metrics alone.
    known: Vec<(Partition, i64)>,
    /// What was read and judged while the batch before was applied.
    ahead: Vec<Message>,
    /// What went wrong meanwhile.
    met: Option<StreamError>,
    /// When the oldest message was received that is not applied, as far as known.
    oldest: Option<DateTime<Utc>>,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Applied a batch.
    Applied(Applied),
    /// Nothing to read, or no partition to read from.
    Idle,
    /// Another consumer has these partitions; the next step asks anew.
    Fenced,
}

/// Why a consumer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The registry has metrics of these names.
    #[error("cannot register the consumer's metrics")]
    Metrics(#[source] prometheus::Error),
}

/// Why a step did not succeed. The next one connects anew where it must, and starts from the ledger's positions.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The log is away, or not as it should be.
    #[error("cannot read the log")]
    Log(#[from] StreamError),
    /// No connection to the ledger.
    #[error("cannot reach the ledger")]
    Ledger(#[from] ledger::ConnectError),
    /// The ledger does not tell how far it has come.
    #[error("cannot take or read the positions")]
    Positions(#[source] ledger::QueryError),
    /// The ledger does not take a batch now.
    #[error("cannot apply a batch")]
    Apply(#[source] ApplyError),
}

const HEALTH_PART: &str = "ledger";
/// The loop waits so long for a first message before it looks whether it shall stop.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How long the group is listened to while the ledger is away: until all is heard that it has said since.
const HEAR_FOR: Duration = Duration::from_millis(50);
const RETRY_WAIT: Duration = Duration::from_secs(1);
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
const DROP_EVERY: Duration = Duration::from_secs(600);

impl Consumer {
    /// Connects at the first step: a database that is away is waited for, not an error.
    pub fn open(
        log: &Log,
        database_url: &str,
        apps: impl IntoIterator<Item = Arc<App>>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
        health: &Health,
    ) -> Result<Consumer, OpenError> {
        health.register(HEALTH_PART);
        Ok(Consumer {
            settings,
            log: log.clone(),
            database_url: database_url.to_owned(),
            apps: apps.into_iter().map(|app| (app.app_id.clone(), app)).collect(),
            clock,
            metrics: Metrics::new(registry).map_err(OpenError::Metrics)?,
            health: health.clone(),
            reader: None,
            ledger: None,
            held: None,
            known: Vec::new(),
            ahead: Vec::new(),
            met: None,
            oldest: None,
        })
    }

    /// Applies one batch, waiting up to `wait` for its first message; meanwhile the next batch is read and judged.
    pub fn step(&mut self, wait: Duration) -> Result<Step, StepError> {
        let outcome = self.try_step(wait);
        match &outcome {
            Ok(Step::Applied(_) | Step::Idle) => {}
            // Somebody else's: nothing that was read before counts, and the log says anew what is ours.
            Ok(Step::Fenced) => self.forget(),
            // Neither is helped by leaving the group.
            Err(StepError::Log(StreamError::Away { .. } | StreamError::Shrunk { .. })) => {
                self.ahead.clear();
            }
            Err(StepError::Log(_)) => {
                self.forget();
                self.reader = None;
                // It may be the same database.
                self.ledger = None;
            }
            Err(StepError::Ledger(_) | StepError::Positions(_) | StepError::Apply(_)) => {
                self.forget();
                self.ledger = None;
                // What is away is its database, too. A group is not left for that, and must hear of us: it waits for
                // every member when it divides the partitions anew.
                let is_kept = self.log_gives_partitions_to_one()
                    && self.reader.as_mut().is_some_and(|reader| reader.stay(HEAR_FOR).is_ok());
                if !is_kept {
                    self.reader = None;
                }
            }
        }
        outcome
    }

    fn try_step(&mut self, wait: Duration) -> Result<Step, StepError> {
        if let Some(error) = self.met.take() {
            return Err(error.into());
        }
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            place @ None => place.insert(ledger::connect_to_apply(&self.database_url)?),
        };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            place @ None => place.insert(Reader::open(&self.log)?),
        };
        let assignment = reader.assignment()?;
        if self.held.as_ref().is_none_or(|held| held.generation != assignment.generation) {
            self.ahead.clear();
            self.held = Held::take(assignment, &self.log, reader, ledger)?;
        }
        let Some(held) = &mut self.held else {
            // It is being given to another, or was already: that is heard by and by.
            reader.stay(wait.max(self.settings.linger))?;
            return Ok(Step::Idle);
        };
        let mut messages = std::mem::take(&mut self.ahead);
        if messages.is_empty() {
            let records = read_batch(reader, &held.positions(), self.settings, wait)?;
            messages = judge_all(records, &self.apps, held);
        }
        if messages.is_empty() {
            reader.applied(&held.positions());
            return Ok(Step::Idle);
        }
        // Until it is applied, and longer if that fails.
        self.oldest = oldest(&messages);
        let after = held.positions_after(&messages);
        let (settings, apps, names) = (self.settings, &self.apps, held.clone());
        let (applied, ahead) = thread::scope(|scope| {
            let ahead = scope.spawn(|| {
                let records = read_batch(reader, &after, settings, Duration::ZERO)?;
                Ok::<_, StreamError>(judge_all(records, apps, &names))
            });
            let mut settling = Settling {
                ledger,
                held,
                metrics: &self.metrics,
                now: self.clock.now(),
                total: Applied::default(),
            };
            let applied = settling.settle(messages).map(|()| settling.total);
            (applied, ahead.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        match applied {
            Ok(applied) => {
                match ahead {
                    Ok(ahead) => self.ahead = ahead,
                    // Some errors are said once: the next step is the one that fails.
                    Err(error) => self.met = Some(error),
                }
                self.oldest = oldest(&self.ahead);
                reader.applied(&held.positions());
                Ok(Step::Applied(applied))
            }
            Err(ApplyError::Fenced) => Ok(Step::Fenced),
            Err(error) => Err(StepError::Apply(error)),
        }
    }

    /// Steps until told to stop. Failures are logged once, counted by the health part, and waited out.
    pub fn run(mut self, shutdown: &Shutdown) {
        let (mut observed, mut dropped) = (None, None);
        let mut failing = false;
        // The first look does not wait: whether the ledger is there is known at once.
        let mut wait = Duration::ZERO;
        while !shutdown.is_triggered() {
            let mut outcome = self.step(wait);
            if due(&mut observed, OBSERVE_EVERY) {
                // Also while nothing can be applied: that is when it matters.
                let seen = self.observe();
                outcome = outcome.and_then(|step| seen.map(|()| step));
            }
            self.metrics.age(self.oldest, self.clock.now());
            if outcome.is_ok() && due(&mut dropped, DROP_EVERY) {
                outcome = outcome.and_then(|step| self.drop_read().map(|()| step));
            }
            wait = IDLE_WAIT;
            match outcome {
                Ok(step) => {
                    if failing {
                        info!("the consumer applies again");
                    }
                    failing = false;
                    self.health.ok(HEALTH_PART);
                    if step == Step::Fenced {
                        warn!("another consumer has our partitions; asking anew");
                        shutdown.wait_for(self.settings.linger);
                    }
                }
                Err(error) => {
                    if !failing {
                        error!(error = chain(&error), "the consumer cannot apply and tries again");
                    }
                    failing = true;
                    self.health.failed(HEALTH_PART, &error.to_string());
                    shutdown.wait_for(RETRY_WAIT);
                }
            }
        }
        self.close();
    }

    /// Leaves. What is in the log stays there; the next start goes on from the ledger's positions.
    pub fn close(mut self) {
        let positions = self.held.take().map(|held| held.positions()).unwrap_or_default();
        if let Some(reader) = self.reader.take() {
            reader.close(&positions);
        }
    }

    fn forget(&mut self) {
        if let Some(held) = self.held.take() {
            self.known = held.positions();
        }
        self.ahead.clear();
    }

    fn log_gives_partitions_to_one(&self) -> bool {
        match &self.log {
            Log::Postgres { .. } => false,
            Log::Kafka(_) => true,
        }
    }

    /// Brings the lag's metrics up to date, by the last positions known of what is ours.
    fn observe(&mut self) -> Result<(), StepError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let positions = match &self.held {
            Some(held) => held.positions(),
            None => {
                let ours = reader.assignment()?.partitions;
                self.known
                    .iter()
                    .filter(|(partition, _)| ours.contains(partition))
                    .copied()
                    .collect()
            }
        };
        let partitions: Vec<Partition> =
            positions.iter().map(|(partition, _)| *partition).collect();
        let ends = reader.ends(&partitions)?;
        self.metrics.lag(&positions, &ends);
        let waits = |(partition, next): &&(Partition, i64)| {
            ends.iter().any(|(other, end)| other == partition && end > next)
        };
        let waiting: Vec<(Partition, i64)> = positions.iter().filter(waits).copied().collect();
        if waiting.is_empty() {
            self.oldest = None;
        } else if self.oldest.is_none() {
            // Nothing is in our hands, and yet something waits.
            let oldest = reader.oldest_unread(&waiting)?;
            self.oldest = oldest.into_iter().map(|(_, received_at)| received_at).min();
        }
        if let Some(ledger) = &mut self.ledger {
            let quarantined = ledger::quarantine::count(ledger).map_err(StepError::Positions)?;
            self.metrics.quarantined(quarantined);
        }
        Ok(())
    }

    /// Drops messages from the log that were applied long ago; the inbox keeps their bytes.
    fn drop_read(&mut self) -> Result<(), StepError> {
        let (Some(reader), Some(held)) = (&mut self.reader, &self.held) else { return Ok(()) };
        let Ok(keep) = chrono::Duration::from_std(self.settings.keep) else { return Ok(()) };
        let dropped = reader.drop_read(&held.positions(), self.clock.now() - keep)?;
        if dropped > 0 {
            info!(dropped, "dropped applied messages from the log");
        }
        Ok(())
    }
}

/// A batch on its way into the ledger.
struct Settling<'c> {
    ledger: &'c mut ledger::Connection,
    held: &'c mut Held,
    metrics: &'c Metrics,
    now: DateTime<Utc>,
    total: Applied,
}

impl Settling<'_> {
    /// Applies messages, in halves where the ledger refuses the whole, until what it refuses is one message:
    /// that one is set aside. Order within a partition is kept, since halves are applied in order.
    fn settle(&mut self, messages: Vec<Message>) -> Result<(), ApplyError> {
        let batch = Batch { steps: self.held.steps(&messages), messages };
        match ledger::apply(self.ledger, &batch, self.now) {
            Ok(applied) => {
                self.held.moved(&batch.steps);
                self.metrics.applied(&applied, &batch.messages);
                debug!(messages = batch.messages.len(), ?applied, "applied a batch");
                self.total += applied;
                Ok(())
            }
            Err(ApplyError::Refused(refusal)) => {
                let mut messages = batch.messages;
                if messages.len() > 1 {
                    let rest = messages.split_off(messages.len() / 2);
                    self.settle(messages)?;
                    return self.settle(rest);
                }
                for message in &mut messages {
                    // Refused even as a dead letter: nothing more can be done with it here.
                    if matches!(message.content, Content::Dead { .. }) {
                        return Err(ApplyError::Refused(refusal));
                    }
                    let detail = chain(&refusal);
                    warn!(
                        app.id = %message.app_id, log.topic = &*message.log_topic,
                        log.partition = message.partition, log.offset = message.offset,
                        "the ledger refuses a message: it is set aside"
                    );
                    message.content = Content::Dead { reason: "refused_by_ledger", detail };
                    // It may have been the time that the ledger's calendar does not have.
                    message.received_at = message.received_at.max(DateTime::UNIX_EPOCH);
                }
                self.settle(messages)
            }
            Err(error @ (ApplyError::Fenced | ApplyError::Transient(_))) => Err(error),
        }
    }
}

/// Up to a batch of records: the first waited for, the rest as they come within the linger.
fn read_batch(
    reader: &mut Reader,
    from: &[(Partition, i64)],
    settings: Settings,
    wait: Duration,
) -> Result<Vec<Record>, StreamError> {
    let mut records = reader.read(from, settings.batch, wait)?;
    if records.is_empty() {
        return Ok(records);
    }
    let mut next = from.to_vec();
    let first = Instant::now();
    while let Some(room) = settings.batch.checked_sub(records.len()).filter(|room| *room > 0) {
        let left = settings.linger.saturating_sub(first.elapsed());
        if left.is_zero() {
            break;
        }
        for (partition, offset) in &mut next {
            let last = records.iter().rfind(|record| record.partition == *partition);
            *offset = last.map_or(*offset, |record| record.offset + 1);
        }
        records.extend(reader.read(&next, room, left)?);
    }
    Ok(records)
}

fn judge_all(records: Vec<Record>, apps: &HashMap<AppId, Arc<App>>, held: &Held) -> Vec<Message> {
    records
        .into_iter()
        .map(|record| {
            let log_topic = held.log_topic(record.partition);
            judge(record, log_topic, apps)
        })
        .collect()
}

/// Where it is known when they were received: not of what the log has dropped.
fn oldest(messages: &[Message]) -> Option<DateTime<Utc>> {
    let received_at = messages.iter().map(|message| message.received_at);
    received_at.filter(|received_at| *received_at > DateTime::UNIX_EPOCH).min()
}

fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= every);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}
