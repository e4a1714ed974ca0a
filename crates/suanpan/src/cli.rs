use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ledger::Place;
use payment::{AppId, BillDay};

use crate::house::Role;
use crate::{
    audit, bench, bill, dead_letters, demo, house, reconcile, set_aside, simulate, verify,
};

/// Receives Alipay's payment notifications, keeps a ledger, and reconciles it with Alipay's daily bills.
#[derive(Debug, Parser)]
#[command(name = "suanpan", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command knows.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The settings file; any key can be overridden by a variable such as SUANPAN__INGRESS__LISTEN.
    #[arg(long, global = true, default_value = "suanpan.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print the result as JSON, one document on standard output (not of demo, simulate, migrate).
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything at once beside a pretend Alipay: notifications with faults, bills, the day reconciled
    Demo(DemoArgs),
    /// All roles in this process, until a signal
    Up,
    /// Receives notifications, until a signal
    Ingress,
    /// Applies notifications to the ledger, until a signal
    Consumer,
    /// Reconciles yesterday every morning, until a signal
    Reconciler,
    /// Brings the database to this version's schema
    Migrate,
    /// Checks one raw notification body; exit 0 genuine, 1 not
    Verify(VerifyArgs),
    /// Works on bill files
    #[command(subcommand)]
    Bill(BillCommand),
    /// Reconciles one day; exit 0 all matched or explained, 1 open differences, 2 could not run
    Reconcile(ReconcileArgs),
    /// Prints a reconciled day's report
    Report(ReportArgs),
    /// Genuine notifications that failed a check
    #[command(subcommand)]
    Quarantine(SetAsideCommand),
    /// Messages that could not be applied
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Compares what must be equal, while everything runs
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The pretend Alipay as a server, with a settings file that fits it
    Simulate(SimulateArgs),
    /// Measures ingress and consumer beside what their work costs bare; exit 1 if anything was lost or applied twice
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many days to simulate, 1 to 28
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=28))]
    pub(crate) days: u32,
    /// How many trades over all days, 100 to 200000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    pub(crate) trades: u32,
    /// Decides everything left to chance
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the reports go
    #[arg(long, default_value = "suanpan-demo", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Keep the database and the kept bills, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The app whose keys decide
    #[arg(long, value_parser = AppId::parse)]
    pub(crate) app: AppId,
    /// The raw body; standard input without it
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BillCommand {
    /// Reads a bill and checks it against itself; exit 0 sound, 2 refused
    Check {
        #[arg(value_name = "FILE.zip")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    #[arg(long, value_parser = AppId::parse)]
    pub(crate) app: AppId,
    /// The day, as Shanghai counts it
    #[arg(long, value_parser = BillDay::parse, value_name = "YYYY-MM-DD")]
    pub(crate) date: BillDay,
    /// Take the bill from a file instead of the gateway
    #[arg(long, value_name = "FILE.zip")]
    pub(crate) bill: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[arg(long, value_parser = AppId::parse)]
    pub(crate) app: AppId,
    #[arg(long, value_parser = BillDay::parse, value_name = "YYYY-MM-DD")]
    pub(crate) date: BillDay,
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
    /// Every line of the day
    Csv,
    Html,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum SetAsideCommand {
    /// The newest first, with their reasons
    List {
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// The newest first, with their reasons
    List(ListDeadLettersArgs),
    /// One dead letter: why, from where, since when; its bytes only where they are asked for
    Show(ShowDeadLetterArgs),
    /// Judges dead letters by today's keys and appends the genuine ones to the log again; exit 0 all replayed,
    /// 1 some stay dead, 2 could not run
    Replay(ReplayDeadLettersArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListDeadLettersArgs {
    /// Only those with this reason
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only those of this app
    #[arg(long, value_parser = AppId::parse)]
    pub(crate) app: Option<AppId>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub(crate) limit: i64,
}

#[derive(Debug, Args)]
pub(crate) struct ShowDeadLetterArgs {
    /// As it is listed: topic/partition/offset
    pub(crate) place: Place,
    /// Print the bytes and nothing else; they may hold a buyer's data
    #[arg(long, conflicts_with_all = ["out", "json"])]
    pub(crate) raw: bool,
    /// Write the bytes to a new file that only you may read
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayDeadLettersArgs {
    #[command(flatten)]
    pub(crate) which: WhichDeadLetters,
    /// Only those of this app
    #[arg(long, value_parser = AppId::parse, conflicts_with = "places")]
    pub(crate) app: Option<AppId>,
    /// Say what would become of them, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The newest so many of those with the reason, or of all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub(crate) limit: i64,
    /// Who is noted as having done it; without it, the user who is logged in
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichDeadLetters {
    /// As they are listed: topic/partition/offset; also those that were replayed before
    #[arg(value_name = "PLACE")]
    pub(crate) places: Vec<Place>,
    /// Those with this reason that were not replayed yet
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// All that were not replayed yet
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Log against ledger, facts against books, answers against the inbox; exit 0 parity, 1 not, 2 could not run
    Parity(ParityArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ParityArgs {
    /// What senders saw answered `success`: one `notify_id` a line, or `app_id notify_id`
    #[arg(long, value_name = "FILE")]
    pub(crate) answered: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) world: DemoArgs,
    /// Where the pretend gateway listens
    #[arg(long, default_value = "127.0.0.1:8070")]
    pub(crate) listen: std::net::SocketAddr,
    /// Send the notifications to this address; without it they are not sent
    #[arg(long, value_name = "URL")]
    pub(crate) notify: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What is measured
    #[arg(value_enum, default_value_t = BenchScenario::All)]
    pub(crate) scenario: BenchScenario,
    /// How many notifications each round takes, 20 to 500000
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(20..=500_000))]
    pub(crate) notifications: u32,
    /// How many connections post at once, each one request at a time, 1 to 1024
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
    /// How often everything is measured anew, 1 to 50
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: u32,
    /// Measure over these brokers (`host:port`, several with commas) instead of the Postgres log
    #[arg(long, value_name = "BROKERS")]
    pub(crate) kafka: Option<String>,
    /// Decides everything left to chance
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keep the databases, topics and the roles' logs, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchScenario {
    /// Posting to `suanpan ingress`
    Ingress,
    /// `suanpan consumer` on a full log
    Consumer,
    /// Both at once, from the post to the ledger
    EndToEnd,
    All,
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let common = &self.common;
        match self.command {
            Command::Demo(args) => demo::demo(&args),
            Command::Up => house::run(common, &Role::ALL),
            Command::Ingress => house::run(common, &[Role::Ingress]),
            Command::Consumer => house::run(common, &[Role::Consumer]),
            Command::Reconciler => house::run(common, &[Role::Reconciler]),
            Command::Migrate => house::migrate(common),
            Command::Verify(args) => verify::verify(common, &args),
            Command::Bill(BillCommand::Check { file }) => bill::check(common, &file),
            Command::Reconcile(args) => reconcile::reconcile(common, &args),
            Command::Report(args) => reconcile::report(common, &args),
            Command::Quarantine(command) => set_aside::run(common, command),
            Command::DeadLetters(DeadLettersCommand::List(args)) => {
                dead_letters::list(common, &args)
            }
            Command::DeadLetters(DeadLettersCommand::Show(args)) => {
                dead_letters::show(common, &args)
            }
            Command::DeadLetters(DeadLettersCommand::Replay(args)) => {
                dead_letters::replay(common, &args)
            }
            Command::Audit(AuditCommand::Parity(args)) => audit::parity(common, &args),
            Command::Simulate(args) => simulate::simulate(&args),
            Command::Bench(args) => bench::bench(common, &args),
        }
    }
}
