//! Disks that fill up while posts go on. Each is a small tmpfs: where this process may not mount one, these tests say
//! so on standard error, and prove nothing.

use std::os::unix::fs::symlink;

use stream::Log;

use super::kills::{SOME, wait_until_it_applies, wait_until_something_is_late};
use super::stage::Stage;
use crate::harness::disk::SmallDisk;
use crate::harness::home::Home;
use crate::harness::postgres::{Postgres, make_it_give_up};
use crate::harness::{Broker, Database, log, wait};

/// A new cluster takes some 45 MB; what the cases write, with everything it is logged in, much less than the rest.
const POSTGRES_MEGABYTES: u32 = 160;
const KAFKA_MEGABYTES: u32 = 64;

#[test]
fn case_13_with_postgres_disk_full_the_front_door_over_kafka_stays_open_and_nothing_is_set_aside() {
    let Some(disk) = SmallDisk::mount(POSTGRES_MEGABYTES) else { return };
    let (broker, postgres) = (Broker::shared(), Postgres::within(&disk.path().join("data")));
    let stage = Stage::new(&postgres.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(13);
    let (ingress, consumer) = (stage.start("ingress"), stage.start("consumer"));
    crowd.while_buying(|| {
        wait_until_it_applies(&consumer);
        for round in 1..=2 {
            crowd.wait_for_answers(SOME);
            disk.fill();
            wait::until("the consumer says so", || consumer.ask("/readyz").0 == 503);
            if round == 2 {
                // At first it refuses what needs room; without room for its write-ahead log it ends.
                make_it_give_up(&postgres.url);
            }
            crowd.wait_for_answers(SOME);
            assert_eq!(ingress.ask("/readyz").0, 200);
            wait_until_something_is_late(&consumer);
            disk.clear();
            postgres.revive();
            wait::until("the consumer goes on", || consumer.ask("/readyz").0 == 200);
        }
    });
    stage.assert_kept(&crowd);
}

#[test]
fn case_14_with_kafkas_disk_full_nobody_is_told_success_in_vain() {
    let Some(disk) = SmallDisk::mount(KAFKA_MEGABYTES) else { return };
    let (broker, database) = (Broker::within(&disk.path().join("kafka")), Database::empty());
    let stage = Stage::new(&database.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(14);
    let (ingress, consumer) = (stage.start("ingress"), stage.start("consumer"));
    crowd.while_buying(|| {
        for _ in 0..2 {
            crowd.wait_for_answers(SOME);
            disk.fill();
            wait::until("the front door says so", || ingress.ask("/readyz").0 == 503);
            let before = crowd.answers();
            crowd.wait_for_refusals(20);
            assert_eq!(crowd.answers(), before, "answered while there was no room");
            // A broker that cannot write ends.
            broker.wait_for_end();
            disk.clear();
            broker.restart();
            crowd.wait_for_answers(SOME);
        }
    });
    wait::until("the consumer goes on", || consumer.ask("/readyz").0 == 200);
    stage.assert_kept(&crowd);
}

#[test]
fn case_15_with_its_disk_full_the_embedded_shape_refuses_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(POSTGRES_MEGABYTES) else { return };
    let home = Home::bare();
    symlink(disk.path(), home.data_dir()).unwrap();
    let stage = Stage::embedded(home);
    let crowd = stage.crowd(15);
    let up = stage.start("up");
    crowd.while_buying(|| {
        for round in 1..=2 {
            crowd.wait_for_answers(SOME);
            disk.fill();
            wait::until("it says so", || up.ask("/readyz").0 == 503);
            if round == 2 {
                make_it_give_up(stage.database_url());
            }
            crowd.wait_for_refusals(20);
            disk.clear();
            // It starts its Postgres again by itself, if that has ended.
            crowd.wait_for_answers(SOME);
            wait::until("it is ready again", || up.ask("/readyz").0 == 200);
        }
    });
    assert!(stage.said("up").contains("had died and was started again"), "its Postgres did end");
    stage.assert_kept(&crowd);
    assert!(up.stop().success(), "{}", stage.said("up"));
}
