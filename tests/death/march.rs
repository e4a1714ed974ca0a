//! The long one, for people: everything dies at random, several at a time, while very many notifications come in.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use stream::Log;

use super::stage::Stage;
use crate::harness::binary::Up;
use crate::harness::postgres::Postgres;
use crate::harness::{Broker, log};

/// What can happen to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    KillIngress,
    KillConsumer,
    PauseConsumer,
    KillPostgres,
    KillBroker,
    PauseBroker,
    CutLine,
    FreezeLine,
}

const BLOWS: [Blow; 8] = [
    Blow::KillIngress,
    Blow::KillConsumer,
    Blow::PauseConsumer,
    Blow::KillPostgres,
    Blow::KillBroker,
    Blow::PauseBroker,
    Blow::CutLine,
    Blow::FreezeLine,
];

/// `SUANPAN_MARCH_SEED` chooses what is sent and what befalls whom (not the moment to the microsecond, which nobody
/// can choose); `SUANPAN_MARCH_NOTIFICATIONS` how many there are.
#[test]
#[ignore = "takes minutes; README.md says how it is run"]
fn death_march() {
    let seed =
        variable("SUANPAN_MARCH_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let notifications =
        usize::try_from(variable("SUANPAN_MARCH_NOTIFICATIONS").unwrap_or(200_000)).unwrap();
    println!("seed {seed}, {notifications} notifications");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (broker, line) = Broker::behind_proxy();
    let postgres = Postgres::own();
    let stage = Stage::new(&postgres.url, &Log::Kafka(log::kafka(&broker)));
    let crowd = stage.crowd(seed);
    let mut ingress = stage.start("ingress");
    let mut consumers = [stage.start("consumer"), stage.start("consumer")];
    let mut fallen: BTreeMap<Blow, u32> = BTreeMap::new();
    let started = Instant::now();
    crowd.while_buying(|| {
        while crowd.made() < notifications {
            crowd.wait_for_answers(random.random_range(100..5_000));
            // Mostly one, now and then several at once.
            let count = *[1, 1, 1, 2, 3].choose(&mut random).unwrap();
            let blows: Vec<Blow> = BLOWS.choose_multiple(&mut random, count).copied().collect();
            let (alive, paused) = consumers.split_at_mut(1);
            let (killed, paused): (&mut Up, &mut Up) = (&mut alive[0], &mut paused[0]);
            for blow in &blows {
                *fallen.entry(*blow).or_default() += 1;
                match blow {
                    Blow::KillIngress => ingress.kill(),
                    Blow::KillConsumer => killed.kill(),
                    Blow::PauseConsumer => paused.pause(),
                    Blow::KillPostgres => postgres.kill(),
                    Blow::KillBroker => broker.kill(),
                    Blow::PauseBroker if !blows.contains(&Blow::KillBroker) => broker.pause(),
                    Blow::PauseBroker => {}
                    Blow::CutLine => line.cut(),
                    Blow::FreezeLine => line.freeze(),
                }
            }
            // Where posts are still taken in, some are; where they are not, senders hear so.
            let is_shut = blows.iter().any(|blow| match blow {
                Blow::KillConsumer | Blow::PauseConsumer | Blow::KillPostgres => false,
                Blow::KillIngress
                | Blow::KillBroker
                | Blow::PauseBroker
                | Blow::CutLine
                | Blow::FreezeLine => true,
            });
            match is_shut {
                true => crowd.wait_for_refusals(random.random_range(1..50)),
                false => crowd.wait_for_answers(random.random_range(1..500)),
            }
            line.restore();
            for blow in &blows {
                match blow {
                    Blow::KillPostgres => postgres.restart(),
                    Blow::KillBroker => broker.restart(),
                    Blow::PauseBroker if !blows.contains(&Blow::KillBroker) => broker.resume(),
                    Blow::PauseBroker | Blow::CutLine | Blow::FreezeLine => {}
                    Blow::PauseConsumer => paused.resume(),
                    // Below, once what they need is there again.
                    Blow::KillIngress | Blow::KillConsumer => {}
                }
            }
            if blows.contains(&Blow::KillIngress) {
                ingress = stage.keep_starting("ingress");
            }
            if blows.contains(&Blow::KillConsumer) {
                *killed = stage.keep_starting("consumer");
            }
            consumers.reverse();
        }
    });
    let posted = started.elapsed();
    stage.assert_kept(&crowd);
    println!(
        "{} notifications in {} posts answered `success`, {} posts not; {:.0} s of posts, {:.0} s in all",
        crowd.made(),
        crowd.answers(),
        crowd.refusals(),
        posted.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    for (blow, count) in fallen {
        println!("{count:>5} x {blow:?}");
    }
    println!(
        "zero lost, zero twice, {} fen paid, {} refunded",
        crowd.paid_fen(),
        crowd.refunded_fen()
    );
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
