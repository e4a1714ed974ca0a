use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use alipay::bill::{self, BillError, Limits, ReadError};
use chrono::{DateTime, Utc};
use ledger::bill::{LoadError, Original, Stored, Totals};
use ledger::book::BookError;
use ledger::day::{self, DayLock};
use ledger::{Connection, QueryError};
use payment::BillDay;
use service::Clock;

use crate::confirm::confirm;
use crate::metrics::Metrics;
use crate::report::{self, Report};
use crate::run::{self, RunError};
use crate::source::{Client, Fetched, Source, SourceError, fetch};

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("{day} is not over yet in Shanghai: its bill is made the next morning")]
    NotOver { day: BillDay },
    #[error("{day} of app `{app_id}` is being reconciled by another process")]
    Held { app_id: payment::AppId, day: BillDay },
    #[error("there is no bill to compare")]
    Source(#[from] SourceError),
    #[error(
        "the gateway says there is no bill of {day}, but the ledger has {movements} movements on it: an empty \
         day is not believed; ask Alipay, or give the bill with --bill"
    )]
    NoBillButMovements { day: BillDay, movements: i64 },
    #[error(
        "the gateway says there is no bill of {day}, but the bill reconciled before had {rows} rows: nothing was \
         changed; ask Alipay, or give the bill with --bill"
    )]
    NoBillButRows { day: BillDay, rows: i64 },
    #[error("the bill is refused and nothing was changed")]
    Bill(#[source] BillError),
    #[error("the bill is refused: it names no account (#账号), so it cannot be told whose it is")]
    NoAccount,
    #[error("the bill is refused: it is of account `{account}`, not of seller `{expected}`")]
    OtherAccount { account: String, expected: payment::SellerId },
    #[error("the bill is refused: it covers {from} to {to} (exclusive), not the day {day}")]
    OtherPeriod { from: BillDay, to: BillDay, day: BillDay },
    #[error(
        "the bill is refused: file {entry}, line {line}, column `完成时间`: {completed_at} is more than a day away \
         from {day}"
    )]
    OtherDay { entry: u32, line: u64, completed_at: String, day: BillDay },
    #[error("the bill is refused: its sums do not fit into this system")]
    TooLarge,
    #[error("cannot read the kept bill")]
    Kept(#[source] io::Error),
    #[error("cannot store the bill")]
    Store(#[source] QueryError),
    #[error("cannot confirm what the ledger inferred")]
    Confirm(#[from] BookError),
    #[error("cannot run the day")]
    Run(#[from] RunError),
    #[error("the database did not answer")]
    Database(#[from] QueryError),
}

/// Reconciles one day of one app: fetches its bill, loads it, lets it confirm what the ledger inferred, compares,
/// and stores the run. Run again it finds the same and changes nothing.
pub fn reconcile(
    conn: &mut Connection,
    client: &Client,
    day: BillDay,
    source: &Source<'_>,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> Result<Report, ReconcileError> {
    let outcome = reconcile_unless_held(conn, client, day, source, clock, metrics);
    metrics.run(outcome.as_ref().map(|(report, _)| report).map_err(|_| ()));
    let (report, rows_per_second) = outcome?;
    metrics.bill_speed(rows_per_second);
    metrics.differences(conn, &client.app_id)?;
    Ok(report)
}

type RowsPerSecond = Option<f64>;

fn reconcile_unless_held(
    conn: &mut Connection,
    client: &Client,
    day: BillDay,
    source: &Source<'_>,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> Result<(Report, RowsPerSecond), ReconcileError> {
    if clock.now() < day.end() {
        return Err(ReconcileError::NotOver { day });
    }
    let lock = wait_for(conn, client, day)?;
    let outcome = reconcile_locked(conn, client, &lock, source, clock, metrics);
    let unlocked = day::unlock(conn, lock);
    let outcome = outcome?;
    unlocked?;
    Ok(outcome)
}

/// Takes the day. Whoever holds it is about to be done, as a rule.
fn wait_for(
    conn: &mut Connection,
    client: &Client,
    day: BillDay,
) -> Result<DayLock, ReconcileError> {
    const LIMIT: Duration = Duration::from_secs(30);
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        if let Some(lock) = day::lock(conn, &client.app_id, day)? {
            return Ok(lock);
        }
        if began.elapsed() > LIMIT {
            return Err(ReconcileError::Held { app_id: client.app_id.clone(), day });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn reconcile_locked(
    conn: &mut Connection,
    client: &Client,
    lock: &DayLock,
    source: &Source<'_>,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> Result<(Report, RowsPerSecond), ReconcileError> {
    let started_at = clock.now();
    let fetched = fetch(source, client, lock.day(), started_at, metrics)?;
    let began = Instant::now();
    let bill = load(conn, client, lock, fetched, clock)?;
    let seconds = began.elapsed().as_secs_f64();

    let app = day::lock_app(conn, lock.app_id())?;
    let compared = compare_day(conn, client, lock, &bill, started_at, clock)
        .and_then(|()| compare_overtaken(conn, client, lock, clock));
    let unlocked = day::unlock_app(conn, app);
    compared?;
    unlocked?;
    let report = report::load(conn, lock.app_id(), lock.day())?;
    let report = report.ok_or(ReconcileError::Database(QueryError::NotFound))?;
    Ok((report, per_second(bill.rows, seconds)))
}

/// Lets the bill confirm what the ledger inferred, and compares.
fn compare_day(
    conn: &mut Connection,
    client: &Client,
    lock: &DayLock,
    bill: &Stored,
    started_at: DateTime<Utc>,
    clock: &dyn Clock,
) -> Result<(), ReconcileError> {
    conn.build_transaction().run(|conn| confirm(conn, lock, bill.bill_id, clock.now()))?;
    // One state of the database throughout: a notification applied meanwhile counts in the next run.
    conn.build_transaction()
        .repeatable_read()
        .run(|conn| run::run(conn, lock, bill, &client.terms, started_at, clock.now()))?;
    Ok(())
}

/// Compares neighbouring days again whose last run this one has overtaken, so that what is found does not depend on
/// the order in which days are run. A day that another process holds is about to be compared anyway.
fn compare_overtaken(
    conn: &mut Connection,
    client: &Client,
    lock: &DayLock,
    clock: &dyn Clock,
) -> Result<(), ReconcileError> {
    let Some(run) = ledger::run::last_run(conn, lock.app_id(), lock.day())? else { return Ok(()) };
    for other in ledger::run::overtaken(conn, lock, &run)? {
        let Some(other_lock) = day::lock(conn, lock.app_id(), other)? else { continue };
        let compared = match ledger::run::last_run(conn, lock.app_id(), other)? {
            None => Ok(()),
            Some(last) => {
                let bill = ledger::run::bill_of(conn, lock.app_id(), &last)?;
                compare_day(conn, client, &other_lock, &bill, clock.now(), clock)
            }
        };
        day::unlock(conn, other_lock)?;
        compared?;
    }
    Ok(())
}

/// The day's bill in the ledger: loaded now, or before from the same bytes.
fn load(
    conn: &mut Connection,
    client: &Client,
    lock: &DayLock,
    fetched: Fetched,
    clock: &dyn Clock,
) -> Result<Stored, ReconcileError> {
    let (path, original) = match fetched {
        Fetched::Archive { path, relative, sha256 } => {
            (Some(path), Original { sha256, file: relative })
        }
        Fetched::NoBill => {
            let (movements, _) = ledger::side::ledger_totals(conn, lock)?;
            if movements > 0 {
                return Err(ReconcileError::NoBillButMovements { day: lock.day(), movements });
            }
            let last = ledger::run::last_run(conn, lock.app_id(), lock.day())?;
            if let Some(rows) = last.map(|run| run.bill_rows).filter(|rows| *rows > 0) {
                return Err(ReconcileError::NoBillButRows { day: lock.day(), rows });
            }
            (None, Original { sha256: [0; 32], file: String::new() })
        }
    };
    if let Some(known) = ledger::bill::find(conn, lock, original.sha256)? {
        return Ok(known);
    }
    let loaded = ledger::bill::load(conn, lock, &original, clock.now(), |sink| match path {
        Some(path) => read(&path, client, lock.day(), |row| sink.push(row)),
        None => Ok(Totals { account: client.seller_id.to_string(), ..Totals::default() }),
    });
    loaded.map_err(|error| match error {
        LoadError::Database(err) => ReconcileError::Store(err),
        LoadError::Source(refusal) => refusal,
        LoadError::TooManyRows => ReconcileError::TooLarge,
    })
}

/// Reads a bill, checks that it is this merchant's and this day's, and hands its rows on one by one.
fn read(
    path: &Path,
    client: &Client,
    day: BillDay,
    mut each: impl FnMut(&payment::BillRow) -> io::Result<()>,
) -> Result<Totals, ReconcileError> {
    let file = File::open(path).map_err(ReconcileError::Kept)?;
    // How sharply a bill's day is cut is not documented; a day of tolerance is more than any cut needs.
    let [earliest, latest] = [day.previous().start(), day.next().end()];
    let bill = bill::read(file, &Limits::DAILY, |row| {
        if (earliest..latest).contains(&row.completed_at) {
            return each(&row).map_err(ReconcileError::Kept);
        }
        let completed_at = payment::to_local(row.completed_at);
        Err(ReconcileError::OtherDay { entry: row.entry, line: row.line, completed_at, day })
    });
    let bill = bill.map_err(|error| match error {
        ReadError::Bill(refusal) => ReconcileError::Bill(refusal),
        ReadError::Sink(refusal) => refusal,
    })?;
    let account = bill.account.ok_or(ReconcileError::NoAccount)?;
    // The account is the merchant's PID, in bills followed by 0156 (the currency).
    let owner = account.strip_suffix("0156").unwrap_or(&account);
    if owner != client.seller_id.as_str() && account != client.seller_id.as_str() {
        return Err(ReconcileError::OtherAccount { account, expected: client.seller_id.clone() });
    }
    if bill.from != day || bill.to != day.next() {
        return Err(ReconcileError::OtherPeriod { from: bill.from, to: bill.to, day });
    }
    let net = bill.payments.receipt.checked_add(bill.refunds.receipt);
    Ok(Totals {
        account,
        rows: bill.rows,
        net: net.ok_or(ReconcileError::TooLarge)?,
        fee: bill.fee,
    })
}

#[expect(clippy::float_arithmetic, reason = "a speed, not money")]
fn per_second(rows: i64, seconds: f64) -> RowsPerSecond {
    let rows = f64::from(u32::try_from(rows).ok()?);
    (seconds > 0.0 && rows > 0.0).then(|| rows / seconds)
}
