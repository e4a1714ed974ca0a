use std::convert::Infallible;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use alipay::bill::{self, Limits, ReadError};
use anyhow::Context;
use serde_json::json;

use crate::cli::Common;

/// Reads a bill, checks it against itself, and prints its totals.
pub(crate) fn check(common: &Common, path: &Path) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bill = match bill::read(file, &Limits::DAILY, |_| Ok::<(), Infallible>(())) {
        Ok(bill) => bill,
        Err(ReadError::Bill(refusal)) => {
            let reason = service::chain(&refusal);
            if common.json {
                println!("{}", json!({ "refused": reason }));
            }
            eprintln!("suanpan: {} is refused: {reason}", path.display());
            return Ok(ExitCode::from(2));
        }
        Err(ReadError::Sink(never)) => match never {},
    };
    if common.json {
        let totals = |totals: &bill::Totals| {
            json!({
                "count": totals.count,
                "total_fen": totals.total.get(),
                "receipt_fen": totals.receipt.get(),
            })
        };
        let result = json!({
            "kind": "trade",
            "account": bill.account,
            "from": bill.from.to_string(),
            "to": bill.to.to_string(),
            "rows": bill.rows,
            "payments": totals(&bill.payments),
            "refunds": totals(&bill.refunds),
            "fee_fen": bill.fee.get(),
            "share_fen": bill.share.get(),
        });
        println!("{result}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("trade bill of {}", bill.account.as_deref().unwrap_or("an account it does not name"));
    println!("from      {} to {} (exclusive)", bill.from, bill.to);
    println!("rows      {}", bill.rows);
    for (name, totals) in [("payments", &bill.payments), ("refunds", &bill.refunds)] {
        println!("{name:<9} {} of {}, 商家实收 {}", totals.count, totals.total, totals.receipt);
    }
    println!("fees      {}", bill.fee);
    println!("the rows agree with the footer");
    Ok(ExitCode::SUCCESS)
}
