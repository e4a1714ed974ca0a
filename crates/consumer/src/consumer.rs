use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alipay::App;
use ledger::position::{Advance, Claimed};
use ledger::{Applied, ApplyError, Batch, Content, Message};
use payment::AppId;
use service::{Clock, Health, Shutdown, chain};
use stream::{Partition, Reader, Record};
use tracing::{debug, error, info, warn};

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
            batch: 500,
            linger: Duration::from_millis(20),
            keep: Duration::from_secs(7 * 86_400),
        }
    }
}

/// One consumer: a reader of the log and a connection to the ledger.
pub struct Consumer {
    settings: Settings,
    database_url: String,
    links: Option<Links>,
    apps: HashMap<AppId, Arc<App>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Health,
}

struct Links {
    reader: Reader,
    ledger: ledger::Connection,
    /// What the ledger says the next offset of each partition is.
    positions: Vec<(Partition, i64)>,
    /// What the claim of each partition gave, in the same order.
    claims: Vec<Claimed>,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Applied(Applied),
    /// Nothing to read.
    Idle,
    /// Another consumer moved these partitions on; the next step starts from where it left them.
    Fenced,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot register the consumer's metrics")]
    Metrics(#[source] prometheus::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("cannot read the log")]
    Log(#[from] stream::StreamError),
    #[error("cannot reach the ledger")]
    Ledger(#[from] ledger::ConnectError),
    #[error("cannot read the positions")]
    Positions(#[source] ledger::QueryError),
    #[error("cannot apply a batch")]
    Apply(#[source] ApplyError),
}

const HEALTH_PART: &str = "ledger";
/// The loop waits so long for a first message before it looks whether it shall stop.
const IDLE_WAIT: Duration = Duration::from_millis(500);
const RETRY_WAIT: Duration = Duration::from_secs(1);
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
const DROP_EVERY: Duration = Duration::from_secs(600);

impl Consumer {
    /// Connects at the first step: a database that is away is waited for, not an error.
    pub fn open(
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
            database_url: database_url.to_owned(),
            links: None,
            apps: apps.into_iter().map(|app| (app.app_id.clone(), app)).collect(),
            clock,
            metrics: Metrics::new(registry).map_err(OpenError::Metrics)?,
            health: health.clone(),
        })
    }

    /// Reads and applies one batch, waiting up to `wait` for its first message. After an error the next step
    /// connects anew and starts from the ledger's positions.
    pub fn step(&mut self, wait: Duration) -> Result<Step, StepError> {
        let mut links = match self.links.take() {
            Some(links) => links,
            None => Links::open(&self.database_url)?,
        };
        let records = read_batch(&mut links, self.settings, wait)?;
        if records.is_empty() {
            self.links = Some(links);
            return Ok(Step::Idle);
        }
        let messages: Vec<Message> =
            records.into_iter().map(|record| judge(record, &self.apps)).collect();
        let mut applied = Applied::default();
        match self.settle(&mut links, messages, &mut applied) {
            Ok(()) => {}
            // The positions are read again at the next step.
            Err(ApplyError::Fenced) => return Ok(Step::Fenced),
            Err(error) => return Err(StepError::Apply(error)),
        }
        self.links = Some(links);
        Ok(Step::Applied(applied))
    }

    /// Steps until told to stop. Failures are logged once, counted by the health part, and waited out.
    pub fn run(mut self, shutdown: &Shutdown) {
        let (mut observed, mut dropped) = (None, None);
        let mut failing = false;
        // The first look does not wait: whether the ledger is there is known at once.
        let mut wait = Duration::ZERO;
        while !shutdown.is_triggered() {
            let outcome = self.step(wait).and_then(|step| {
                if due(&mut observed, OBSERVE_EVERY) {
                    self.observe()?;
                }
                if due(&mut dropped, DROP_EVERY) {
                    self.drop_read()?;
                }
                Ok(step)
            });
            wait = IDLE_WAIT;
            match outcome {
                Ok(step) => {
                    if failing {
                        info!("the consumer applies again");
                    }
                    failing = false;
                    self.health.ok(HEALTH_PART);
                    if step == Step::Fenced {
                        shutdown.wait_for(self.settings.linger);
                    }
                }
                Err(error) => {
                    if !failing {
                        error!(error = chain(&error), "the consumer cannot apply and tries again");
                    }
                    failing = true;
                    self.links = None;
                    self.health.failed(HEALTH_PART, &error.to_string());
                    shutdown.wait_for(RETRY_WAIT);
                }
            }
        }
        // What is already in the log stays there; the next start goes on from the stored positions.
    }

    /// Applies messages, in halves where the ledger refuses the whole, until what it refuses is one message:
    /// that one is set aside. Order within a partition is kept, since halves are applied in order.
    fn settle(
        &self,
        links: &mut Links,
        messages: Vec<Message>,
        total: &mut Applied,
    ) -> Result<(), ApplyError> {
        let batch = Batch { steps: steps(links, &messages), messages };
        match ledger::apply(&mut links.ledger, &batch, self.clock.now()) {
            Ok(applied) => {
                for (partition, next) in &mut links.positions {
                    let moved = batch.steps.iter().find(|step| {
                        *step.log_topic == *partition.topic.as_str()
                            && step.partition == partition.number
                    });
                    *next = moved.map_or(*next, |step| step.to);
                }
                self.metrics.applied(&applied, &batch.messages);
                debug!(messages = batch.messages.len(), ?applied, "applied a batch");
                add(total, &applied);
                Ok(())
            }
            Err(ApplyError::Refused(refusal)) => {
                let mut messages = batch.messages;
                if messages.len() > 1 {
                    let rest = messages.split_off(messages.len() / 2);
                    self.settle(links, messages, total)?;
                    return self.settle(links, rest, total);
                }
                for message in &mut messages {
                    // Refused even as a dead letter: nothing more can be done with it here.
                    if matches!(message.content, Content::Dead { .. }) {
                        return Err(ApplyError::Refused(refusal));
                    }
                    let detail = chain(&refusal);
                    warn!(
                        app.id = %message.app_id, log.partition = message.partition,
                        log.offset = message.offset, "the ledger refuses a message: it is set aside"
                    );
                    message.content = Content::Dead { reason: "refused_by_ledger", detail };
                }
                self.settle(links, messages, total)
            }
            Err(error @ (ApplyError::Fenced | ApplyError::Transient(_))) => Err(error),
        }
    }

    /// Brings the lag's metrics up to date.
    fn observe(&mut self) -> Result<(), StepError> {
        let Some(links) = &mut self.links else { return Ok(()) };
        let ends = links.reader.ends()?;
        // The log has grown partitions: the next step opens it anew and reads them, too.
        if ends.len() != links.positions.len() {
            self.links = None;
            return Ok(());
        }
        let oldest = links.reader.oldest_unread(&links.positions)?;
        let oldest = oldest.into_iter().map(|(_, received_at)| received_at).min();
        self.metrics.observe(&links.positions, &ends, oldest, self.clock.now());
        let quarantined = ledger::quarantine::count(&mut links.ledger);
        self.metrics.quarantined(quarantined.map_err(StepError::Positions)?);
        Ok(())
    }

    /// Drops messages from the log that were applied long ago; the inbox keeps their bytes.
    fn drop_read(&mut self) -> Result<(), StepError> {
        let Some(links) = &mut self.links else { return Ok(()) };
        let Ok(keep) = chrono::Duration::from_std(self.settings.keep) else { return Ok(()) };
        let dropped = links.reader.drop_read(&links.positions, self.clock.now() - keep)?;
        if dropped > 0 {
            info!(dropped, "dropped applied messages from the log");
        }
        Ok(())
    }
}

impl Links {
    fn open(database_url: &str) -> Result<Links, StepError> {
        let mut reader = Reader::open(database_url)?;
        let mut ledger = ledger::connect(database_url)?;
        let partitions = reader.partitions()?;
        let asked: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.topic.as_str(), partition.number))
            .collect();
        let claims = ledger::position::claim(&mut ledger, &asked).map_err(StepError::Positions)?;
        let offsets = claims.iter().map(|claimed| claimed.next_offset);
        let positions = partitions.into_iter().zip(offsets).collect();
        Ok(Links { reader, ledger, positions, claims })
    }
}

/// Up to a batch of records: the first waited for, the rest as they come within the linger.
fn read_batch(
    links: &mut Links,
    settings: Settings,
    wait: Duration,
) -> Result<Vec<Record>, stream::StreamError> {
    let mut records = links.reader.read(&links.positions, settings.batch, wait)?;
    if records.is_empty() {
        return Ok(records);
    }
    let mut next = links.positions.clone();
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
        records.extend(links.reader.read(&next, room, left)?);
    }
    Ok(records)
}

/// The steps these messages make from the positions.
fn steps(links: &Links, messages: &[Message]) -> Vec<Advance> {
    links
        .positions
        .iter()
        .zip(&links.claims)
        .filter_map(|((partition, from), claimed)| {
            let last = messages.iter().rfind(|message| {
                *message.log_topic == *partition.topic.as_str()
                    && message.partition == partition.number
            })?;
            Some(Advance {
                log_topic: partition.topic.as_str().into(),
                partition: partition.number,
                epoch: claimed.epoch,
                from: *from,
                to: last.offset + 1,
            })
        })
        .collect()
}

fn add(total: &mut Applied, more: &Applied) {
    total.applied += more.applied;
    total.kept += more.kept;
    total.duplicate += more.duplicate;
    total.quarantined += more.quarantined;
    total.dead += more.dead;
}

fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let is_due = last.is_none_or(|last| last.elapsed() >= every);
    if is_due {
        *last = Some(Instant::now());
    }
    is_due
}
