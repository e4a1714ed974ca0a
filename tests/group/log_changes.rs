//! What becomes of a ledger whose log is not what it was: records dropped unapplied, a topic replaced.

use std::time::Duration;

use payment::Topic;
use rdkafka::{Offset, TopicPartitionList};
use stream::KafkaSettings;

use super::{Member, NOBODY_IS_MISSED, Payer, database, kafka};
use crate::harness::{Broker, Database, sql, wait};
use crate::stream::kafka::as_admin;

#[test]
fn records_that_the_log_dropped_unapplied_are_one_dead_letter_and_the_rest_is_applied() {
    let (broker, mut database) = database(1, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    let topic = kafka(&database).topics.notifications.clone();
    for round in 1..=2 {
        let mut member = Member::open(&database, &payer.alipay);
        payer.pay(10);
        member.apply(10);
        member.consumer.close();

        let first = i64::try_from(payer.appended()).unwrap();
        payer.pay(5);
        drop_before(&broker, &topic, first + 3);
        payer.pay(2);
        let mut member = Member::open(&database, &payer.alipay);
        member.apply(5);
        assert_eq!(member.tale.outcome("applied"), 4);
        let missing = "suanpan_dead_letters_total{reason=\"missing_records\"}";
        assert_eq!(member.tale.metric(missing).as_deref(), Some("1"));
        member.consumer.close();

        let letters = ledger::dead_letter::list(
            &mut database.connect(),
            ledger::dead_letter::Filter::default(),
            100,
        )
        .unwrap();
        assert_eq!(letters.len(), round);
        let letter = letters.iter().max_by_key(|letter| letter.log_offset).unwrap();
        assert_eq!((letter.log_offset, letter.body.len()), (first + 2, 0));
        let words = format!("the log dropped the records {first} to {} of {topic}/0", first + 2);
        assert_eq!(letter.reason, "missing_records");
        assert!(letter.detail.contains(&words), "{}", letter.detail);
        // The next ones begin with all that there is.
        let mut member = Member::open(&database, &payer.alipay);
        payer.pay(1);
        member.apply(1);
        member.consumer.close();
    }
    // The log goes away in full, and comes back under other names.
    let mut renamed = kafka(&database).clone();
    renamed.topics.notifications.push_str("-2");
    renamed.topics.quarantine.push_str("-2");
    move_to(&mut database, renamed);
    let applied = "SELECT count(*) AS number FROM inbox WHERE outcome = 'applied'";
    let before = sql::number(&mut database.connect(), applied);
    let payer = Payer { appended: 1_000.into(), ..Payer::new(&database) };
    payer.pay(3);
    let mut member = Member::open(&database, &payer.alipay);
    member.apply(3);
    assert_eq!(sql::number(&mut database.connect(), applied), before + 3);
}

#[test]
fn a_topic_that_was_replaced_by_an_empty_one_is_an_error_and_nothing_is_applied() {
    let (broker, mut database) = database(1, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    let settings = kafka(&database).clone();
    let topic = settings.topics.notifications.clone();
    payer.pay(10);
    let mut running = Member::open(&database, &payer.alipay);
    running.apply(10);
    replace(&broker, &database, &topic);
    let words = "notifications/0 of the log ends at 0, but the ledger has applied it up to 10: was the log replaced? \
         A new log needs topics of other names";
    // Of one that has read on all the time, and of ones that have just come.
    let mut running = Some(running);
    for _ in 0..3 {
        let newcomer = || Member::open(&database, &payer.alipay);
        let mut member = running.take().unwrap_or_else(newcomer);
        for _ in 0..2 {
            wait::until("it sees that the log is another one", || {
                match member.consumer.step(Duration::from_millis(10)) {
                    Ok(_) => false,
                    Err(error) => service::chain(&error).contains(words),
                }
            });
        }
        let dead = "suanpan_consumer_applied_total{outcome=\"dead_letter\"}";
        assert_eq!(member.tale.metric(dead).as_deref(), Some("0"));
        member.consumer.close();
    }
    let mut conn = database.connect();
    assert_eq!(ledger::position::read(&mut conn, &[(&topic, 0)]).unwrap(), [10]);
    assert_eq!(sql::count(&mut conn, "dead_letter"), 0);

    let mut renamed = settings;
    renamed.topics.notifications.push_str("-2");
    move_to(&mut database, renamed);
    let payer = Payer { appended: 1_000.into(), ..Payer::new(&database) };
    payer.pay(12);
    let mut member = Member::open(&database, &payer.alipay);
    member.apply(12);
    assert_eq!(sql::count(&mut conn, "inbox WHERE outcome = 'applied'"), 22);
}

/// What retention does.
fn drop_before(broker: &Broker, topic: &str, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    as_admin(broker, async |admin, options| {
        let dropped = admin.delete_records(&list, options).await.unwrap();
        for place in dropped.elements() {
            place.error().unwrap();
            assert_eq!(place.offset(), Offset::Offset(offset));
        }
    });
}

fn replace(broker: &Broker, database: &Database, topic: &str) {
    as_admin(broker, async |admin, options| {
        let gone = admin.delete_topics(&[topic], options).await.unwrap();
        assert!(gone.iter().all(Result::is_ok));
    });
    wait::until("the topic is there again", || {
        stream::set_up(&database.log).is_ok_and(|done| !done.is_empty())
            || stream::check(&database.log).is_ok()
    });
}

fn move_to(database: &mut Database, kafka: KafkaSettings) {
    assert_eq!(kafka.topics.of(Topic::Notifications), kafka.topics.notifications);
    database.log = stream::Log::Kafka(kafka);
    stream::set_up(&database.log).unwrap();
}
