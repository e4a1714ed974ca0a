use anyhow::Context;

use super::Bench;
use super::figures::{Measure, Round, Unit, hundredths, ns_each, per_second, percentile};
use super::load::{self, Load};
use super::verification::Bare;
use super::{books, cpu};

/// Posts everything to an ingress, after a little that is not counted.
pub(super) fn measure(bench: &Bench<'_>, number: u32) -> anyhow::Result<Round> {
    let bed = bench.testbed(&format!("ingress-{number}"))?;
    let mut ingress = bed.start("ingress")?;
    let door = ingress.ingress.context("the ingress says where its door is")?;
    let signed = &bench.notifications.signed;
    let mut bare = Bare::new(&bench.key.public_key_base64(), signed)?;
    let post = |range| {
        load::post(&bench.notifications, range, door, bench.args.connections, bench.shutdown)
    };

    let warm_up = post(0..signed.len().min(WARM_UP))?;
    bare.measure()?;
    let (role_cpu, postgres_cpu) = (ingress.cpu(), bed.postgres_cpu());
    let own_cpu = cpu::of_this_process();
    let load = post(0..signed.len())?;
    let own_cpu = cpu::of_this_process().saturating_sub(own_cpu);
    let role_cpu = cpu::spent(role_cpu, ingress.cpu());
    let postgres_cpu = cpu::spent(postgres_cpu, bed.postgres_cpu());
    bare.measure()?;
    ingress.check_runs()?;
    ingress.stop()?;

    let mut round = Round::default();
    add_load(&mut round, &load);
    let accepted = load.accepted();
    let each = |time: Option<std::time::Duration>| time.map(|time| ns_each(time, accepted));
    let bare_ns = bare.median_ns();
    round.add_known(CPU, each(role_cpu));
    round.add(BARE, bare_ns);
    round.add_known(RATIO, each(role_cpu).map(|cpu| hundredths(cpu, bare_ns)));
    round.add_known(POSTGRES_CPU, each(postgres_cpu));
    round.add(OWN_CPU, ns_each(own_cpu, accepted));
    round.wrong.extend(warm_up.wrong().chain(load.wrong()));
    let answered = accepted + warm_up.accepted();
    round.wrong.extend(books::check_log(&bed, answered)?);
    bed.close(bench.args.keep)?;
    Ok(round)
}

/// What the sender sees.
pub(super) fn add_load(round: &mut Round, load: &Load) {
    round.add(ACCEPTED, per_second(load.accepted(), load.elapsed));
    for (measure, percent) in [(P50, 50), (P90, 90), (P99, 99), (MAX, 100)] {
        round.add(measure, percentile(&load.latencies_us, percent));
    }
}

/// So many are posted first, not counted: a process's first requests are not like the others.
const WARM_UP: usize = 2_000;

const ACCEPTED: Measure = Measure::new("accepted_per_second", "accepted", Unit::PerSecond);
const P50: Measure = Measure::new("latency_p50_us", "latency, median", Unit::Us);
const P90: Measure = Measure::new("latency_p90_us", "latency, p90", Unit::Us);
const P99: Measure = Measure::new("latency_p99_us", "latency, p99", Unit::Us);
const MAX: Measure = Measure::new("latency_max_us", "latency, longest", Unit::Us);
const CPU: Measure =
    Measure::new("ingress_cpu_per_accepted_ns", "CPU of ingress, each accepted", Unit::Ns);
const BARE: Measure =
    Measure::new("bare_verification_ns", "one bare RSA-2048 verification", Unit::Ns);
const RATIO: Measure = Measure::new(
    "ingress_cpu_in_hundredths_of_a_verification",
    "the former as a multiple of the latter",
    Unit::Hundredths,
)
.at_most(250);
const POSTGRES_CPU: Measure =
    Measure::new("postgres_cpu_per_accepted_ns", "CPU of Postgres, each accepted", Unit::Ns);
const OWN_CPU: Measure =
    Measure::new("load_generator_cpu_per_accepted_ns", "CPU of the load generator, each", Unit::Ns);
