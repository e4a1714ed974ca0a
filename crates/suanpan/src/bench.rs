//! How fast the rooms are: the real roles as processes of their own, beside what their work costs bare.

mod bare;
mod books;
mod consumer;
mod cpu;
mod end_to_end;
mod figures;
mod ingress;
mod load;
mod machine;
mod notification;
mod report;
mod testbed;
mod verification;

use std::cell::OnceCell;
use std::process::ExitCode;
use std::sync::Arc;

use alipay::SigningKey;
use anyhow::{Context, bail};
use service::{Clock as _, Shutdown, SystemClock, shutdown};

use self::figures::Round;
use self::machine::Machine;
use self::notification::{Notifications, sign_all};
use self::report::{Report, Section};
use self::testbed::Testbed;
use crate::cli::{BenchArgs, BenchScenario, Common};

/// Measures, prints the figures beside their budgets, and says whether everything was accepted and applied
/// exactly once. Slowness is never a failure.
pub(crate) fn bench(common: &Common, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::new();
    shutdown::on_signals(&shutdown).context("cannot listen for signals")?;
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing about a release build's");
    }
    eprintln!("signing {} notifications, seed {}", args.notifications, args.seed);
    let (key, _) = SigningKey::generate()?;
    let notifications = Arc::new(sign_all(args.notifications, args.seed, &key, SystemClock.now())?);
    let machine = Machine::read();
    let bench =
        Bench { args, key: &key, notifications, shutdown: &shutdown, postgres: OnceCell::new() };

    let mut sections = Vec::new();
    for scenario in args.scenario.each() {
        let mut rounds = Vec::new();
        for number in 1..=args.rounds {
            eprintln!("{}: round {number} of {}", scenario.as_str(), args.rounds);
            rounds.push(bench.round(*scenario, number)?);
            if shutdown.is_triggered() {
                bail!("stopped by a signal");
            }
        }
        sections.push(Section::of(scenario.as_str(), rounds));
    }

    let report = Report {
        machine,
        postgres: bench.postgres.get().map_or("", String::as_str),
        args,
        body_bytes: bench.notifications.median_body_bytes(),
        sections: &sections,
    };
    if common.json {
        println!("{}", report::json(&report));
    } else {
        print!("{}", report::text(&report)?);
    }
    let wrong: Vec<&String> = sections.iter().flat_map(|section| &section.wrong).collect();
    for text in &wrong {
        eprintln!("WRONG  {text}");
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What every round knows.
struct Bench<'a> {
    args: &'a BenchArgs,
    /// Alipay's, made for this bench.
    key: &'a SigningKey,
    notifications: Arc<Notifications>,
    shutdown: &'a Shutdown,
    /// The version of the database's server, once one was started.
    postgres: OnceCell<String>,
}

impl Bench<'_> {
    /// One measurement, from an empty database to its checks.
    fn round(&self, scenario: BenchScenario, number: u32) -> anyhow::Result<Round> {
        match scenario {
            BenchScenario::Ingress => ingress::measure(self, number),
            BenchScenario::Consumer => consumer::measure(self, number),
            BenchScenario::EndToEnd => end_to_end::measure(self, number),
            BenchScenario::All => bail!("`all` is not a scenario of its own"),
        }
    }

    /// A new folder and a new database.
    fn testbed(&self, name: &str) -> anyhow::Result<Testbed> {
        let bed = Testbed::make(name, &self.key.public_key_base64(), self.args.kafka.as_deref())?;
        if self.postgres.get().is_none() {
            let version = books::postgres_version(&mut bed.connect()?)?;
            self.postgres.get_or_init(|| version);
        }
        Ok(bed)
    }
}

impl BenchScenario {
    fn each(self) -> &'static [BenchScenario] {
        match self {
            BenchScenario::Ingress => &[BenchScenario::Ingress],
            BenchScenario::Consumer => &[BenchScenario::Consumer],
            BenchScenario::EndToEnd => &[BenchScenario::EndToEnd],
            BenchScenario::All => {
                &[BenchScenario::Ingress, BenchScenario::Consumer, BenchScenario::EndToEnd]
            }
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            BenchScenario::Ingress => "ingress",
            BenchScenario::Consumer => "consumer",
            BenchScenario::EndToEnd => "end-to-end",
            BenchScenario::All => "all",
        }
    }
}
