use std::time::{Duration, Instant};

use anyhow::Context;
use service::{Clock as _, SystemClock};

use super::figures::{Measure, Round, Unit, ns_each, per_second};
use super::ingress::add_load;
use super::{Bench, books, consumer, cpu, load};

/// Posts everything to an ingress while a consumer applies it.
pub(super) fn measure(bench: &Bench<'_>, number: u32) -> anyhow::Result<Round> {
    let bed = bench.testbed(&format!("end-to-end-{number}"))?;
    let expected = &bench.notifications.expected;
    let mut conn = bed.connect()?;
    let mut consumer = bed.start("consumer")?;
    let mut ingress = bed.start("ingress")?;
    let door = ingress.ingress.context("the ingress says where its door is")?;
    let post = |range| {
        load::post(&bench.notifications, range, door, bench.args.connections, bench.shutdown)
    };
    // The first goes alone: once it is applied, everything runs.
    let first = post(0..1)?;
    consumer::follow(&mut conn, &mut consumer, first.accepted(), bench.shutdown)?;
    let (ingress_cpu, consumer_cpu) = (ingress.cpu(), consumer.cpu());
    let postgres_cpu = bed.postgres_cpu();

    let (since, started) = (SystemClock.now(), Instant::now());
    let load = post(1..bench.notifications.signed.len())?;
    let posted = started.elapsed();
    let answered = first.accepted() + load.accepted();
    consumer::follow(&mut conn, &mut consumer, answered, bench.shutdown)?;
    let elapsed = started.elapsed();
    let relayed = consumer::relayed(&mut conn, &mut consumer, bench.shutdown)?;
    let ingress_cpu = cpu::spent(ingress_cpu, ingress.cpu());
    let consumer_cpu = cpu::spent(consumer_cpu, consumer.cpu());
    let postgres_cpu = cpu::spent(postgres_cpu, bed.postgres_cpu());
    ingress.check_runs()?;
    ingress.stop()?;
    consumer.stop()?;

    let mut round = Round::default();
    let accepted = load.accepted();
    let each = |time: Option<Duration>| time.map(|time| ns_each(time, accepted));
    add_load(&mut round, &load);
    round.add(DONE, per_second(accepted, elapsed));
    round.add(REST, consumer::ms(elapsed.saturating_sub(posted)));
    round.add(consumer::RELAYED, consumer::ms(relayed));
    let ages = books::ages_us(&mut conn, since)?;
    round.add(AGE_P50, ages.p50);
    round.add(AGE_P99, ages.p99);
    round.add(AGE_MAX, ages.max);
    round.add_known(INGRESS_CPU, each(ingress_cpu));
    round.add_known(CONSUMER_CPU, each(consumer_cpu));
    round.add_known(POSTGRES_CPU, each(postgres_cpu));
    round.wrong.extend(first.wrong().chain(load.wrong()));
    round.wrong.extend(books::check_log(&bed, answered)?);
    round.wrong.extend(books::check_ledger(&mut conn, expected)?);
    round.wrong.extend(books::check_events(&bed, expected)?);
    drop(conn);
    bed.close(bench.args.keep)?;
    Ok(round)
}

const DONE: Measure =
    Measure::new("done_per_second", "from the first post to the last applied", Unit::PerSecond);
const REST: Measure = Measure::new(
    "last_applied_after_last_accepted_ms",
    "last applied, after the last accepted",
    Unit::Ms,
);
const AGE_P50: Measure = Measure::new("age_p50_us", "age when applied, median", Unit::Us);
const AGE_P99: Measure = Measure::new("age_p99_us", "age when applied, p99", Unit::Us);
const AGE_MAX: Measure = Measure::new("age_max_us", "age when applied, longest", Unit::Us);
const INGRESS_CPU: Measure =
    Measure::new("ingress_cpu_per_accepted_ns", "CPU of ingress, each", Unit::Ns);
const CONSUMER_CPU: Measure =
    Measure::new("consumer_cpu_per_accepted_ns", "CPU of consumer, each", Unit::Ns);
const POSTGRES_CPU: Measure =
    Measure::new("postgres_cpu_per_accepted_ns", "CPU of Postgres, each", Unit::Ns);
