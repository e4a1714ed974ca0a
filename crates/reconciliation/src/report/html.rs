use maud::{DOCTYPE, Markup, PreEscaped, html as page};
use payment::{BillDay, Fen};

use super::json::hex;
use super::{Report, is_open, linked, totals};
use crate::bucket::Bucket;
use crate::kind::Kind;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, 'Noto Sans CJK SC', sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430 }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p.verdict { font-size: 1.1rem; margin: .25rem 0 1.5rem } .ok { color: #14713d } .bad { color: #a61b1b }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #dde3ea; vertical-align: top }
th { font-weight: 600; background: #f3f5f8 } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr.total td { font-weight: 600; border-top: 2px solid #8896a8 } code { font-size: .9em } .muted { color: #5d6b7c }
";

/// The report as one HTML page that needs nothing else. Amounts are yuan.
pub fn html(report: &Report) -> String {
    let run = &report.run;
    let open = report.open_count();
    let markup = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Reconciliation " (report.day) " · " (report.app_id) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Reconciliation of " (report.day) }
                p.verdict {
                    @if open == 0 { span.ok { "Every line is matched or explained." } }
                    @else if open == 1 { span.bad { "1 difference is open." } }
                    @else { span.bad { (open) " differences are open." } }
                }
                h2 { "Completeness" }
                (completeness(report))
                h2 { "Differences" }
                (differences(report))
                (neighbours(report))
                h2 { "This run" }
                p {
                    "App " code { (report.app_id) } ", run " (run.run_no) ", finished "
                    (payment::to_local(run.finished_at)) " (Shanghai). Since the run before: "
                    (run.opened) " opened, " (run.reopened) " reopened, " (run.resolved) " resolved, "
                    (run.unchanged) " unchanged."
                }
                p.muted {
                    @if report.bill.file.is_empty() { "The gateway says that the day has no bill." }
                    @else { "Bill " code { (report.bill.file) } ", SHA-256 " code { (hex(&report.bill.sha256)) } "." }
                }
                p.muted {
                    "Every line, matched ones too: " code { "suanpan report --app " (report.app_id) " --date " (report.day) " --format csv" }
                }
            }
        }
    };
    markup.into_string()
}

fn completeness(report: &Report) -> Markup {
    let meaning = |bucket: Bucket| match bucket {
        Bucket::Matched => "row and movement agree",
        Bucket::Carried => "near midnight; the next day may bring the other side",
        Bucket::Explained => "the other side stands on a neighbouring day",
        Bucket::Open => "somebody must look",
    };
    let row = |name: &str, meaning: &str, figures: [i64; 5]| {
        let [count, rows, movements, bill, ledger] = figures;
        page! {
            td { (name) " " span.muted { (meaning) } }
            td.n { (count) } td.n { (rows) } td.n { (movements) }
            td.n { (Fen::new(bill)) } td.n { (Fen::new(ledger)) }
        }
    };
    page! {
        div.scroll { table {
            thead { tr {
                th { "Bucket" } th.n { "Items" } th.n { "Bill rows" } th.n { "Ledger movements" }
                th.n { "Bill 商家实收" } th.n { "Ledger" }
            } }
            tbody {
                @for (bucket, figures) in report.buckets() { tr { (row(bucket.as_str(), meaning(bucket), figures)) } }
                tr.total { (row("total", "as each side counts itself", totals(&report.run))) }
            }
        } }
    }
}

fn differences(report: &Report) -> Markup {
    if report.differences.is_empty() {
        return page! { p { "None." } };
    }
    let yuan = |fen: Option<i64>| fen.map_or("–".to_owned(), |fen| Fen::new(fen).to_string());
    page! {
        div.scroll { table {
            thead { tr {
                th { "Kind" } th { "Trade" } th.n { "Bill" } th.n { "Ledger" } th { "State" } th { "What to do" }
            } }
            tbody {
                @for difference in &report.differences {
                    tr {
                        td { (difference.kind) br; code.muted { (difference.difference_id) } }
                        td {
                            code { (difference.trade_no) } br;
                            span.muted { "order " (difference.out_trade_no) }
                            @if !difference.request_no.is_empty() { br; span.muted { "refund " (difference.request_no) } }
                            @if difference.day != report.day.date() { br; span.muted { "of " (BillDay::new(difference.day)) } }
                        }
                        td.n { (yuan(difference.bill_fen)) }
                        td.n { (yuan(difference.ledger_fen)) }
                        td { span class=(if is_open(difference) { "bad" } else { "ok" }) { (difference.state) } }
                        td { (Kind::named(&difference.kind).map_or("", Kind::explanation)) }
                    }
                }
            }
        } }
    }
}

fn neighbours(report: &Report) -> Markup {
    let items: Vec<_> =
        report.items.iter().filter(|item| item.bucket != Bucket::Open.as_str()).collect();
    if items.is_empty() {
        return page! {};
    }
    page! {
        h2 { "Near midnight" }
        div.scroll { table {
            thead { tr { th { "Bucket" } th { "Trade" } th { "At" } th.n { "Bill" } th.n { "Ledger" } th { "Other side" } } }
            tbody {
                @for item in items {
                    tr {
                        td { (item.bucket) }
                        td { (item.business) " " code { (item.trade_no) }
                            @if !item.request_no.is_empty() { br; span.muted { "refund " (item.request_no) } } }
                        td { (payment::to_local(item.moved_at)) }
                        td.n { (item.bill_fen.map_or("–".to_owned(), |fen| Fen::new(fen).to_string())) }
                        td.n { (item.ledger_fen.map_or("–".to_owned(), |fen| Fen::new(fen).to_string())) }
                        td { @if item.linked_day.is_some() { (linked(item.linked_day)) } @else { "expected the next day" } }
                    }
                }
            }
        } }
    }
}
