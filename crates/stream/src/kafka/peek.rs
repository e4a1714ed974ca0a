//! A look at single records, beside the group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{self, Brokers};
use super::cloud_event;
use crate::{KafkaSettings, Partition, StreamError};

/// When the first record at or after each offset was received, for those that answer in time.
pub(super) fn received_at(
    settings: &KafkaSettings,
    at: &[(Partition, i64)],
) -> Result<Vec<(Partition, DateTime<Utc>)>, StreamError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    if at.is_empty() {
        return Ok(Vec::new());
    }
    let heard = Brokers::default();
    let failed = |error| client::failed(settings, &heard, "look at records of")(error);
    let consumer: BaseConsumer = client::config(settings)
        // Not a member: no group is asked, and nothing is divided anew.
        .set("group.id", format!("{}-peek", settings.group))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        // One record is enough.
        .set("queued.min.messages", "1")
        .set("fetch.message.max.bytes", "65536")
        .set("fetch.wait.max.ms", "50")
        .create()
        .map_err(failed)?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in at {
        let name = settings.topics.of(partition.topic);
        list.add_partition_offset(name, partition.number, Offset::Offset(*offset))
            .map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut found = BTreeMap::new();
    let started = Instant::now();
    while found.len() < at.len() && started.elapsed() < PATIENCE {
        let Some(Ok(message)) = consumer.poll(PATIENCE.saturating_sub(started.elapsed())) else {
            continue;
        };
        let Some(topic) = settings.topics.named(message.topic()) else { continue };
        let partition = Partition { topic, number: message.partition() };
        if let Some(received_at) = cloud_event::received_at(&message) {
            found.entry(partition).or_insert(received_at);
        }
    }
    Ok(found.into_iter().collect())
}
