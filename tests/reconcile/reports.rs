//! The report in its four formats, and `bill check`.

use std::path::Path;

use serde_json::json;

use super::differences::every_kind;
use super::{DAY, Shop, ids, run_of};
use crate::harness::alipay::APP_ID;
use crate::harness::binary::{Ended, suanpan};

#[test]
fn a_report_says_the_same_in_all_its_formats() {
    let shop = Shop::open();
    let (bill, expected) = every_kind(&shop);
    let found = run_of(&shop.reconcile(&bill), 1, &bill);
    let report = |format: &str| {
        let ended = shop.report(DAY, format);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let as_json: serde_json::Value = serde_json::from_str(&report("json")).unwrap();
    assert_eq!(as_json, found);

    let csv = report("csv");
    let csv = csv.strip_prefix('\u{feff}').expect("the mark that spreadsheets want");
    let lines: Vec<&str> = csv.lines().collect();
    let rows = bill.parts[0].len();
    assert_eq!(lines.len(), 1 + rows + 1, "headings, bill rows, and the movement without a row");
    for row in &bill.parts[0] {
        let (own, request) = (format!(",{},", row.trade_no), format!(",{},", row.request_no));
        assert!(lines.iter().any(|line| line.contains(&own) && line.contains(&request)), "{own}");
    }
    for id in ids(&found) {
        assert_eq!(csv.matches(&id).count(), 1, "{id} stands at one line: {csv}");
    }
    let open = lines.iter().filter(|line| line.starts_with("open,")).count();
    let matched = lines.iter().filter(|line| line.starts_with("matched,")).count();
    assert_eq!((open, matched), (11, 3));

    let (html, text) = (report("html"), report("text"));
    for outside in ["http:", "https:", "src=", "href=", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "the page stands alone, without {outside}");
    }
    for (kind, trade_no, ..) in &expected {
        for (format, content) in [("html", &html), ("text", &text)] {
            assert!(
                content.contains(kind.as_str()) && content.contains(trade_no.as_str()),
                "{kind} in {format}"
            );
        }
    }
    assert!(html.contains("11 differences are open"));
    assert!(text.contains("11 differences are open"), "{text}");

    let file = shop.home.path("report.csv");
    let shown = file.to_str().unwrap();
    let written = shop
        .home
        .run(&["report", "--app", APP_ID, "--date", DAY, "--format", "csv", "--out", shown]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{written:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("\u{feff}{csv}"));
}

#[test]
fn a_bill_as_alipay_packs_it_is_checked_to_the_fen() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/alipay-trade-gbk.csv.zip");
    let ended = Ended::of(suanpan(&["bill", "check", "--json"]).arg(&file));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected = json!({
        "kind": "trade",
        "account": "20880000000000000156",
        "from": "2024-03-05",
        "to": "2024-03-06",
        "rows": 5,
        "payments": {"count": 2, "total_fen": 15_000, "receipt_fen": 14_500},
        "refunds": {"count": 3, "total_fen": -6_550, "receipt_fen": -6_550},
        "fee_fen": -87,
        "share_fen": 0,
    });
    assert_eq!(ended.json(), expected);
    let text = Ended::of(suanpan(&["bill", "check"]).arg(&file));
    assert_eq!(text.code, Some(0));
    assert!(text.stdout.contains("145.00") && text.stdout.contains("-65.50"), "{}", text.stdout);
}
