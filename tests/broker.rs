//! What the tests over Kafka stand on holds: the broker keeps what it acknowledged, and the line in front of
//! it is cut, silent and whole again when a test says so.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Builder;

use crate::harness::broker::PASSWORD;
use crate::harness::{Broker, wait};

#[test]
fn what_was_acknowledged_is_there_once_after_every_kill() {
    let broker = Broker::own();
    let topic = create_topic(&broker);
    let producer = producer(&broker.client());
    let mut written = Vec::new();
    for round in 0..2 {
        let bodies: Vec<String> = (0..100).map(|number| format!("{round}/{number}")).collect();
        produce(&producer, &topic, &bodies);
        written.extend(bodies);
        broker.kill();
        broker.restart();
        assert_eq!(read_all(&broker, &topic), written);
    }
}

#[test]
fn a_paused_broker_is_silent_and_goes_on_where_it_was() {
    let broker = Broker::own();
    let topic = create_topic(&broker);
    let producer = producer(&broker.client());
    for body in ["a", "b"] {
        broker.pause();
        send(&producer, &topic, body);
        assert_no_answer(&broker.client());
        broker.resume();
        producer.flush(PATIENCE).unwrap();
    }
    assert_eq!(read_all(&broker, &topic), ["a", "b"]);
}

#[test]
fn a_cut_line_refuses_and_a_frozen_one_holds_back_until_it_is_restored() {
    let (broker, proxy) = Broker::behind_proxy();
    let topic = create_topic(&broker);
    // One connection lives through all of it, as a client's of the house does.
    let producer = producer(&broker.client());
    produce(&producer, &topic, &["before".to_owned()]);
    for round in 0..2 {
        let mut bystander = TcpStream::connect(proxy.address()).unwrap();
        bystander.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        proxy.freeze();
        send(&producer, &topic, &format!("frozen {round}"));
        assert_no_answer(&broker.client());
        let silence = bystander.read(&mut [0]).unwrap_err();
        assert_eq!(silence.kind(), ErrorKind::WouldBlock, "frozen is open");
        proxy.restore();
        producer.flush(PATIENCE).unwrap();

        proxy.cut();
        assert!(matches!(bystander.read(&mut [0]), Ok(0)), "cut is closed");
        assert!(TcpStream::connect(proxy.address()).is_err(), "cut is refused");
        send(&producer, &topic, &format!("cut {round}"));
        // Not past it either: clients are told the line's address.
        assert_no_answer(&broker.client());
        proxy.restore();
        producer.flush(PATIENCE).unwrap();
    }
    let expected = ["before", "frozen 0", "cut 0", "frozen 1", "cut 1"];
    assert_eq!(read_all(&broker, &topic), expected);
}

#[test]
fn the_shared_broker_is_one_and_makes_no_topic_by_itself() {
    let (broker, same) = (Broker::shared(), Broker::shared());
    assert_eq!(broker.address(), same.address());
    assert_ne!(broker.fresh_name(), same.fresh_name());
    let misspelt = broker.fresh_name();
    for _ in 0..2 {
        let client: BaseConsumer = broker.client().create().unwrap();
        let answer = client.fetch_metadata(Some(&misspelt), PATIENCE).unwrap();
        let code = answer.topics()[0].error().map(RDKafkaErrorCode::from);
        assert_eq!(code, Some(RDKafkaErrorCode::UnknownTopicOrPartition));
    }
}

#[test]
fn a_secured_broker_answers_over_tls_and_to_the_right_password_alone() {
    let broker = Broker::secured();
    assert!(
        std::fs::read_to_string(broker.ca()).unwrap().starts_with("-----BEGIN CERTIFICATE-----")
    );
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut config = broker.client();
        config.set("sasl.mechanism", mechanism);
        assert_answers(&config);
        config.set("sasl.password", format!("{PASSWORD}!"));
        assert_no_answer(&config);
    }
    let mut in_the_clear = ClientConfig::new();
    in_the_clear.set("bootstrap.servers", broker.address());
    assert_no_answer(&in_the_clear);
}

/// Far beyond what the slowest machine needs: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that has just come gets its answer.
#[track_caller]
fn assert_answers(config: &ClientConfig) {
    let client: BaseConsumer = config.create().unwrap();
    client.fetch_metadata(None, PATIENCE).unwrap();
}

/// A client that has just come gets no answer, in a time that is long for loopback.
#[track_caller]
fn assert_no_answer(config: &ClientConfig) {
    let client: BaseConsumer = config.create().unwrap();
    let answer = client.fetch_metadata(None, Duration::from_secs(1));
    assert!(answer.is_err(), "it was answered");
}

/// With one partition, so that there is one order.
fn create_topic(broker: &Broker) -> String {
    let name = broker.fresh_name();
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let runtime = Builder::new_current_thread().build().unwrap();
    let created = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap();
    assert_eq!(created, [Ok(name.clone())]);
    name
}

fn producer(config: &ClientConfig) -> BaseProducer {
    let mut config = config.clone();
    config.set("enable.idempotence", "true").create().unwrap()
}

/// Returns when all are acknowledged.
fn produce(producer: &BaseProducer, topic: &str, bodies: &[String]) {
    for body in bodies {
        send(producer, topic, body);
    }
    producer.flush(PATIENCE).unwrap();
}

/// Returns at once; what cannot be sent yet waits in the producer.
fn send(producer: &BaseProducer, topic: &str, body: &str) {
    producer.send(BaseRecord::<(), str>::to(topic).payload(body)).unwrap();
}

/// Every body of the topic, in order, read by a client that has just come.
fn read_all(broker: &Broker, topic: &str) -> Vec<String> {
    let mut config = broker.client();
    config.set("group.id", broker.fresh_name());
    let consumer: BaseConsumer = config.create().unwrap();
    let mut end = Err(KafkaError::Canceled);
    // After a restart a partition has no leader for a moment.
    wait::until("the topic's end is known", || {
        end = consumer.fetch_watermarks(topic, 0, Duration::from_secs(1));
        end.is_ok()
    });
    let (_, end) = end.unwrap();
    let mut from_the_start = TopicPartitionList::new();
    from_the_start.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from_the_start).unwrap();
    let mut bodies = Vec::new();
    while i64::try_from(bodies.len()).unwrap() < end {
        let message = consumer.poll(PATIENCE).expect("the topic goes on").unwrap();
        bodies.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
    }
    bodies
}
