//! The log in Kafka, over a real broker: what stands on the wire, what happens when the broker is away, which topics
//! are fit, and who is let in.

mod foreign;
mod security;
mod topics;
mod trouble;
mod wire;

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::runtime::Builder;

use crate::harness::Broker;

/// Far beyond what the slowest machine needs: only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A record as any client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    partition: i32,
    offset: i64,
    key: Vec<u8>,
    /// In their order.
    headers: Vec<(String, String)>,
    value: Vec<u8>,
}

impl Raw {
    fn of(message: &BorrowedMessage<'_>) -> Raw {
        let headers = message.headers().unwrap().iter();
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        Raw {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap().to_vec(),
            headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
            value: message.payload().unwrap().to_vec(),
        }
    }
}

/// Every record of the topic, read by a client that knows nothing of us; by partition and offset.
fn raw(broker: &Broker, topic: &str) -> Vec<Raw> {
    let mut config = broker.client();
    config.set("group.id", broker.fresh_name()).set("isolation.level", "read_uncommitted");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
        left += end - first;
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    for _ in 0..left {
        let message = consumer.poll(PATIENCE).expect("the topic goes on").unwrap();
        records.push(Raw::of(&message));
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// What an administrator of this broker does.
pub(crate) fn as_admin<T>(
    broker: &Broker,
    act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T,
) -> T {
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    Builder::new_current_thread().build().unwrap().block_on(act(&admin, &options))
}
