//! A topic as other programs read it: by a plain Kafka client, or from the table.

use std::time::Duration;

use payment::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Map, Value};
use stream::{KafkaSettings, Log};

use crate::harness::{sql, wait};

/// A message, before anybody of ours has looked at it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) sequence: Option<i64>,
    /// Its headers; of the Postgres log what would be its headers.
    pub(super) headers: Value,
    /// The row without its body, where the log is a Postgres.
    pub(super) row: Option<Value>,
    pub(super) body: Vec<u8>,
}

/// Everything in the topic, each partition in order.
pub(super) fn read(log: &Log, topic: Topic) -> Vec<Found> {
    match log {
        Log::Kafka(kafka) => read_kafka(kafka, topic),
        Log::Postgres { database_url, .. } => read_postgres(database_url, topic),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn read_kafka(kafka: &KafkaSettings, topic: Topic) -> Vec<Found> {
    let name = kafka.topics.of(topic);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", format!("{name}.reader"))
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..kafka.partitions {
        let (first, end) = consumer.fetch_watermarks(name, partition, PATIENCE).unwrap();
        left += end - first;
        list.add_partition_offset(name, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    wait::until("the topic is read", || {
        if left > 0
            && let Some(message) = consumer.poll(Duration::from_millis(100))
        {
            found.push(of_message(&message.unwrap()));
            left -= 1;
        }
        left == 0
    });
    found
}

fn of_message(message: &BorrowedMessage<'_>) -> Found {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    let mut headers = Map::new();
    for header in message.headers().unwrap().iter() {
        let value = Value::String(text(header.value.unwrap()));
        assert!(headers.insert(header.key.to_owned(), value).is_none(), "{} twice", header.key);
    }
    let get = |name: &str| headers[name].as_str().unwrap().to_owned();
    Found {
        id: get("ce_id"),
        kind: get("ce_type"),
        key: text(message.key().unwrap()),
        sequence: headers.get("ce_sequence").map(|text| text.as_str().unwrap().parse().unwrap()),
        headers: Value::Object(headers),
        row: None,
        body: message.payload().unwrap().to_vec(),
    }
}

fn read_postgres(database_url: &str, topic: Topic) -> Vec<Found> {
    let mut conn = ledger::connect(database_url).unwrap();
    let rows = format!(
        "SELECT to_jsonb(r)::text AS text FROM log_record r WHERE topic = '{}' ORDER BY partition, record_offset",
        topic.as_str()
    );
    let rows = sql::texts(&mut conn, &rows);
    rows.iter().map(|row| of_row(serde_json::from_str(row).unwrap())).collect()
}

/// By what the document says of the columns.
fn of_row(row: Value) -> Found {
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let (key, kind) = (text("key"), text("kind"));
    let mut headers = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        value.map(|value| headers.insert(name.to_owned(), Value::String(value)))
    };
    put("ce_specversion", Some("1.0".to_owned()));
    put("ce_id", Some(text("id")));
    put("ce_source", Some(format!("/{}/{}", text("provider"), text("app_id"))));
    put("ce_type", Some(kind.clone()));
    put("ce_time", Some(text("received_at")));
    let subject = key.split_once('/').unwrap().1.to_owned();
    put("ce_subject", Some(subject).filter(|subject| !subject.is_empty()));
    put("ce_partitionkey", Some(key.clone()));
    put("ce_origin", Some(text("source")));
    put("ce_sequence", row["sequence"].as_i64().map(|sequence| sequence.to_string()));
    put("ce_reason", row["reason"].as_str().map(str::to_owned));
    let hex = text("body");
    let digits = hex.strip_prefix("\\x").unwrap().as_bytes().chunks(2);
    let body = digits
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    Found {
        id: text("id"),
        kind,
        key,
        sequence: row["sequence"].as_i64(),
        headers: Value::Object(headers),
        row: Some(row),
        body,
    }
}
