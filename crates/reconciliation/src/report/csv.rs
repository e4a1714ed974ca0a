use std::io::Write;

use ledger::{Connection, QueryError};
use payment::Fen;

use super::{Report, linked};

#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    #[error("cannot read the day's lines")]
    Database(#[from] QueryError),
    #[error("cannot write the report")]
    Write(#[from] csv::Error),
    #[error("cannot write the report")]
    Flush(#[from] std::io::Error),
}

const HEADINGS: [&str; 11] = [
    "bucket",
    "business",
    "trade_no",
    "out_trade_no",
    "request_no",
    "moved_at",
    "bill_yuan",
    "ledger_yuan",
    "linked_date",
    "difference_kinds",
    "difference_ids",
];

/// Every line of the day, one a row: what did not match first, then what matched, in the bill's order. Times are
/// Shanghai's, amounts yuan (商家实收). Streams: memory does not grow with the day.
pub fn write_csv(conn: &mut Connection, report: &Report, out: impl Write) -> Result<(), CsvError> {
    // A spreadsheet takes a CSV for UTF-8 only if it begins with this mark.
    let mut out = out;
    out.write_all("\u{feff}".as_bytes())?;
    let mut lines = csv::Writer::from_writer(out);
    lines.write_record(HEADINGS)?;
    for item in &report.items {
        let own: Vec<_> = report
            .differences
            .iter()
            .filter(|_| item.bucket == "open")
            .filter(|difference| {
                (&difference.business, &difference.trade_no, &difference.request_no)
                    == (&item.business, &item.trade_no, &item.request_no)
                    && (difference.kind == "duplicate_in_bill")
                        == (item.ordinal > 1
                            || item.ledger_fen.is_none() && is_repeated(report, item))
            })
            .collect();
        let yuan = |fen: Option<i64>| fen.map(|fen| Fen::new(fen).to_string()).unwrap_or_default();
        let join = |pick: fn(&ledger::difference::Difference) -> &str| {
            own.iter().map(|difference| pick(difference)).collect::<Vec<_>>().join(" ")
        };
        lines.write_record([
            item.bucket.as_str(),
            &item.business,
            &item.trade_no,
            &item.out_trade_no,
            &item.request_no,
            &payment::to_local(item.moved_at),
            &yuan(item.bill_fen),
            &yuan(item.ledger_fen),
            &linked(item.linked_day),
            &join(|difference| &difference.kind),
            &join(|difference| &difference.difference_id),
        ])?;
    }
    conn.build_transaction().read_only().run(|conn| {
        ledger::run::for_each_matched(conn, &report.app_id, report.day, &report.run, |row| {
            let fen = Fen::new(row.receipt_fen).to_string();
            lines.write_record([
                "matched",
                &row.business,
                &row.trade_no,
                &row.out_trade_no,
                &row.request_no,
                &payment::to_local(row.moved_at),
                &fen,
                &fen,
                "",
                "",
                "",
            ])?;
            Ok::<(), CsvError>(())
        })
    })?;
    lines.flush()?;
    Ok(())
}

/// A row that repeats one of another day's bill is a duplicate though it is the first of its own.
fn is_repeated(report: &Report, item: &ledger::run::Item) -> bool {
    report.differences.iter().any(|difference| {
        difference.kind == "duplicate_in_bill"
            && (&difference.business, &difference.trade_no, &difference.request_no)
                == (&item.business, &item.trade_no, &item.request_no)
    })
}
