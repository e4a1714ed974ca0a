use std::collections::BTreeSet;
use std::fs;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use payment::{AppId, BillDay, Fen, SellerId};
use prometheus::Registry;
use reconciliation::{Metrics, Report, Source, report};
use service::settings::{self, LogFormat, Settings};
use service::{Clock, Shutdown, SystemClock, shutdown};
use simulator::{AnswerKey, Keys, Listen, Plan, Planted};
use stream::{Log, Reader};

use crate::cli::{DemoArgs, ReportFormat};
use crate::home::Home;
use crate::house::{House, Role};
use crate::reconcile;
use crate::setup::{self, Schema};

/// Runs everything for real beside a pretend Alipay, and holds what reconciliation found against what was planted.
pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    quiet_logs();
    let shutdown = Shutdown::new();
    shutdown::on_signals(&shutdown).context("cannot listen for signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let plan = plan(args, clock.now())?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let home = Home::make("demo")?;

    let steps = Steps::new();
    steps.say(format_args!(
        "planning {} trades over {} days from {}, seed {}",
        plan.trades, plan.days, plan.first_day, plan.seed
    ));
    let keys = Arc::new(Keys::generate()?);
    let scenario = Arc::new(simulator::plan(&plan, &keys)?);
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let alipay = simulator::start(any_port, scenario.clone(), keys.clone(), clock.clone())?;

    steps.say(format_args!("starting the database and the rooms in {}", home.path().display()));
    let listen = Listen { ingress: any_port, admin: any_port };
    let file = simulator::write_settings(home.path(), &plan, &keys, &alipay.gateway_url(), listen)?;
    let settings = Settings::load(&file, std::iter::empty())?;
    // Without the reconciler's own mornings: the demo says when a day is over.
    let roles = [Role::Ingress, Role::Consumer];
    let house = House::start(&settings, &roles, Schema::Migrate, &shutdown)?;

    let outcome = run(args, &steps, &settings, &house, &scenario, &shutdown);
    alipay.stop();
    house.stop()?;
    let correct = outcome?;
    if args.keep {
        println!(
            "kept: {0}, for example `suanpan report --config {0}/suanpan.toml --app ... --date ... --format csv`",
            home.keep().display()
        );
    }
    Ok(if correct { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The world that the options describe: so many days up to yesterday.
pub(crate) fn plan(args: &DemoArgs, now: DateTime<Utc>) -> anyhow::Result<Plan> {
    Ok(Plan {
        seed: args.seed,
        first_day: (0..args.days).fold(BillDay::of(now), |day, _| day.previous()),
        days: args.days,
        trades: args.trades,
        app_id: AppId::parse("2021000000000001")?,
        seller_id: SellerId::parse("2088000000000001")?,
        fee_rate_ppm: 6000,
    })
}

fn run(
    args: &DemoArgs,
    steps: &Steps,
    settings: &Settings,
    house: &House,
    scenario: &simulator::Scenario,
    shutdown: &Shutdown,
) -> anyhow::Result<bool> {
    let key = &scenario.key;
    let mut verdict = Verdict::default();
    let Some(ingress) = house.ingress_addr() else { bail!("the front door is closed") };

    steps.say(format_args!(
        "posting {} notifications: duplicates, retries, disorder, forgeries, other merchants' notices",
        scenario.deliveries.len()
    ));
    let mut progress = Progress::new("posted");
    let tally = simulator::post_all(
        &scenario.deliveries,
        &format!("http://{ingress}"),
        8,
        |done, total| {
            progress.show(done, total);
        },
    )?;
    progress.done();
    verdict.check(
        tally.wrong.is_empty(),
        format_args!("{} answered success, {} refused with fail", tally.success, tally.fail),
        format_args!(
            "{} notifications were answered otherwise than they must be",
            tally.wrong.len()
        ),
    );

    let mut conn = house.database()?.connect()?;
    wait_until_applied(house.log(), &mut conn, shutdown)?;
    let quarantined = ledger::quarantine::count(&mut conn)?;
    verdict.check(
        u64::try_from(quarantined) == Ok(key.quarantined),
        format_args!("all applied; {quarantined} genuine ones that are not ours are in quarantine"),
        format_args!("{quarantined} are in quarantine, {} were planted", key.quarantined),
    );

    let app = settings.apps.first().context("the settings have an app")?;
    let client = setup::client(settings, app)?;
    let gateway = setup::gateway(app)?.context("the settings have a signing key")?;
    let source = Source::Gateway(&gateway);
    let metrics = Metrics::new(&Registry::new())?;
    let mut reports = Vec::new();
    for totals in &key.days {
        steps.say(format_args!("fetching and reconciling the bill of {}", totals.day));
        reports.push(reconciliation::reconcile(
            &mut conn,
            &client,
            totals.day,
            &source,
            &SystemClock,
            &metrics,
        )?);
    }
    steps.say(format_args!("reconciling every day a second time: nothing may change"));
    for (totals, first) in key.days.iter().zip(&reports) {
        let again = reconciliation::reconcile(
            &mut conn,
            &client,
            totals.day,
            &source,
            &SystemClock,
            &metrics,
        )?;
        let changes = again.run.opened + again.run.reopened + again.run.resolved;
        verdict.check(
            changes == 0 && ids(&again) == ids(first),
            format_args!("{}: no difference opened, none lost", totals.day),
            format_args!("{}: the second run changed {changes} differences", totals.day),
        );
    }

    let mut out = std::io::stdout();
    writeln!(out)?;
    for (report, totals) in reports.iter().zip(&key.days) {
        write!(out, "{}", completeness(report))?;
        let run = &report.run;
        let as_simulated = u64::try_from(run.bill_rows) == Ok(totals.bill_rows)
            && run.bill_net_fen == totals.bill_net_fen.get()
            && u64::try_from(run.ledger_movements) == Ok(totals.ledger_movements)
            && run.ledger_net_fen == totals.ledger_net_fen.get();
        verdict.check(
            as_simulated,
            format_args!("both sides' totals are the simulator's"),
            format_args!(
                "the simulator made {} rows of {} and {} movements of {}",
                totals.bill_rows,
                totals.bill_net_fen,
                totals.ledger_movements,
                totals.ledger_net_fen
            ),
        );
    }
    verdict.all_correct &= compare_differences(&mut out, &reports, key)?;
    for report in &reports {
        let path = args.out.join(format!("report-{}.html", report.day));
        let file =
            fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        reconcile::write(&mut conn, report, ReportFormat::Html, file)?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        writeln!(out, "report of {}: {}", report.day, path.display())?;
    }
    writeln!(
        out,
        "\n{}",
        if verdict.all_correct {
            "Every planted difference was found exactly once, and nothing else."
        } else {
            "NOT as planted: see above."
        }
    )?;
    Ok(verdict.all_correct)
}

/// Waits until the consumer's positions are the log's ends.
fn wait_until_applied(
    log: &Log,
    conn: &mut ledger::Connection,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(120);
    let mut reader = Reader::beside(log)?;
    let started = Instant::now();
    loop {
        let waiting = consumer::parity::unapplied(log, &mut reader, conn)?;
        if waiting == 0 {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            bail!("{waiting} notifications are still not applied after {} s", LIMIT.as_secs());
        }
        if shutdown.wait_for(Duration::from_millis(20)) {
            bail!("stopped by a signal");
        }
    }
}

fn ids(report: &Report) -> BTreeSet<&str> {
    report.differences.iter().map(|difference| difference.difference_id.as_str()).collect()
}

/// The completeness table alone: the differences are shown beside the answer key.
fn completeness(report: &Report) -> String {
    let text = report::text(report);
    let end = text.find("\ndifferences\n").or(text.find("\nnear midnight\n")).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

/// What makes two differences the same: day, kind, trade, refund, and both figures.
type Line = (String, String, String, String, Option<i64>, Option<i64>);

fn planted_line(planted: &Planted) -> Line {
    (
        planted.day.to_string(),
        planted.kind.to_owned(),
        planted.trade_no.to_string(),
        planted.request_no.as_ref().map(ToString::to_string).unwrap_or_default(),
        planted.bill_fen.map(Fen::get),
        planted.ledger_fen.map(Fen::get),
    )
}

/// Prints planted beside found, and says whether they are the same, each exactly once.
fn compare_differences(
    out: &mut impl Write,
    reports: &[Report],
    key: &AnswerKey,
) -> anyhow::Result<bool> {
    let mut found: Vec<Line> = Vec::new();
    let mut seen = BTreeSet::new();
    for difference in reports.iter().flat_map(|report| &report.differences) {
        // A day's report also shows what the day before carried into it: the same difference.
        if seen.insert(&difference.difference_id) {
            found.push((
                BillDay::new(difference.day).to_string(),
                difference.kind.clone(),
                difference.trade_no.clone(),
                difference.request_no.clone(),
                difference.bill_fen,
                difference.ledger_fen,
            ));
        }
    }
    let mut planted: Vec<Line> = key.differences.iter().map(planted_line).collect();
    planted.sort();
    found.sort();
    writeln!(out, "differences: {} planted, {} found", planted.len(), found.len())?;
    let mut correct = true;
    let mut left = found.clone();
    for line in &planted {
        let at = left.iter().position(|other| other == line);
        let mark = match at {
            Some(at) => {
                left.remove(at);
                "found"
            }
            None => {
                correct = false;
                "NOT FOUND"
            }
        };
        writeln!(out, "  {}  {mark}", show(line))?;
    }
    for line in &left {
        correct = false;
        writeln!(out, "  {}  NOT PLANTED", show(line))?;
    }
    writeln!(out)?;
    Ok(correct)
}

fn show((day, kind, trade_no, request_no, bill, ledger): &Line) -> String {
    let yuan = |fen: &Option<i64>| fen.map_or("-".to_owned(), |fen| Fen::new(fen).to_string());
    let what =
        if request_no.is_empty() { trade_no.clone() } else { format!("{trade_no} {request_no}") };
    format!("{day} {kind:<17} bill {:>10} ledger {:>10}  {what:<62}", yuan(bill), yuan(ledger))
}

/// Whether everything so far was as it must be.
struct Verdict {
    all_correct: bool,
}

impl Default for Verdict {
    fn default() -> Self {
        Verdict { all_correct: true }
    }
}

impl Verdict {
    fn check(
        &mut self,
        correct: bool,
        good: std::fmt::Arguments<'_>,
        bad: std::fmt::Arguments<'_>,
    ) {
        if correct {
            println!("         {good}");
        } else {
            println!("  WRONG  {bad}");
            self.all_correct = false;
        }
    }
}

/// Says what is being done, with the seconds since the start.
struct Steps {
    started: Instant,
}

impl Steps {
    fn new() -> Self {
        Steps { started: Instant::now() }
    }

    fn say(&self, text: std::fmt::Arguments<'_>) {
        let elapsed = self.started.elapsed();
        println!("{:>4}.{} s {text}", elapsed.as_secs(), elapsed.subsec_millis() / 100);
    }
}

/// A count that moves on a terminal, and is a few lines elsewhere.
pub(crate) struct Progress {
    what: &'static str,
    shown: usize,
    on_terminal: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Progress { what, shown: 0, on_terminal: std::io::stdout().is_terminal() }
    }

    pub(crate) fn show(&mut self, done: usize, total: usize) {
        let step = (total / if self.on_terminal { 100 } else { 4 }).max(1);
        if done / step == self.shown / step && done != total {
            return;
        }
        self.shown = done;
        if self.on_terminal {
            print!("\r         {} {done} of {total}", self.what);
            // A terminal that is gone will be noticed by the next line.
            drop(std::io::stdout().flush());
        } else {
            println!("         {} {done} of {total}", self.what);
        }
    }

    pub(crate) fn done(&self) {
        if self.on_terminal {
            println!();
        }
    }
}

/// The planted forgeries would fill the screen with warnings; `SUANPAN_LOG` brings them back.
fn quiet_logs() {
    let asked_for = settings::environment().any(|(name, _)| name == "SUANPAN_LOG");
    if asked_for {
        service::logs::start(LogFormat::Text);
    }
}
