use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use prometheus::Registry;
use reconciliation::report;
use reconciliation::{Metrics, Report, Source};
use service::SystemClock;

use crate::cli::{Common, ReconcileArgs, ReportArgs, ReportFormat};
use crate::setup::{self, Database, Schema};

/// Reconciles one day and prints its report.
pub(crate) fn reconcile(common: &Common, args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    let app = setup::app_settings(&settings, &args.app)?;
    let client = setup::client(&settings, app)?;
    let gateway = match args.bill {
        Some(_) => None,
        None => setup::gateway(app)?,
    };
    let source = match (&args.bill, &gateway) {
        (Some(file), _) => Source::File(file),
        (None, Some(gateway)) => Source::Gateway(gateway),
        (None, None) => {
            return Err(anyhow!(
                "app `{}` has no signing_key to ask the gateway with: set one, or give the bill with --bill",
                args.app
            ));
        }
    };
    let database = Database::open(&settings, Schema::Check)?;
    let metrics = Metrics::new(&Registry::new())?;
    let mut conn = database.connect()?;
    let outcome =
        reconciliation::reconcile(&mut conn, &client, args.date, &source, &SystemClock, &metrics);
    drop(conn);
    database.close()?;
    let report = outcome?;
    if common.json {
        println!("{}", report::json(&report));
    } else {
        print!("{}", report::text(&report));
    }
    Ok(if report.has_open() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the report of a day that was reconciled before.
pub(crate) fn report(common: &Common, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    service::logs::start(settings.logs.format);
    setup::app_settings(&settings, &args.app)?;
    let database = Database::open(&settings, Schema::Check)?;
    let mut conn = database.connect()?;
    let report = report::load(&mut conn, &args.app, args.date)?.ok_or_else(|| {
        anyhow!("{} of app `{}` was never reconciled: run `suanpan reconcile`", args.date, args.app)
    })?;
    let format = if common.json { ReportFormat::Json } else { args.format };
    match &args.out {
        None => write(&mut conn, &report, format, io::stdout().lock())?,
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            write(&mut conn, &report, format, file)?;
        }
    }
    drop(conn);
    database.close()?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn write(
    conn: &mut ledger::Connection,
    report: &Report,
    format: ReportFormat,
    out: impl Write,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    match format {
        ReportFormat::Text => out.write_all(report::text(report).as_bytes())?,
        ReportFormat::Json => writeln!(out, "{:#}", report::json(report))?,
        ReportFormat::Csv => report::write_csv(conn, report, &mut out)?,
        ReportFormat::Html => out.write_all(report::html(report).as_bytes())?,
    }
    out.flush()?;
    Ok(())
}
