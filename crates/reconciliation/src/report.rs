//! A day's report, as finance reads it: the completeness table, the differences, what was carried.

mod csv;
mod html;
mod json;
mod text;

use chrono::NaiveDate;
use ledger::bill::Stored;
use ledger::difference::{self, Difference};
use ledger::run::{self, Item, Run};
use ledger::{Connection, QueryError};
use payment::{AppId, BillDay};

pub use csv::{CsvError, write_csv};
pub use html::html;
pub use json::json;
pub use text::text;

use crate::bucket::Bucket;

/// The last run over a day, with what it found.
#[derive(Clone, Debug)]
pub struct Report {
    pub app_id: AppId,
    pub day: BillDay,
    pub run: Run,
    pub bill: Stored,
    /// Differences of the day, whatever their state, and of the day before that carried into it.
    pub differences: Vec<Difference>,
    /// Everything that did not simply match.
    pub items: Vec<Item>,
}

/// Reads the report of a day, `None` if it was never reconciled.
pub fn load(
    conn: &mut Connection,
    app_id: &AppId,
    day: BillDay,
) -> Result<Option<Report>, QueryError> {
    let Some(run) = run::last_run(conn, app_id, day)? else { return Ok(None) };
    Ok(Some(Report {
        app_id: app_id.clone(),
        day,
        bill: run::bill_of(conn, app_id, &run)?,
        differences: difference::of_day(conn, app_id, day)?,
        items: run::items(conn, app_id, day, run.run_no)?,
        run,
    }))
}

impl Report {
    /// Whether somebody must still look at something: at a difference, or at what stands in the open bucket.
    pub fn has_open(&self) -> bool {
        self.open_count() > 0 || self.run.counts.last().is_some_and(|open| *open > 0)
    }

    pub fn open_count(&self) -> usize {
        self.differences.iter().filter(|difference| is_open(difference)).count()
    }

    /// The completeness table's rows: bucket, count, rows, movements, bill fen, ledger fen.
    pub(crate) fn buckets(&self) -> Vec<(Bucket, [i64; 5])> {
        let run = &self.run;
        let columns =
            [&run.counts, &run.rows_of, &run.movements_of, &run.bill_fen_of, &run.ledger_fen_of];
        Bucket::ALL
            .into_iter()
            .enumerate()
            .map(|(at, bucket)| (bucket, columns.map(|of| of.get(at).copied().unwrap_or_default())))
            .collect()
    }
}

/// The totals beneath the table, as both sides count them.
pub(crate) fn totals(run: &Run) -> [i64; 5] {
    [
        run.counts.iter().sum(),
        run.bill_rows,
        run.ledger_movements,
        run.bill_net_fen,
        run.ledger_net_fen,
    ]
}

pub(crate) fn is_open(difference: &Difference) -> bool {
    difference.state != "resolved"
}

pub(crate) fn linked(day: Option<NaiveDate>) -> String {
    day.map(|day| BillDay::new(day).to_string()).unwrap_or_default()
}
