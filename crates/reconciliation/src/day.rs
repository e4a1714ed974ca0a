use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use alipay::bill::{self, BillError, Limits, ReadError};
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
    #[error("the bill is refused and nothing was changed")]
    Bill(#[source] BillError),
    #[error("the bill is refused: it names no account (#账号), so it cannot be told whose it is")]
    NoAccount,
    #[error("the bill is refused: it is of account `{account}`, not of seller `{expected}`")]
    OtherAccount { account: String, expected: payment::SellerId },
    #[error("the bill is refused: it covers {from} to {to} (exclusive), not the day {day}")]
    OtherPeriod { from: BillDay, to: BillDay, day: BillDay },
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
    metrics.run(&client.app_id, outcome.as_ref().map(|(report, _)| report).map_err(|_| ()));
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
    let Some(lock) = day::lock(conn, &client.app_id, day)? else {
        return Err(ReconcileError::Held { app_id: client.app_id.clone(), day });
    };
    let outcome = reconcile_locked(conn, client, &lock, source, clock, metrics);
    let unlocked = day::unlock(conn, lock);
    let outcome = outcome?;
    unlocked?;
    Ok(outcome)
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

    conn.build_transaction().run(|conn| confirm(conn, lock, bill.bill_id, clock.now()))?;
    // One state of the database throughout: a notification applied meanwhile counts in the next run.
    conn.build_transaction()
        .repeatable_read()
        .run(|conn| run::run(conn, lock, &bill, &client.terms, started_at, clock.now()))?;
    let report = report::load(conn, lock.app_id(), lock.day())?;
    let report = report.ok_or(ReconcileError::Database(QueryError::NotFound))?;
    Ok((report, per_second(bill.rows, seconds)))
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
    let bill = bill::read(file, &Limits::DAILY, |row| each(&row)).map_err(|error| match error {
        ReadError::Bill(refusal) => ReconcileError::Bill(refusal),
        ReadError::Sink(err) => ReconcileError::Kept(err),
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
