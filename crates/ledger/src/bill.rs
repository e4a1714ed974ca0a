use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bytea, Date, Text, Timestamptz};
use diesel::{
    Connection as _, ExecuteCopyFromDsl, OptionalExtension, PgConnection, QueryResult,
    QueryableByName, RunQueryDsl, sql_query,
};
use payment::{BillRow, Business, Fen};

use crate::day::DayLock;
use crate::schema::bill_row;

/// A bill that stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Stored {
    #[diesel(sql_type = BigInt)]
    pub bill_id: i64,
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
    /// Σ 商家实收 of payments and refunds.
    #[diesel(sql_type = BigInt)]
    pub net_fen: i64,
    #[diesel(sql_type = BigInt)]
    pub fee_fen: i64,
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Where the original is kept, relative to `data_dir`.
    #[diesel(sql_type = Text)]
    pub file: String,
}

/// What identifies a bill before it is read.
#[derive(Clone, Debug)]
pub struct Original {
    pub sha256: [u8; 32],
    /// Where the original is kept, relative to `data_dir`; empty for a day the gateway says is empty.
    pub file: String,
}

/// What the bill says of itself, read and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub account: String,
    pub rows: u64,
    pub net: Fen,
    pub fee: Fen,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError<S: std::error::Error + 'static> {
    #[error("cannot store the bill")]
    Database(#[from] diesel::result::Error),
    #[error("the bill was not taken in")]
    Source(#[source] S),
    #[error("the bill has more rows than the ledger can count")]
    TooManyRows,
}

/// The bill of that content for that day, if it was loaded before.
pub fn find(
    conn: &mut PgConnection,
    day: &DayLock,
    sha256: [u8; 32],
) -> QueryResult<Option<Stored>> {
    sql_query(
        "SELECT bill_id, rows, net_fen, fee_fen, sha256, file FROM bill
          WHERE app_id = $1 AND day = $2 AND sha256 = $3",
    )
    .bind::<Text, _>(day.app_id().as_str())
    .bind::<Date, _>(day.day().date())
    .bind::<Bytea, _>(sha256.as_slice())
    .get_result(conn)
    .optional()
}

/// Loads a bill by COPY, in one transaction: all of its rows, or nothing. `read` pushes the rows one by one, so
/// neither side holds more than one of them.
///
/// Afterwards the planner is told how large both sides are now. The database would find out by itself a minute
/// later, and until then compare a hundred thousand rows as if they were ten.
pub fn load<S: std::error::Error + 'static>(
    conn: &mut PgConnection,
    day: &DayLock,
    original: &Original,
    now: DateTime<Utc>,
    read: impl FnOnce(&mut RowSink<'_>) -> Result<Totals, S>,
) -> Result<Stored, LoadError<S>> {
    conn.transaction(|conn| {
        #[derive(QueryableByName)]
        struct Next {
            #[diesel(sql_type = BigInt)]
            bill_id: i64,
        }
        let Next { bill_id } =
            sql_query("SELECT nextval(pg_get_serial_sequence('bill', 'bill_id')) AS bill_id")
                .get_result(conn)?;
        let app_id = day.app_id().as_str();
        // diesel calls the closure once, though its type does not say so.
        let read = Cell::new(Some(read));
        let outcome = RefCell::new(None);
        let copied = diesel::copy_from(bill_row::table)
            .from_raw_data(bill_row::table, |copy| -> Result<(), CopyError> {
                let Some(read) = read.take() else { return Ok(()) };
                let mut sink = RowSink { out: BufWriter::with_capacity(1 << 16, copy), app_id, bill_id };
                let result = read(&mut sink);
                let complete = result.is_ok() && sink.out.flush().is_ok();
                *outcome.borrow_mut() = Some(result);
                if complete { Ok(()) } else { Err(CopyError::Abandoned) }
            })
            .execute(conn);
        // The reader's own refusal says more than the abandoned COPY.
        let totals = match outcome.into_inner() {
            Some(Err(refusal)) => return Err(LoadError::Source(refusal)),
            Some(Ok(totals)) => copied.map(|_| totals).map_err(CopyError::into_diesel)?,
            None => {
                copied.map_err(CopyError::into_diesel)?;
                Totals::default()
            }
        };
        let stored = Stored {
            bill_id,
            rows: i64::try_from(totals.rows).map_err(|_| LoadError::TooManyRows)?,
            net_fen: totals.net.get(),
            fee_fen: totals.fee.get(),
            sha256: original.sha256.to_vec(),
            file: original.file.clone(),
        };
        sql_query(
            "INSERT INTO bill (app_id, bill_id, day, sha256, file, account, rows, net_fen, fee_fen, loaded_at)
             OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind::<Text, _>(app_id)
        .bind::<BigInt, _>(bill_id)
        .bind::<Date, _>(day.day().date())
        .bind::<Bytea, _>(&stored.sha256)
        .bind::<Text, _>(&stored.file)
        .bind::<Text, _>(&totals.account)
        .bind::<BigInt, _>(stored.rows)
        .bind::<BigInt, _>(stored.net_fen)
        .bind::<BigInt, _>(stored.fee_fen)
        .bind::<Timestamptz, _>(now)
        .execute(conn)?;
        sql_query("ANALYZE bill, bill_row, trade, refund, fact").execute(conn)?;
        Ok(stored)
    })
}

/// Takes rows in COPY's text format.
pub struct RowSink<'c> {
    out: BufWriter<&'c mut dyn Write>,
    app_id: &'c str,
    bill_id: i64,
}

impl RowSink<'_> {
    pub fn push(&mut self, row: &BillRow) -> io::Result<()> {
        let request_no = match (&row.request_no, row.business) {
            (Some(request_no), _) => request_no.as_str(),
            (None, Business::Payment) => "",
            (None, Business::Refund) => row.trade_no.as_str(),
        };
        writeln!(
            self.out,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            Escaped(self.app_id),
            self.bill_id,
            row.entry,
            row.line,
            row.offset,
            row.business.as_str(),
            Escaped(row.trade_no.as_str()),
            Escaped(request_no),
            Escaped(row.out_trade_no.as_str()),
            row.completed_at.format("%Y-%m-%d %H:%M:%S%.6f+00"),
            row.total.get(),
            row.receipt.get(),
            row.fee.get(),
            row.share.get(),
        )
    }
}

/// Ids hold no control characters, so the backslash is all that COPY would misread.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.contains('\\') {
            return f.write_str(&self.0.replace('\\', "\\\\"));
        }
        f.write_str(self.0)
    }
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("the bill was refused")]
    Abandoned,
    #[error("cannot copy the bill's rows")]
    Database(#[from] diesel::result::Error),
}

impl CopyError {
    fn into_diesel(self) -> diesel::result::Error {
        match self {
            CopyError::Abandoned => diesel::result::Error::RollbackTransaction,
            CopyError::Database(error) => error,
        }
    }
}
