use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use payment::Envelope;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::client::{self, Brokers};
use super::{cloud_event, topics};
use crate::{AppendError, AppendSettings, KafkaSettings, Partition, StreamError};

/// Appends to Kafka by one idempotent producer, acknowledged by all replicas in sync.
#[derive(Clone, Debug)]
pub(crate) struct Appender(Arc<Shared>);

struct Shared {
    kafka: KafkaSettings,
    settings: AppendSettings,
    /// `None` once it is closed.
    producer: RwLock<Option<ThreadedProducer<Context>>>,
    state: Arc<State>,
    /// Looks for brokers that are away.
    watch: Mutex<Option<JoinHandle<()>>>,
}

/// What the producer's thread tells the others.
#[derive(Debug)]
struct State {
    brokers: Brokers,
    started: Instant,
    /// When a record was last acknowledged, in milliseconds since `started`.
    delivered_ms: AtomicU64,
    /// Brokers that answer have refused the last records.
    is_refused: AtomicBool,
    /// The producer cannot go on: a new one is needed.
    is_broken: AtomicBool,
    is_closed: AtomicBool,
}

/// Of one record: its partition and offset.
type Outcome = Result<(i32, i64), AppendError>;

/// One record on its way.
struct Waiting {
    answer: oneshot::Sender<Outcome>,
    bytes: usize,
    /// As in [`State::delivered_ms`].
    sent_ms: u64,
}

impl Appender {
    pub(crate) fn start(
        kafka: &KafkaSettings,
        settings: AppendSettings,
    ) -> Result<Appender, StreamError> {
        let state = Arc::new(State {
            brokers: Brokers::default(),
            started: Instant::now(),
            delivered_ms: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        });
        let producer = producer(kafka, settings, &state)?;
        topics::check_there(producer.client(), kafka, &state.brokers)?;
        let shared = Arc::new(Shared {
            kafka: kafka.clone(),
            settings,
            producer: RwLock::new(Some(producer)),
            state,
            watch: Mutex::new(None),
        });
        let weak = Arc::downgrade(&shared);
        let watch = thread::Builder::new()
            .name("append".to_owned())
            .spawn(move || {
                while let Some(shared) = weak.upgrade() {
                    if shared.state.is_closed.load(Ordering::Relaxed) {
                        return;
                    }
                    shared.look();
                    drop(shared);
                    thread::park_timeout(LOOK_EVERY);
                }
            })
            .map_err(StreamError::Thread)?;
        *shared.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        Ok(Appender(shared))
    }

    pub(crate) async fn append(&self, envelope: Envelope) -> Result<(Partition, i64), AppendError> {
        let topic = envelope.topic;
        // Whoever waits when the brokers go is told at once, and not when the delivery's time is over.
        let gone = self.0.state.brokers.gone.notified();
        tokio::pin!(gone);
        gone.as_mut().enable();
        let answered = self.0.send(&envelope)?;
        let (number, offset) = tokio::select! {
            biased;
            answer = answered => answer.unwrap_or(Err(AppendError::Unavailable))?,
            () = gone => return Err(AppendError::Unavailable),
        };
        Ok((Partition { topic, number }, offset))
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.0.state.brokers.are_away()
    }

    pub(crate) fn close(self) {
        self.0.state.is_closed.store(true, Ordering::Relaxed);
        let producer = self.0.producer.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(producer) = producer {
            // What is not acknowledged by then fails by its own deadline; whoever waited answers `fail`.
            if let Err(error) = producer.flush(self.0.settings.deadline) {
                tracing::error!(error = %error, "not everything was appended before the end");
            }
        }
        let watch = self.0.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            watch.thread().unpark();
            if watch.join().is_err() {
                tracing::error!("the thread that watches the log fell over");
            }
        }
    }
}

