use payment::{BillDay, Fen};

use super::{Report, linked, totals};
use crate::bucket::Bucket;

/// The report for a terminal. Amounts are yuan.
pub fn text(report: &Report) -> String {
    let mut page = Page::default();
    let run = &report.run;
    page.line(format_args!(
        "{} of app {}, run {}: {}",
        report.day,
        report.app_id,
        run.run_no,
        match report.open_count() {
            0 => "every line is matched or explained".to_owned(),
            1 => "1 difference is open".to_owned(),
            open => format!("{open} differences are open"),
        }
    ));
    page.line(format_args!(""));
    let heads = ["", "items", "bill rows", "movements", "bill 商家实收", "ledger"];
    let [name, count, rows, movements, bill, ledger] = heads;
    page.line(format_args!("{name:<10}{count:>8}{rows:>11}{movements:>11}{bill:>14}{ledger:>16}"));
    let total = ("total", totals(run));
    let buckets = report.buckets().into_iter().map(|(bucket, figures)| (bucket.as_str(), figures));
    for (name, [count, rows, movements, bill, ledger]) in buckets.chain([total]) {
        let [bill, ledger] = [bill, ledger].map(|fen| Fen::new(fen).to_string());
        page.line(format_args!(
            "{name:<10}{count:>8}{rows:>11}{movements:>11}{bill:>18}{ledger:>16}"
        ));
    }
    if !report.differences.is_empty() {
        page.line(format_args!("\ndifferences"));
        for difference in &report.differences {
            let yuan =
                |fen: Option<i64>| fen.map_or("-".to_owned(), |fen| Fen::new(fen).to_string());
            let request = if difference.request_no.is_empty() {
                String::new()
            } else {
                format!(" refund {}", difference.request_no)
            };
            let of_day = if difference.day == report.day.date() {
                String::new()
            } else {
                format!(" (of {})", BillDay::new(difference.day))
            };
            page.line(format_args!(
                "  {} {:<18}{:<13} {}{request}  bill {}  ledger {}{of_day}",
                difference.difference_id,
                difference.kind,
                difference.state,
                difference.trade_no,
                yuan(difference.bill_fen),
                yuan(difference.ledger_fen),
            ));
        }
    }
    let neighbours: Vec<_> =
        report.items.iter().filter(|item| item.bucket != Bucket::Open.as_str()).collect();
    if !neighbours.is_empty() {
        page.line(format_args!("\nnear midnight"));
        for item in neighbours {
            let (side, fen) = match (item.bill_fen, item.ledger_fen) {
                (Some(fen), _) => ("bill", fen),
                (None, fen) => ("ledger", fen.unwrap_or_default()),
            };
            let link = match (item.bucket.as_str(), item.linked_day) {
                ("carried", _) => "to the next day".to_owned(),
                (_, day) => format!("by {}", linked(day)),
            };
            page.line(format_args!(
                "  {} {link}: {} {} {}, {side} {}",
                item.bucket,
                item.business,
                item.trade_no,
                payment::to_local(item.moved_at),
                Fen::new(fen),
            ));
        }
    }
    page.line(format_args!(
        "\nsince the last run: {} opened, {} reopened, {} resolved, {} unchanged",
        run.opened, run.reopened, run.resolved, run.unchanged
    ));
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.push_str(&text.to_string());
        self.0.push('\n');
    }
}
