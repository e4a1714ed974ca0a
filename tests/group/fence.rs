//! Whoever lost its partitions cannot apply anything any more, however much it has in its hands.

use consumer::Step;
use payment::Topic;

use super::death::House;
use super::{Member, NOBODY_IS_MISSED, Payer, database, kafka};
use crate::harness::binary::Up;
use crate::harness::{sql, wait};

#[test]
fn what_was_read_before_another_claimed_is_not_applied() {
    let (_broker, database) = database(1, NOBODY_IS_MISSED);
    let payer = Payer::new(&database);
    let mut conn = database.connect();
    let mut member = Member::with_batch(&database, &payer.alipay, 5);
    let topic = kafka(&database).topics.of(Topic::Notifications).to_owned();
    for _ in 0..2 {
        payer.pay(30);
        let before = member.tale.taken();
        wait::until("it has applied a batch", || {
            member.step();
            member.tale.taken() > before
        });
        let taken = member.tale.taken();
        // Its next batch is in its hands. Another claims the partition, and has applied nothing yet.
        let before = ledger::position::read(&mut conn, &[(&topic, 0)]).unwrap();
        ledger::position::claim(&mut conn, &[(&topic, 0)]).unwrap();
        let mut step = Step::Idle;
        wait::until("it has tried", || {
            step = member.step();
            step != Step::Idle
        });
        assert_eq!(step, Step::Fenced);
        assert_eq!(member.tale.taken(), taken);
        assert_eq!(ledger::position::read(&mut conn, &[(&topic, 0)]).unwrap(), before);
        assert_eq!(sql::count(&mut conn, "inbox"), i64::try_from(taken).unwrap());
        // It is a member all the same: asked anew, the group says that the partition is its own.
        member.apply(payer.appended() - taken);
    }
    payer.assert_applied_once(&database);
}

#[test]
fn a_consumer_that_sleeps_in_the_middle_of_a_batch_wakes_up_fenced() {
    let house = House::new(1);
    let mut conn = house.home.connect();
    for round in 0..2 {
        let sleeper = house.start("sleeper");
        house.pay(1);
        house.wait_until_applied();
        let taken = taken_by(&sleeper);
        // Its batch waits inside its transaction, the next one is in its hands.
        sql::run(&mut conn, "BEGIN; LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE");
        house.pay(600);
        let mut onlooker = house.home.connect();
        wait::until("it is in the middle of a batch", || sql::blocked(&mut onlooker) == 1);
        let epoch = house.epoch();
        sleeper.pause();
        let heir = house.start("heir");
        // It would go on if it were awake. The table is not free for long: whoever is next waits again.
        sql::run(&mut conn, "COMMIT; BEGIN; LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE");
        wait::until("the heir has claimed", || house.epoch() > epoch);
        wait::until("the heir is in the middle of a batch", || sql::blocked(&mut onlooker) == 1);
        let (epoch, positions) = (house.epoch(), house.positions());

        sleeper.resume();
        wait::until("the sleeper finds that its time is over", || {
            house.stderr("sleeper").matches("cannot apply and tries again").count() > round
        });
        wait::until("the sleeper hears of the group", || {
            house.stderr("sleeper").matches("the group took our partitions back").count() > round
        });
        assert_eq!(taken_by(&sleeper), taken);
        assert_eq!((house.epoch(), house.positions()), (epoch, positions));
        sleeper.kill();
        sql::run(&mut conn, "COMMIT");
        house.wait_until_applied();
        assert_eq!(taken_by(&heir), 600);
        assert!(heir.stop().success(), "{}", house.stderr("heir"));
    }
    house.assert_applied_once();
}

#[test]
fn a_consumer_that_sleeps_and_wakes_in_a_stream_of_appends_repeats_nothing() {
    let house = House::new(4);
    let pair = [house.start("one"), house.start("other")];
    house.while_paying(|| {
        for round in 0..4 {
            let (sleeper, other) = (&pair[round % 2], &pair[1 - round % 2]);
            let before = (taken_by(sleeper), taken_by(other));
            wait::until("both apply", || {
                taken_by(sleeper) > before.0 && taken_by(other) > before.1
            });
            sleeper.pause();
            let positions = house.positions();
            wait::until("the other goes on with all partitions", || {
                let now = house.positions();
                now.len() == 4 && now.iter().all(|(number, next)| *next > positions[number] + 20)
            });
            sleeper.resume();
        }
    });
    house.wait_until_applied();
    house.assert_applied_once();
    let total: u64 = pair.iter().map(taken_by).sum();
    assert_eq!(total, house.appended());
}

/// Every message that it has brought into the ledger.
fn taken_by(up: &Up) -> u64 {
    let outcomes = ["applied", "kept", "duplicate", "quarantined", "dead_letter"];
    let taken = |outcome: &&str| -> u64 {
        let name = format!("suanpan_consumer_applied_total{{outcome=\"{outcome}\"}}");
        up.metric(&name).unwrap().parse().unwrap()
    };
    outcomes.iter().map(taken).sum()
}
