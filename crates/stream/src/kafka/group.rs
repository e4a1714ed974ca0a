//! What the group says to a member.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::client::{self, Brokers};

/// What the group says, as librdkafka's callback heard it.
#[derive(Debug, Default)]
pub(super) struct Group {
    generation: AtomicU64,
    assigned: Mutex<Vec<(String, i32)>>,
    pub(super) brokers: Brokers,
}

impl Group {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn assigned(&self) -> (u64, Vec<(String, i32)>) {
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), assigned.clone())
    }

    pub(super) fn is(&self, partitions: Vec<(String, i32)>) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        *assigned = partitions;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// librdkafka's callbacks, heard by the group.
pub(super) struct Context {
    group: Arc<Group>,
}

impl Context {
    pub(super) fn of(group: &Arc<Group>) -> Context {
        Context { group: Arc::clone(group) }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.group.brokers.error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.group.brokers.statistics(statistics);
    }
}

impl ConsumerContext for Context {
    /// What is given is not fetched yet: from where, the ledger says. What is taken is let go of at once.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let given: Vec<(String, i32)> = partitions
                .elements()
                .iter()
                .map(|given| (given.topic().to_owned(), given.partition()))
                .collect();
            // At once, whenever the ledger will be asked, and also where nothing is given: until this is answered the
            // member counts as busy, and the partitions cannot be divided anew.
            if let Err(error) = consumer.assign(&TopicPartitionList::new()) {
                tracing::error!(error = %error, "cannot take partitions");
            }
            tracing::info!(
                partitions = given.len(),
                "the group gave us {} partitions",
                given.len()
            );
            self.group.is(given);
        } else {
            if let Err(error) = consumer.unassign() {
                tracing::error!(error = %error, "cannot let go of partitions");
            }
            tracing::info!("the group took our partitions back");
            self.group.is(Vec::new());
        }
    }
}