/// How often brokers that are away are looked for, and how long they have to answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Shared {
    /// Hands the envelope to the producer, or says at once why not.
    fn send(&self, envelope: &Envelope) -> Result<oneshot::Receiver<Outcome>, AppendError> {
        // Nothing is left to wait in vain.
        if self.state.brokers.are_away() || self.state.is_broken.load(Ordering::Relaxed) {
            return Err(AppendError::Unavailable);
        }
        let (answer, answered) = oneshot::channel();
        let bytes = envelope.body.len();
        let waiting = Box::new(Waiting { answer, bytes, sent_ms: self.state.now_ms() });
        let record = BaseRecord::with_opaque_to(self.kafka.topics.of(envelope.topic), waiting)
            .key(envelope.key.as_str())
            .payload(envelope.body.as_slice())
            .headers(cloud_event::headers(envelope));
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = producer.as_ref() else { return Err(AppendError::Unavailable) };
        match producer.send(record) {
            Ok(()) => Ok(answered),
            Err((error, _)) => Err(self.state.failed(&error, bytes)),
        }
    }

    /// Looks for brokers that are away, and replaces a producer that cannot go on.
    fn look(&self) {
        if self.state.is_broken.load(Ordering::Relaxed) {
            match producer(&self.kafka, self.settings, &self.state) {
                Ok(producer) => {
                    let mut place = self.producer.write().unwrap_or_else(PoisonError::into_inner);
                    if place.is_none() {
                        return;
                    }
                    let broken = place.replace(producer);
                    self.state.is_broken.store(false, Ordering::Relaxed);
                    // Its end takes a while; others may send again before.
                    drop(place);
                    drop(broken);
                    tracing::warn!("the log's producer was made anew");
                }
                Err(error) => {
                    tracing::error!(error = %error, "the log's producer cannot be made anew")
                }
            }
        }
        if self.state.brokers.are_away() {
            let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner);
            let Some(producer) = producer.as_ref() else { return };
            if topics::check_there(producer.client(), &self.kafka, &self.state.brokers).is_ok() {
                self.state.brokers.came_back();
            }
        }
    }
}

fn producer(
    kafka: &KafkaSettings,
    settings: AppendSettings,
    state: &Arc<State>,
) -> Result<ThreadedProducer<Context>, StreamError> {
    let deadline_ms = settings.deadline.as_millis().to_string();
    // `linger.ms` stays librdkafka's own: an idempotent producer has one batch of a partition on its way, and asks
    // without waiting until the next one may leave, so a time shorter than an acknowledgement burns the processor.
    let mut config = client::config(kafka);
    // Other names of what is set here, which would win or lose by chance.
    for name in ["request.required.acks", "delivery.timeout.ms", "transactional.id"] {
        config.remove(name);
    }
    config
        // As Kafka's own clients do it, so that whoever else writes our keys finds the same partitions.
        .set("partitioner", "murmur2_random")
        // Whoever waits for an append waits for its report.
        .set("delivery.report.only.error", "false")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", &deadline_ms)
        .set("request.timeout.ms", &deadline_ms)
        .set("socket.timeout.ms", settings.deadline.as_millis().max(10).to_string())
        .set("message.max.bytes", MESSAGE_MAX_BYTES)
        .set("queue.buffering.max.messages", settings.queue.to_string())
        .set("queue.buffering.max.kbytes", (settings.queue_bytes / 1024).max(1).to_string());
    let context = Context { state: Arc::clone(state) };
    config.create_with_context(context).map_err(client::failed(
        kafka,
        &state.brokers,
        "open a producer to",
    ))
}

/// The longest body that the front door can be told to take, and room for what goes with it. The topic's own limit
/// is the one that counts.
const MESSAGE_MAX_BYTES: &str = "17825792";

impl State {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What an error means for one envelope, and for those after it.
    fn failed(&self, error: &KafkaError, bytes: usize) -> AppendError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => AppendError::Full,
            Some(Code::MessageSizeTooLarge) => AppendError::TooLarge { bytes },
            Some(Code::Fatal | Code::OutOfOrderSequenceNumber | Code::UnknownProducerId) => {
                self.broke(error);
                AppendError::Unavailable
            }
            _ => AppendError::Unavailable,
        }
    }

    fn delivered(&self) {
        self.delivered_ms.store(self.now_ms(), Ordering::Relaxed);
        self.is_refused.store(false, Ordering::Relaxed);
        self.brokers.came_back();
    }

    /// Told aloud once until something is delivered again; that nobody answers is told by [`Brokers`].
    fn not_delivered(&self, error: &KafkaError) {
        if !client::is_away(error) && !self.is_refused.swap(true, Ordering::Relaxed) {
            tracing::error!(error = %error, "the log refuses records");
        } else {
            tracing::debug!(error = %error, "a record was not delivered");
        }
    }

    fn broke(&self, error: &KafkaError) {
        if !self.is_broken.swap(true, Ordering::Relaxed) {
            tracing::error!(error = %error, "the log's producer cannot go on");
        }
    }
}

struct Context {
    state: Arc<State>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.state.broke(&error);
        }
        self.state.brokers.error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Waiting>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Box<Waiting>) {
        let outcome = match result {
            Ok(message) => {
                self.state.delivered();
                Ok((message.partition(), message.offset()))
            }
            Err((error, _)) => {
                // Its partition may be without a leader; only if nothing else got through meanwhile are all away.
                if client::is_away(error)
                    && self.state.delivered_ms.load(Ordering::Relaxed) <= waiting.sent_ms
                {
                    self.state.brokers.went();
                }
                self.state.not_delivered(error);
                Err(self.state.failed(error, waiting.bytes))
            }
        };
        // Whoever does not wait any more needs no answer.
        drop(waiting.answer.send(outcome));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("kafka", &self.kafka).field("state", &self.state).finish()
    }
}
