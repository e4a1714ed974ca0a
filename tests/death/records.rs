//! What stands in the log, read without any of our own code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diesel::sql_types::{Binary, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use payment::Topic;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use stream::{KafkaSettings, Log};

use crate::harness::wait;

pub(crate) struct Record {
    pub(crate) key: String,
    /// CloudEvents' attributes, named as in Kafka's binary mode.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// All of a topic, those of one key in the order in which they stand in the log.
pub(crate) fn read(log: &Log, topic: Topic) -> Vec<Record> {
    match log {
        Log::Postgres { database_url, .. } => read_table(database_url, topic.as_str()),
        Log::Kafka(kafka) => read_topic(kafka, kafka.topics.of(topic)),
    }
}

/// The notifications in the log, by the `notify_id` in their bytes.
pub(crate) fn notify_ids(log: &Log) -> BTreeSet<String> {
    let records = read(log, Topic::Notifications);
    let notify_id = |record: &Record| {
        // Percent-encoded, and so ASCII; our numbers hold nothing that needs it.
        let body = std::str::from_utf8(&record.body).unwrap();
        let value = body.split('&').find_map(|pair| pair.strip_prefix("notify_id="));
        value.unwrap().to_owned()
    };
    records.iter().map(notify_id).collect()
}

fn read_table(database_url: &str, topic: &str) -> Vec<Record> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Text)]
        id: String,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Nullable<Text>)]
        sequence: Option<String>,
        #[diesel(sql_type = Binary)]
        body: Vec<u8>,
    }
    let mut conn = ledger::connect(database_url).unwrap();
    let rows: Vec<Row> = sql_query(
        "SELECT key, id, kind, sequence::text, body FROM log_record WHERE topic = $1
          ORDER BY partition, record_offset",
    )
    .bind::<Text, _>(topic)
    .load(&mut conn)
    .unwrap();
    let record = |Row { key, id, kind, sequence, body }| {
        let headers = [("ce_id", Some(id)), ("ce_type", Some(kind)), ("ce_sequence", sequence)];
        let given = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        Record { key, headers: headers.into_iter().filter_map(given).collect(), body }
    };
    rows.into_iter().map(record).collect()
}

fn read_topic(kafka: &KafkaSettings, topic: &str) -> Vec<Record> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut left: BTreeMap<i32, i64> = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let number = partition.id();
        let (first, end) = consumer.fetch_watermarks(topic, number, PATIENCE).unwrap();
        assert_eq!(first, 0, "nothing was dropped");
        if end > 0 {
            left.insert(number, end);
            list.add_partition_offset(topic, number, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    wait::until("all records are read", || {
        // As long as something comes; a look at the clock for each would take longer than the reading.
        while let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            records.push(record(&message));
            if left.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                left.remove(&message.partition());
            }
            if left.is_empty() {
                break;
            }
        }
        left.is_empty()
    });
    records
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = message.headers().unwrap();
    Record {
        key: text(message.key().unwrap()),
        headers: headers
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect(),
        body: message.payload().unwrap().to_vec(),
    }
}
