mod batch;
mod queue;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use payment::{Envelope, Topic};
use tokio::sync::oneshot;

use self::queue::{Queue, Taken, Waiting};
use super::partition;
use crate::error::query;
use crate::{AppendError, AppendSettings, Partition, StreamError};

/// Appends envelopes to the log, from any number of tasks, over one connection with a thread of its own.
///
/// While one batch is being committed the next one gathers, so one `fsync` serves many. Clones share the
/// thread; when the last is dropped, it finishes what waits and ends.
#[derive(Clone, Debug)]
pub(crate) struct Appender(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    connected: Arc<AtomicBool>,
    partitions: i32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Appender {
    /// Connects, and starts the thread.
    ///
    /// # Errors
    /// When the database cannot be reached or has no partitions.
    pub(crate) fn start(
        database_url: &str,
        settings: AppendSettings,
    ) -> Result<Appender, StreamError> {
        let mut line = Line::new(database_url, settings.deadline);
        let partitions = count_partitions(line.connection()?)?;
        let queue = Arc::new(Queue::new(settings));
        let connected = Arc::clone(&line.connected);
        let work = {
            let queue = Arc::clone(&queue);
            move || work(line, &queue)
        };
        let thread = thread::Builder::new()
            .name("append".to_owned())
            .spawn(work)
            .map_err(StreamError::Thread)?;
        let thread = Mutex::new(Some(thread));
        Ok(Appender(Arc::new(Handle { queue, connected, partitions, thread })))
    }

    /// Appends one envelope to its topic, in the partition of its key. `Ok` only after the commit.
    ///
    /// Sets no limit to the time it takes: wrap it in a timeout. Dropping the future does not undo it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub(crate) async fn append(&self, envelope: Envelope) -> Result<(Partition, i64), AppendError> {
        check_no_zero_byte(&envelope)?;
        let number = partition::number_of(&envelope.key, self.0.partitions);
        let partition = Partition { topic: envelope.topic, number };
        let (answer, answered) = oneshot::channel();
        self.0.queue.put(Waiting { partition, envelope, answer })?;
        let offset = answered.await.unwrap_or(Err(AppendError::Unavailable))?;
        Ok((partition, offset))
    }

    /// Whether the database was there when last seen. While it is away, it is looked for every second.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Relaxed)
    }

    /// Takes nothing more, appends what waits, and returns when that is done. Other clones' appends
    /// fail from now on.
    pub(crate) fn close(self) {
        self.0.queue.close();
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the appending thread fell over");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn work(mut line: Line, queue: &Queue) {
    loop {
        match queue.take(RETRY) {
            Taken::Closed => return,
            // Somebody may wait for the log to come back before sending anything.
            Taken::Idle if !line.connected.load(Ordering::Relaxed) => drop(line.connection()),
            Taken::Idle => {}
            Taken::Batch(batch) if batch.is_empty() => {}
            Taken::Batch(batch) => match line.append(&batch) {
                Some(offsets) => batch
                    .into_iter()
                    .zip(offsets)
                    // Whoever does not wait any more needs no answer.
                    .for_each(|(waiting, offset)| drop(waiting.answer.send(Ok(offset)))),
                None => batch
                    .into_iter()
                    .for_each(|waiting| drop(waiting.answer.send(Err(AppendError::Unavailable)))),
            },
        }
    }
}

/// How often a database that is away is looked for while nobody asks for it.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked for while messages come in.
const RETRY_BUSY: Duration = Duration::from_millis(200);
/// A connection that was silent for longer is tried before it is trusted with a batch.
const SILENCE: Duration = Duration::from_secs(1);

/// The connection, made again after it was lost.
struct Line {
    database_url: String,
    statement_timeout: Duration,
    conn: Option<PgConnection>,
    last_used: Instant,
    last_failed: Option<Instant>,
    connected: Arc<AtomicBool>,
}

impl Line {
    fn new(database_url: &str, statement_timeout: Duration) -> Self {
        Line {
            database_url: database_url.to_owned(),
            statement_timeout,
            conn: None,
            last_used: Instant::now(),
            last_failed: None,
            connected: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The offsets of a committed batch, or `None`. Every failure ends the connection: what state it is
    /// in is not known, and a new one costs a millisecond.
    fn append(&mut self, batch: &[Waiting]) -> Option<Vec<i64>> {
        if self.last_failed.is_some_and(|failed| failed.elapsed() < RETRY_BUSY) {
            return None;
        }
        let conn = self.connection().ok()?;
        match batch::append(conn, batch) {
            Ok(offsets) => Some(offsets),
            Err(error) => {
                let messages = batch.len();
                self.lost();
                tracing::error!(
                    messages,
                    error = chain(&error),
                    "cannot append {messages} messages"
                );
                None
            }
        }
    }

    /// A connection that answers.
    fn connection(&mut self) -> Result<&mut PgConnection, StreamError> {
        if self.last_used.elapsed() > SILENCE
            && self.conn.as_mut().is_some_and(|conn| conn.batch_execute("SELECT 1").is_err())
        {
            self.conn = None;
        }
        self.last_used = Instant::now();
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => match connect(&self.database_url, self.statement_timeout) {
                Ok(conn) => conn,
                Err(error) => {
                    self.lost();
                    tracing::warn!(error = chain(&error), "the log is away");
                    return Err(error);
                }
            },
        };
        self.last_failed = None;
        self.connected.store(true, Ordering::Relaxed);
        Ok(self.conn.insert(conn))
    }

    fn lost(&mut self) {
        self.conn = None;
        self.last_failed = Some(Instant::now());
        self.connected.store(false, Ordering::Relaxed);
    }
}

fn connect(url: &str, statement_timeout: Duration) -> Result<PgConnection, StreamError> {
    let mut conn = PgConnection::establish(url).map_err(StreamError::Connect)?;
    let limit_ms = statement_timeout.as_millis();
    // `synchronous_commit` is what an answered `success` rests on, whatever the server's own setting. A process that
    // freezes in a transaction has partitions locked: the server ends it.
    conn.batch_execute(&format!(
        "SET statement_timeout = {limit_ms}; SET synchronous_commit = on; \
         SET idle_in_transaction_session_timeout = {limit_ms}; \
         SET application_name = 'suanpan append'"
    ))
    .map_err(query("set up a connection to"))?;
    Ok(conn)
}

fn count_partitions(conn: &mut PgConnection) -> Result<i32, StreamError> {
    let ends = partition::ends(conn)?;
    let of_topic = |topic| ends.iter().filter(|(partition, _)| partition.topic == topic).count();
    // Equal for all topics, as `create_partitions` makes them; the smallest is safe in any case.
    let count = Topic::ALL.into_iter().map(of_topic).min().unwrap_or(0);
    i32::try_from(count).ok().filter(|count| *count > 0).ok_or(StreamError::NoPartitions)
}

/// Bytes are bytes, but Postgres's text holds no zero; the other envelopes of a batch would fail with it.
fn check_no_zero_byte(envelope: &Envelope) -> Result<(), AppendError> {
    let texts = [
        ("id", envelope.id.as_str()),
        ("key", envelope.key.as_str()),
        ("reason", envelope.reason.as_deref().unwrap_or_default()),
    ];
    match texts.into_iter().find(|(_, text)| text.contains('\0')) {
        Some((field, _)) => Err(AppendError::ZeroByte { field }),
        None => Ok(()),
    }
}

/// The error with what caused it, on one line.
fn chain(error: &StreamError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    // What libpq says has lines.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
