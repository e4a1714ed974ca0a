//! Who is in the group, and what that means for the others.

use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use payment::{Envelope, Topic};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use stream::Reader;

use super::{Member, NOBODY_IS_MISSED, Payer, Running, database, kafka};
use crate::harness::{Broker, Database, log, sql, wait};

#[test]
fn two_and_three_consumers_share_the_partitions_and_apply_everything_once() {
    for count in [2, 3] {
        let (broker, database) = database(4, NOBODY_IS_MISSED);
        let payer = Payer::new(&database);
        let tales = thread::scope(|scope| {
            let members: Vec<Running<'_>> =
                (0..count).map(|_| Member::open(&database, &payer.alipay).run(scope)).collect();
            payer.while_paying(|| {
                wait::until("each has applied something", || {
                    members.iter().all(|member| member.tale.taken() > 0)
                });
            });
            log::wait_until_applied(&database.log, &database.url);
            wait::until("the group knows the ledger's positions", || {
                committed(&broker, &database) == positions(&database)
            });
            members.into_iter().map(Running::stop).collect::<Vec<_>>()
        });
        let applied: u64 = tales.iter().map(|tale| tale.outcome("applied")).sum();
        assert_eq!(applied, payer.appended());
        assert_eq!(tales.iter().map(|tale| tale.taken()).sum::<u64>(), applied);
        payer.assert_applied_once(&database);
    }
}

