//! Our topics in the cluster: made, checked, grown.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use payment::Topic;
use rdkafka::ClientContext;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{self, Brokers};
use crate::{KafkaSettings, StreamError};

/// Makes the topics that are missing, and grows those with too few partitions; then checks all.
pub(crate) fn set_up(settings: &KafkaSettings) -> Result<Vec<String>, StreamError> {
    let admin = Admin::open(settings)?;
    let mut done = Vec::new();
    for topic in Topic::ALL {
        let name = settings.topics.of(topic);
        match admin.partitions(name)? {
            None => {
                admin.create(name)?;
                done.push(format!(
                    "created topic {name}: {} partitions, {} replicas",
                    settings.partitions, settings.replication
                ));
            }
            Some(partitions) if partitions.len() < settings.partitions() => {
                admin.grow(name)?;
                done.push(format!(
                    "topic {name} grew from {} to {} partitions",
                    partitions.len(),
                    settings.partitions
                ));
            }
            Some(_) => {}
        }
    }
    admin.wait_until_seen()?;
    admin.check_all()?;
    Ok(done)
}

/// Refuses topics that are missing or unfit.
pub(crate) fn check(settings: &KafkaSettings) -> Result<(), StreamError> {
    Admin::open(settings)?.check_all()
}

/// Asks any broker for the topic that everything rests on.
pub(super) fn check_there<C: ClientContext>(
    client: &Client<C>,
    settings: &KafkaSettings,
    heard: &Brokers,
) -> Result<(), StreamError> {
    let name = &settings.topics.notifications;
    match partitions(client, settings, heard, name)? {
        Some(_) => Ok(()),
        None => Err(missing(name)),
    }
}

/// Into how many parts the topic is cut.
pub(super) fn count<C: ClientContext>(
    client: &Client<C>,
    settings: &KafkaSettings,
    heard: &Brokers,
    name: &str,
) -> Result<i32, StreamError> {
    let partitions = partitions(client, settings, heard, name)?.ok_or_else(|| missing(name))?;
    i32::try_from(partitions.len()).map_err(|_| StreamError::TooLarge)
}

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a new topic may take to be everywhere.
const OPERATION_PATIENCE: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A partition as the cluster has it.
struct Replicas {
    count: usize,
}

/// Hears why brokers turn us away.
#[derive(Default)]
struct Looker {
    brokers: Brokers,
}

impl ClientContext for Looker {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.brokers.error(&error, reason);
    }
}

impl ConsumerContext for Looker {}

struct Admin<'s> {
    settings: &'s KafkaSettings,
    client: AdminClient<DefaultClientContext>,
    /// What looks for topics: a consumer, since a broker that is set to may make a topic, after its own fashion, for
    /// anybody else who asks whether it is there.
    looker: BaseConsumer<Looker>,
    runtime: tokio::runtime::Runtime,
}

