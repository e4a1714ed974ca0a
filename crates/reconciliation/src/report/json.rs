use payment::BillDay;
use serde_json::{Map, Value, json};

use super::Report;
use crate::bucket::Bucket;

/// The report as JSON; field names and meanings are part of the interface. Amounts are fen, times RFC 3339.
pub fn json(report: &Report) -> Value {
    let buckets: Map<String, Value> = report
        .buckets()
        .into_iter()
        .map(|(bucket, [count, rows, movements, bill_fen, ledger_fen])| {
            let tally = json!({
                "count": count,
                "bill_rows": rows,
                "ledger_movements": movements,
                "bill_fen": bill_fen,
                "ledger_fen": ledger_fen,
            });
            (bucket.as_str().to_owned(), tally)
        })
        .collect();
    let differences: Vec<Value> = report
        .differences
        .iter()
        .map(|difference| {
            json!({
                "id": difference.difference_id,
                "kind": difference.kind,
                "date": BillDay::new(difference.day).to_string(),
                "business": difference.business,
                "trade_no": difference.trade_no,
                "out_trade_no": difference.out_trade_no,
                "request_no": none_if_empty(&difference.request_no),
                "bill_fen": difference.bill_fen,
                "ledger_fen": difference.ledger_fen,
                "state": difference.state,
            })
        })
        .collect();
    let neighbours: Vec<Value> = report
        .items
        .iter()
        .filter(|item| item.bucket != Bucket::Open.as_str())
        .map(|item| {
            json!({
                "bucket": item.bucket,
                "business": item.business,
                "trade_no": item.trade_no,
                "out_trade_no": item.out_trade_no,
                "request_no": none_if_empty(&item.request_no),
                "moved_at": item.moved_at.to_rfc3339(),
                "bill_fen": item.bill_fen,
                "ledger_fen": item.ledger_fen,
                "linked_date": item.linked_day.map(|day| BillDay::new(day).to_string()),
            })
        })
        .collect();
    let run = &report.run;
    json!({
        "app_id": report.app_id.as_str(),
        "date": report.day.to_string(),
        "run": run.run_no,
        "finished_at": run.finished_at.to_rfc3339(),
        "bill": {
            "rows": run.bill_rows,
            "net_fen": run.bill_net_fen,
            "fee_fen": report.bill.fee_fen,
            "sha256": hex(&report.bill.sha256),
            "file": report.bill.file,
        },
        "ledger": { "movements": run.ledger_movements, "net_fen": run.ledger_net_fen },
        "buckets": buckets,
        "differences": differences,
        "carried_and_explained": neighbours,
        "changes": {
            "opened": run.opened,
            "reopened": run.reopened,
            "resolved": run.resolved,
            "unchanged": run.unchanged,
        },
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn none_if_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
