//! `kill -9` of each process by turns, and a broker that cannot be reached.

use stream::Log;

use super::stage::Stage;
use crate::harness::binary::Up;
use crate::harness::postgres::Postgres;
use crate::harness::{Broker, Database, log, sql, wait};

/// How many answers between two blows.
pub(super) const SOME: usize = 100;

#[test]
fn case_7_the_front_door_killed_again_and_again_has_lost_nothing_it_answered() {
    let (broker, database) = (Broker::shared(), Database::empty());
    let stage = Stage::new(&database.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(7);
    let _consumer = stage.start("consumer");
    crowd.while_buying(|| {
        for _ in 0..3 {
            let ingress = stage.start("ingress");
            crowd.wait_for_answers(SOME);
            ingress.kill();
            drop(ingress);
            crowd.wait_for_refusals(1);
        }
        let ingress = stage.start("ingress");
        crowd.wait_for_answers(SOME);
        ingress
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_8_of_two_consumers_now_one_and_now_the_other_is_killed() {
    let (broker, database) = (Broker::shared(), Database::empty());
    let stage = Stage::new(&database.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(8);
    let _ingress = stage.start("ingress");
    let mut consumers = [stage.start("consumer"), stage.start("consumer")];
    crowd.while_buying(|| {
        for blow in 0..4 {
            crowd.wait_for_answers(SOME);
            let consumer = &mut consumers[blow % 2];
            consumer.kill();
            // While it is away, the other one has its partitions.
            *consumer = stage.start("consumer");
        }
        crowd.wait_for_answers(SOME);
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_9_with_postgres_killed_again_and_again_the_front_door_over_kafka_stays_open() {
    let (broker, postgres) = (Broker::shared(), Postgres::own());
    let stage = Stage::new(&postgres.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(9);
    let (ingress, consumer) = (stage.start("ingress"), stage.start("consumer"));
    crowd.while_buying(|| {
        wait_until_it_applies(&consumer);
        for round in 1..=3 {
            crowd.wait_for_answers(SOME);
            postgres.kill();
            wait::until("the consumer says so", || consumer.ask("/readyz").0 == 503);
            // Nobody needs it to take a notification in.
            crowd.wait_for_answers(SOME);
            assert_eq!(ingress.ask("/readyz").0, 200);
            if round == 1 {
                wait_until_something_is_late(&consumer);
            }
            postgres.restart();
            wait::until("the consumer goes on", || consumer.ask("/readyz").0 == 200);
        }
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_10_with_kafka_killed_again_and_again_nobody_is_told_success_in_vain() {
    let (broker, database) = (Broker::own(), Database::empty());
    let stage = Stage::new(&database.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(10);
    let (ingress, consumer) = (stage.start("ingress"), stage.start("consumer"));
    let (mut holder, mut looker) = (database.connect(), database.connect());
    crowd.while_buying(|| {
        for _ in 0..3 {
            crowd.wait_for_answers(SOME);
            // A batch is in the middle of being applied, and is applied when there is no log any more.
            sql::run(&mut holder, "BEGIN; LOCK TABLE journal_line IN ACCESS EXCLUSIVE MODE");
            wait::until("the consumer waits", || sql::blocked(&mut looker) > 0);
            broker.kill();
            sql::run(&mut holder, "COMMIT");
            wait::until("its events wait", || sql::count(&mut looker, "outbox") > 0);
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            let before = crowd.answers();
            crowd.wait_for_refusals(20);
            assert_eq!(crowd.answers(), before, "answered while there was no log");
            broker.restart();
            crowd.wait_for_answers(SOME);
        }
    });
    wait::until("both are ready again", || {
        [&ingress, &consumer].iter().all(|role| role.ask("/readyz").0 == 200)
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_11_with_the_brokers_port_cut_and_restored_all_goes_on_by_itself() {
    let ((broker, line), database) = (Broker::behind_proxy(), Database::empty());
    let stage = Stage::new(&database.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(11);
    let (ingress, _consumer) = (stage.start("ingress"), stage.start("consumer"));
    crowd.while_buying(|| {
        for _ in 0..3 {
            crowd.wait_for_answers(SOME);
            line.cut();
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            crowd.wait_for_refusals(20);
            line.restore();
            crowd.wait_for_answers(SOME);
        }
        // Silence is worse than refusal: nothing says that the other side is gone.
        for _ in 0..2 {
            line.freeze();
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            crowd.wait_for_refusals(20);
            line.restore();
            crowd.wait_for_answers(SOME);
        }
        // The broker itself holds its breath, and what was sent to it in between.
        for _ in 0..2 {
            broker.pause();
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            crowd.wait_for_refusals(20);
            broker.resume();
            crowd.wait_for_answers(SOME);
        }
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_12_in_one_database_each_process_is_killed_by_turns() {
    let postgres = Postgres::own();
    let log = Log::Postgres { database_url: postgres.url.clone(), partitions: 4 };
    let stage = Stage::new(&postgres.url, &log);
    let crowd = stage.crowd(12);
    let mut ingress = stage.start("ingress");
    let mut consumers = [stage.start("consumer"), stage.start("consumer")];
    crowd.while_buying(|| {
        for blow in 0..3 {
            crowd.wait_for_answers(SOME);
            ingress.kill();
            crowd.wait_for_refusals(1);
            drop(std::mem::replace(&mut ingress, stage.start("ingress")));
            crowd.wait_for_answers(SOME);
            let consumer = &mut consumers[blow % 2];
            consumer.kill();
            *consumer = stage.start("consumer");
            crowd.wait_for_answers(SOME);
            postgres.kill();
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            crowd.wait_for_refusals(20);
            postgres.restart();
        }
        crowd.wait_for_answers(SOME);
    });
    stage.assert_kept(&crowd);
}

/// It has joined its group, and knows how far the ledger is.
pub(super) fn wait_until_it_applies(consumer: &Up) {
    wait::until("the consumer has applied something", || {
        let applied = consumer.metric("suanpan_consumer_applied_total{outcome=\"applied\"}");
        applied.is_some_and(|applied| applied != "0")
    });
}

/// The age that people are paged by grows.
pub(super) fn wait_until_something_is_late(consumer: &Up) {
    wait::until("the oldest unapplied notification's age is told", || {
        let age = consumer.metric("suanpan_consumer_oldest_unapplied_age_seconds");
        age.is_some_and(|age| age.parse::<f64>().unwrap() > 0.0)
    });
}
