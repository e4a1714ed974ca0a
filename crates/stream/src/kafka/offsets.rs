//! Where partitions begin and end.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{self, Brokers};
use crate::{KafkaSettings, Partition, StreamError};

/// Asks over a connection of its own, all partitions at once: on the reader's, every answer would stand behind a fetch
/// that waits for records.
pub(super) struct Offsets {
    settings: KafkaSettings,
    client: BaseConsumer<Quiet>,
}

/// The offset of the first record that is there, and the one that the next will get.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    First,
    End,
}

impl Offsets {
    pub(super) fn open(settings: &KafkaSettings, heard: &Brokers) -> Result<Offsets, StreamError> {
        let client = client::config(settings)
            .set("isolation.level", "read_committed")
            .create_with_context(Quiet)
            .map_err(client::failed(settings, heard, "open a client of"))?;
        Ok(Offsets { settings: settings.clone(), client })
    }

    /// In the order asked.
    pub(super) fn of(
        &self,
        partitions: &[Partition],
        bound: Bound,
        heard: &Brokers,
    ) -> Result<Vec<(Partition, i64)>, StreamError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |error| client::failed(&self.settings, heard, "ask for the offsets of")(error);
        let asked = match bound {
            Bound::First => Offset::Beginning,
            Bound::End => Offset::End,
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            let name = self.settings.topics.of(partition.topic);
            list.add_partition_offset(name, partition.number, asked).map_err(failed)?;
        }
        let told = self.client.offsets_for_times(list, PATIENCE);
        self.hear();
        let told = told.map_err(failed)?;
        let mut bounds = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let place =
                told.find_partition(self.settings.topics.of(partition.topic), partition.number);
            let place = place.ok_or_else(|| failed(unknown()))?;
            place.error().map_err(failed)?;
            let Offset::Offset(offset) = place.offset() else { return Err(failed(unknown())) };
            bounds.push((*partition, offset));
        }
        Ok(bounds)
    }

    /// What has come to its queue since, which nobody else empties.
    fn hear(&self) {
        const AT_MOST: usize = 100;
        for _ in 0..AT_MOST {
            drop(self.client.poll(Duration::ZERO));
        }
    }
}

fn unknown() -> KafkaError {
    KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)
}

/// What happens to the connection, the reader's own tells.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Quiet {}
