//! The ledger's events, read as somebody else's program reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use payment::Topic;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use stream::{KafkaSettings, Log};

use super::crowd::Told;
use crate::harness::wait;

#[derive(Clone, Debug)]
pub(crate) struct Event {
    key: String,
    id: String,
    kind: String,
    sequence: i64,
    body: Value,
}

/// All of them, those of one trade in the order in which they stand in the log.
pub(crate) fn read(log: &Log) -> Vec<Event> {
    match log {
        Log::Postgres { database_url, .. } => read_table(database_url),
        Log::Kafka(kafka) => read_topic(kafka),
    }
}

/// Whoever reads them once each, by their ids, knows every payment and refund to the fen.
pub(crate) fn assert_told(events: &[Event], told: &BTreeMap<String, Told>) {
    let mut seen: BTreeMap<&str, &Event> = BTreeMap::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    // By trade: paid, and refunded by request number.
    let mut heard: BTreeMap<String, (i64, BTreeMap<String, i64>)> = BTreeMap::new();
    for event in events {
        let before = last.get(event.key.as_str()).copied().unwrap_or(-1);
        if let Some(first) = seen.get(event.id.as_str()) {
            assert_eq!((&first.kind, &first.body), (&event.kind, &event.body), "{}", event.id);
            continue;
        }
        seen.insert(&event.id, event);
        assert!(event.sequence > before, "{} comes after sequence {before}", event.id);
        last.insert(&event.key, event.sequence);

        let text = |name: &str| event.body[name].as_str().unwrap().to_owned();
        let fen = |name: &str| event.body[name].as_i64().unwrap();
        let trade_no = text("trade_no");
        match event.kind.as_str() {
            "suanpan.trade.paid" => {
                assert_eq!(event.id, format!("{trade_no}/paid"));
                let known = heard.insert(trade_no, (fen("total_fen"), BTreeMap::new()));
                assert!(known.is_none(), "{} is the first of its trade", event.id);
            }
            "suanpan.trade.refunded" => {
                let request_no = text("request_no");
                assert_eq!(event.id, format!("{trade_no}/refunded/{request_no}"));
                let (_, refunds) = heard.get_mut(&trade_no).expect("paid before it is refunded");
                let known = refunds.insert(request_no, fen("amount_fen"));
                assert!(known.is_none(), "{} is told once", event.id);
            }
            "suanpan.trade.corrected" => {
                let change_fen = fen("change_total_fen");
                let (paid_fen, refunds) = heard.get_mut(&trade_no).expect("paid before it changes");
                match text("business").as_str() {
                    "payment" => *paid_fen += change_fen,
                    _ => *refunds.get_mut(&text("request_no")).unwrap() += change_fen,
                }
            }
            "suanpan.trade.closed" => {}
            other => panic!("nobody caused a {other}: {event:?}"),
        }
    }
    let expected: BTreeMap<String, (i64, BTreeMap<String, i64>)> = told
        .iter()
        .filter(|(_, told)| told.is_paid)
        .map(|(trade_no, told)| (trade_no.clone(), (told.total_fen, told.refunds_fen.clone())))
        .collect();
    assert_eq!(heard, expected);
}

fn read_table(database_url: &str) -> Vec<Event> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Text)]
        id: String,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = BigInt)]
        sequence: i64,
        #[diesel(sql_type = Binary)]
        body: Vec<u8>,
    }
    let mut conn = ledger::connect(database_url).unwrap();
    let rows: Vec<Row> = sql_query(
        "SELECT key, id, kind, sequence, body FROM log_record WHERE topic = $1
          ORDER BY partition, record_offset",
    )
    .bind::<Text, _>(Topic::LedgerEvents.as_str())
    .load(&mut conn)
    .unwrap();
    let event = |Row { key, id, kind, sequence, body }| {
        let body = serde_json::from_slice(&body).unwrap();
        Event { key, id, kind, sequence, body }
    };
    rows.into_iter().map(event).collect()
}

/// By a plain client of Kafka.
fn read_topic(kafka: &KafkaSettings) -> Vec<Event> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let topic = &kafka.topics.ledger_events;
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
        left.insert(number, end);
        list.add_partition_offset(topic, number, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    left.retain(|_, end| *end > 0);
    let mut events = Vec::new();
    wait::until("all events are read", || {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            let headers = message.headers().unwrap();
            let header = |name: &str| {
                let value = headers.iter().find(|header| header.key == name);
                let value = value.unwrap_or_else(|| panic!("no {name}")).value.unwrap();
                String::from_utf8(value.to_vec()).unwrap()
            };
            events.push(Event {
                key: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
                id: header("ce_id"),
                kind: header("ce_type"),
                sequence: header("ce_sequence").parse().unwrap(),
                body: serde_json::from_slice(message.payload().unwrap()).unwrap(),
            });
            if left.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                left.remove(&message.partition());
            }
        }
        left.is_empty()
    });
    events
}