impl<'s> Admin<'s> {
    fn open(settings: &'s KafkaSettings) -> Result<Admin<'s>, StreamError> {
        let heard = Brokers::default();
        let client = client::config(settings).create().map_err(client::failed(
            settings,
            &heard,
            "open a client of",
        ))?;
        let looker = client::config(settings)
            .create_with_context(Looker::default())
            .map_err(client::failed(settings, &heard, "open a client of"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StreamError::Thread)?;
        Ok(Admin { settings, client, looker, runtime })
    }

    /// `None` for a topic that is not there.
    fn partitions(&self, name: &str) -> Result<Option<Vec<Replicas>>, StreamError> {
        let heard = &self.looker.context().brokers;
        let found = partitions(self.looker.client(), self.settings, heard, name);
        if found.is_ok() {
            return found;
        }
        // Why, stands in its queue. Nothing but errors is answered there.
        while self.looker.poll(LOOK_EVERY).is_some() {}
        partitions(self.looker.client(), self.settings, heard, name)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(KafkaError) -> StreamError {
        client::failed(self.settings, &self.looker.context().brokers, action)
    }

    fn create(&self, name: &str) -> Result<(), StreamError> {
        let keep_ms = self.settings.keep.as_millis().to_string();
        let in_sync = self.settings.min_in_sync().to_string();
        let replication = TopicReplication::Fixed(self.settings.replication);
        let topic = NewTopic::new(name, self.settings.partitions, replication)
            .set("cleanup.policy", "delete")
            .set("retention.ms", &keep_ms)
            .set("retention.bytes", "-1")
            .set("min.insync.replicas", &in_sync)
            .set("unclean.leader.election.enable", "false");
        let options = AdminOptions::new().operation_timeout(Some(OPERATION_PATIENCE));
        let created = self.runtime.block_on(self.client.create_topics([&topic], &options));
        let created = created.map_err(self.failed("create topics in"))?;
        for outcome in created {
            match outcome {
                // Another process was faster.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(self.refused(name, "cannot be created", code)),
            }
        }
        Ok(())
    }

    fn grow(&self, name: &str) -> Result<(), StreamError> {
        let more = NewPartitions::new(name, self.settings.partitions());
        let options = AdminOptions::new().operation_timeout(Some(OPERATION_PATIENCE));
        let grown = self.runtime.block_on(self.client.create_partitions([&more], &options));
        for outcome in grown.map_err(self.failed("grow topics of"))? {
            match outcome {
                // Another process was faster: it has as many already. Whether it has, is checked below.
                Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
                Err((_, code)) => return Err(self.refused(name, "cannot grow", code)),
            }
        }
        Ok(())
    }

    /// A broker may answer before it has heard of what another has just made.
    fn wait_until_seen(&self) -> Result<(), StreamError> {
        let started = Instant::now();
        for topic in Topic::ALL {
            let name = self.settings.topics.of(topic);
            let wanted = self.settings.partitions();
            while self.partitions(name)?.is_none_or(|partitions| partitions.len() < wanted) {
                if started.elapsed() > OPERATION_PATIENCE {
                    return Err(missing(name));
                }
                thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    fn refused(&self, name: &str, what: &str, code: RDKafkaErrorCode) -> StreamError {
        StreamError::Unfit {
            topic: name.to_owned(),
            what: format!("{what}: {}", KafkaError::AdminOp(code)),
            remedy: format!(
                "see what the brokers `{}` allow ([log] partitions, [log.kafka] replication)",
                self.settings.brokers
            ),
        }
    }

    fn check_all(&self) -> Result<(), StreamError> {
        let names: Vec<&str> =
            Topic::ALL.into_iter().map(|topic| self.settings.topics.of(topic)).collect();
        for name in &names {
            self.check_shape(name)?;
        }
        let asked: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let configs = self.runtime.block_on(self.client.describe_configs(&asked, &options));
        let configs = configs.map_err(self.failed("look at the topics of"))?;
        for (name, config) in names.iter().zip(configs) {
            match config {
                Ok(config) => self.check_config(name, &config)?,
                // Not everybody may see them, and whoever may not must trust those who made the topics.
                Err(code) => tracing::warn!(
                    topic = name,
                    "the topic's configuration cannot be checked: {}",
                    KafkaError::AdminOp(code)
                ),
            }
        }
        Ok(())
    }

    fn check_shape(&self, name: &str) -> Result<(), StreamError> {
        let unfit = |what: String, remedy: String| {
            Err(StreamError::Unfit { topic: name.to_owned(), what, remedy })
        };
        let Some(partitions) = self.partitions(name)? else { return Err(missing(name)) };
        let wanted = self.settings.partitions();
        if partitions.len() < wanted {
            return unfit(
                format!("has {} partitions, and the settings want {wanted}", partitions.len()),
                "run `suanpan migrate`, or lower `[log] partitions`".to_owned(),
            );
        }
        let replication = usize::try_from(self.settings.replication).unwrap_or(1);
        match partitions.iter().find(|partition| partition.count < replication) {
            None => Ok(()),
            Some(few) => unfit(
                format!("keeps {} replicas, and the settings want {replication}", few.count),
                "run `kafka-reassign-partitions.sh` to add replicas, or lower `[log.kafka] replication`"
                    .to_owned(),
            ),
        }
    }

    fn check_config(&self, name: &str, config: &ConfigResource) -> Result<(), StreamError> {
        let entries: HashMap<&str, &str> = config
            .entries
            .iter()
            .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
            .collect();
        let value = |name: &str| entries.get(name).copied();
        let number = |name: &str| value(name).and_then(|value| value.parse::<i128>().ok());
        let alter = |key: &str, wanted: &str| {
            format!(
                "run `kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} \
                 --add-config {key}={wanted}`",
                self.settings.brokers
            )
        };
        let unfit = |what: String, remedy: String| {
            Err(StreamError::Unfit { topic: name.to_owned(), what, remedy })
        };
        if let Some(policy) = value("cleanup.policy").filter(|policy| *policy != "delete") {
            return unfit(
                format!(
                    "has cleanup.policy={policy}, which drops all but the last message of an order"
                ),
                alter("cleanup.policy", "delete"),
            );
        }
        let keep_ms = self.settings.keep.as_millis().to_string();
        let wanted = i128::try_from(self.settings.keep.as_millis()).unwrap_or(i128::MAX);
        if let Some(kept) = number("retention.ms").filter(|kept| *kept >= 0 && *kept < wanted) {
            return unfit(
                format!("keeps messages for {kept} ms, and the settings want {keep_ms}"),
                format!("{}, or lower `[log] keep_hours`", alter("retention.ms", &keep_ms)),
            );
        }
        if let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0) {
            return unfit(
                format!("drops what is over {bytes} bytes, however young and unread it is"),
                alter("retention.bytes", "-1"),
            );
        }
        let in_sync = self.settings.min_in_sync();
        if let Some(few) = number("min.insync.replicas").filter(|few| *few < i128::from(in_sync)) {
            return unfit(
                format!(
                    "acknowledges with {few} replicas in sync: one broker's death could lose messages"
                ),
                alter("min.insync.replicas", &in_sync.to_string()),
            );
        }
        if self.settings.replication > 1 && value("unclean.leader.election.enable") == Some("true")
        {
            return unfit(
                "may elect a leader that lacks acknowledged messages".to_owned(),
                alter("unclean.leader.election.enable", "false"),
            );
        }
        Ok(())
    }
}

impl KafkaSettings {
    fn partitions(&self) -> usize {
        usize::try_from(self.partitions).unwrap_or(1)
    }

    /// How many replicas must have a record before it counts as kept: all but one, and at least two where there
    /// are three.
    fn min_in_sync(&self) -> i32 {
        self.replication.saturating_sub(1).max(1)
    }
}

fn partitions<C: ClientContext>(
    client: &Client<C>,
    settings: &KafkaSettings,
    heard: &Brokers,
    name: &str,
) -> Result<Option<Vec<Replicas>>, StreamError> {
    let metadata = client.fetch_metadata(Some(name), PATIENCE).map_err(client::failed(
        settings,
        heard,
        "look for the topics of",
    ))?;
    let is_alone = metadata.brokers().len() == 1 && !settings.brokers.contains(',');
    heard.is_alone.store(is_alone, Ordering::Relaxed);
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(RDKafkaErrorCode::from) {
        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            return Ok(None);
        }
        // It may well be there; making it would not help.
        Some(code) => {
            return Err(StreamError::Unfit {
                topic: name.to_owned(),
                what: format!("cannot be seen: {}", KafkaError::MetadataFetch(code)),
                remedy: "see what the brokers allow this user, or name another in `[log.kafka]`"
                    .to_owned(),
            });
        }
    }
    let replicas = |partition: &rdkafka::metadata::MetadataPartition| Replicas {
        count: partition.replicas().len(),
    };
    let partitions: Vec<Replicas> = topic.partitions().iter().map(replicas).collect();
    Ok((!partitions.is_empty()).then_some(partitions))
}

fn missing(name: &str) -> StreamError {
    StreamError::Unfit {
        topic: name.to_owned(),
        what: "is not there".to_owned(),
        remedy: "run `suanpan migrate`".to_owned(),
    }
}