#[test]
fn consumers_that_come_and_go_in_a_stream_of_appends_lose_and_repeat_nothing() {
    let (_broker, database) = database(4, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    let mut tales = Vec::new();
    thread::scope(|scope| {
        payer.while_paying(|| {
            let mut members: Vec<Running<'_>> = Vec::new();
            for _ in 0..8 {
                let member = Member::with_batch(&database, &payer.alipay, 20).run(scope);
                wait::until("the newcomer applies", || member.tale.taken() > 0);
                members.push(member);
                if members.len() > 2 {
                    tales.push(members.remove(0).stop());
                }
            }
            tales.extend(members.drain(1..).map(Running::stop));
            let last = members.remove(0);
            let before = last.tale.taken();
            wait::until("the last goes on alone", || last.tale.taken() > before + 20);
            tales.push(last.stop());
        });
        let last = Member::open(&database, &payer.alipay).run(scope);
        log::wait_until_applied(&database.log, &database.url);
        tales.push(last.stop());
    });
    let applied: u64 = tales.iter().map(|tale| tale.outcome("applied")).sum();
    assert_eq!(applied, payer.appended());
    payer.assert_applied_once(&database);
}

#[test]
fn whoever_closes_leaves_its_partitions_to_the_others_at_once() {
    let (_broker, database) = database(4, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    for _ in 0..2 {
        thread::scope(|scope| {
            let pair = [0, 1].map(|_| Member::open(&database, &payer.alipay).run(scope));
            payer.while_paying(|| {
                wait::until("both have some", || pair.iter().all(|one| one.tale.taken() > 0));
            });
            let [leaves, stays] = pair;
            leaves.stop();
            payer.pay(40);
            log::wait_until_applied(&database.log, &database.url);
            stays.stop();
        });
        payer.assert_applied_once(&database);
    }
}

#[test]
fn one_consumer_too_many_stands_by_and_takes_over() {
    // Nobody but the coordinator's patience, of ten minutes, would end a wait for a member that does not answer.
    let (_broker, database) = database(1, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    thread::scope(|scope| {
        let mut members: Vec<Running<'_>> = Vec::new();
        for _ in 0..3 {
            members.push(Member::open(&database, &payer.alipay).run(scope));
            wait::until("the newcomer is heard", || members.last().unwrap().tale.is_ready());
            payer.pay(10);
            log::wait_until_applied(&database.log, &database.url);
        }
        while members.len() > 1 {
            let before: Vec<u64> = members.iter().map(|member| member.tale.taken()).collect();
            payer.pay(10);
            log::wait_until_applied(&database.log, &database.url);
            let at_work = (0..members.len()).find(|&one| members[one].tale.taken() > before[one]);
            members.remove(at_work.unwrap()).stop();
        }
        payer.pay(10);
        log::wait_until_applied(&database.log, &database.url);
        members.remove(0).stop();
    });
    payer.assert_applied_once(&database);
}

#[test]
fn without_its_ledger_a_consumer_keeps_its_place_holds_up_nobody_and_sets_nothing_aside() {
    let (_broker, database) = database(4, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    thread::scope(|scope| {
        let member = Member::open(&database, &payer.alipay).run(scope);
        for _ in 0..2 {
            payer.pay(20);
            log::wait_until_applied(&database.log, &database.url);
            let taken = member.tale.taken();
            database.go_away();
            wait::until("it says so", || !member.tale.is_ready());

            // Nothing was in its hands when the ledger went, and something waits now.
            let received_at = DateTime::from_timestamp(1_709_600_412, 0).unwrap();
            member.tale.clock.set(received_at + TimeDelta::seconds(100));
            let envelope = Envelope { received_at, ..payer.fresh() };
            payer.log.append(envelope).unwrap();
            wait::until("the oldest message's age is told", || age(&member) == 100);
            member.tale.clock.advance(TimeDelta::seconds(50));
            wait::until("its age grows", || age(&member) == 150);
            wait::until("the lag is told", || lag(&member) == 1);

            // A newcomer is given its share, and no more: the place is kept.
            let mut newcomer = Reader::open(&database.log).unwrap();
            wait::until("the newcomer has its share", || {
                newcomer.read(&[], 1, Duration::from_millis(10)).unwrap();
                !newcomer.assignment().unwrap().partitions.is_empty()
            });
            assert_eq!(newcomer.assignment().unwrap().partitions.len(), 4, "half of two topics");
            newcomer.close(&[]);

            assert_eq!(member.tale.taken(), taken);
            database.come_back();
            log::wait_until_applied(&database.log, &database.url);
            wait::until("it is well again", || member.tale.is_ready() && age(&member) == 0);
        }
        member.stop();
    });
    payer.assert_applied_once(&database);
}

#[test]
fn a_consumer_whose_broker_dies_says_so_and_goes_on_by_itself() {
    let broker = Broker::own();
    let database = Database::with_kafka_log(&broker);
    let payer = Payer::new(&database);
    thread::scope(|scope| {
        let member = Member::open(&database, &payer.alipay).run(scope);
        for _ in 0..2 {
            payer.pay(20);
            log::wait_until_applied(&database.log, &database.url);
            broker.kill();
            wait::until("it says so", || !member.tale.is_ready());
            broker.restart();
            wait::until("it is well again", || member.tale.is_ready());
            wait::until("the appender sees the broker", || payer.log.appender.is_connected());
        }
        payer.pay(20);
        log::wait_until_applied(&database.log, &database.url);
        // Also without a broker it ends.
        broker.kill();
        member.stop();
        broker.restart();
    });
    payer.assert_applied_once(&database);
}

#[test]
fn a_consumer_that_asks_anew_for_what_is_being_divided_lets_the_group_go_on() {
    let (broker, database) = database(2, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    let mut first = Member::open(&database, &payer.alipay);
    for _ in 0..2 {
        payer.pay(3);
        first.apply(3);
        // Its connection to the ledger breaks: whether it still holds its partitions, it must ask the group.
        let cut_off = "SELECT count(pg_terminate_backend(pid)) AS number FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()";
        wait::until("nobody is connected", || sql::number(&mut database.connect(), cut_off) == 0);
        payer.pay(3);
        wait::until("it misses the ledger", || {
            first.consumer.step(Duration::from_millis(10)).is_err()
        });
        // Just then somebody joins, and the group waits for both.
        let mut second = Reader::open(&database.log).unwrap();
        wait::until("the group waits for its members", || {
            second.read(&[], 1, Duration::from_millis(10)).unwrap();
            state(&broker, &database) == "PreparingRebalance"
        });
        wait::until("the newcomer has its share", || {
            first.step();
            second.read(&[], 1, Duration::from_millis(10)).unwrap();
            !second.assignment().unwrap().partitions.is_empty()
        });
        second.close(&[]);
        wait::until("the first has taken all", || {
            first.step();
            positions(&database).iter().map(|(_, _, next)| *next).sum::<i64>()
                == i64::try_from(payer.appended()).unwrap()
        });
    }
    first.consumer.close();
    payer.assert_applied_once(&database);
}

/// The group's, as its coordinator tells it.
fn state(broker: &Broker, database: &Database) -> String {
    let client: BaseConsumer = broker.client().create().unwrap();
    let groups = client.fetch_group_list(Some(&kafka(database).group), Duration::from_secs(60));
    groups.unwrap().groups()[0].state().to_owned()
}

/// Whole seconds.
fn age(member: &Running<'_>) -> u64 {
    let age = member.tale.metric("suanpan_consumer_oldest_unapplied_age_seconds").unwrap();
    age.split('.').next().unwrap().parse().unwrap()
}

fn lag(member: &Running<'_>) -> i64 {
    let metrics = member.tale.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with("suanpan_consumer_lag_messages{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap()).sum()
}

/// What lag tools see: the next offset of each partition of which something was applied.
fn committed(broker: &Broker, database: &Database) -> Vec<(String, i32, i64)> {
    let kafka = kafka(database);
    let mut config = broker.client();
    config.set("group.id", &kafka.group);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for topic in Topic::CONSUMED {
        list.add_partition_range(kafka.topics.of(topic), 0, kafka.partitions - 1);
    }
    let committed = consumer.committed_offsets(list, Duration::from_secs(60)).unwrap();
    let mut committed: Vec<(String, i32, i64)> = committed
        .elements()
        .iter()
        .filter_map(|place| match place.offset() {
            Offset::Offset(next) if next > 0 => {
                Some((place.topic().to_owned(), place.partition(), next))
            }
            Offset::Offset(_)
            | Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => None,
        })
        .collect();
    committed.sort();
    committed
}

fn positions(database: &Database) -> Vec<(String, i32, i64)> {
    let rows = sql::texts(
        &mut database.connect(),
        "SELECT format('%s %s %s', topic, partition, next_offset) AS text FROM log_position
          WHERE next_offset > 0 ORDER BY topic, partition",
    );
    let row = |row: String| {
        let parts: Vec<&str> = row.split(' ').collect();
        (parts[0].to_owned(), parts[1].parse().unwrap(), parts[2].parse().unwrap())
    };
    rows.into_iter().map(row).collect()
}
