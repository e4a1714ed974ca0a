//! `suanpan reconcile` and `report`: own notifications in, own bills beside them, every fen accounted for.

pub(crate) mod differences;
mod gateway;
mod midnight;
mod order;
mod refused;
mod reports;
mod shapes;

use payment::Business;
use serde_json::{Value, json};

use crate::harness::alipay::APP_ID;
use crate::harness::bill::{Bill, Row};
use crate::harness::binary::{Ended, Up};
use crate::harness::form::Form;
use crate::harness::home::Home;

pub(crate) const DAY: &str = "2024-03-05";
const NEXT_DAY: &str = "2024-03-06";

/// A merchant with open doors, whose days are reconciled with bills from files.
pub(crate) struct Shop {
    // First: it stops before its home goes.
    up: Up,
    pub(crate) home: Home,
}

/// One trade as both sides tell it, where they agree.
#[derive(Clone)]
pub(crate) struct Trade {
    no: String,
    paid_at: String,
    total_fen: i64,
    receipt_fen: i64,
}

impl Shop {
    pub(crate) fn open() -> Shop {
        let home = Home::new();
        Shop { up: home.up(), home }
    }

    #[track_caller]
    pub(crate) fn tell(&self, form: &Form) {
        self.home.tell(&self.up, form);
    }

    /// Reconciles a day, once everything told is in the ledger.
    pub(crate) fn reconcile(&self, bill: &Bill) -> Ended {
        self.reconcile_zip(&bill.day.to_string(), &bill.zip())
    }

    fn reconcile_zip(&self, day: &str, zip: &[u8]) -> Ended {
        self.home.wait_until_applied();
        let file = self.home.write("bill.csv.zip", zip);
        self.home.run(&[
            "reconcile",
            "--json",
            "--app",
            APP_ID,
            "--date",
            day,
            "--bill",
            file.to_str().unwrap(),
        ])
    }

    fn report(&self, day: &str, format: &str) -> Ended {
        self.home.run(&["report", "--app", APP_ID, "--date", day, "--format", format])
    }
}

impl Trade {
    /// A payment of the day at nine in the morning, received in full.
    pub(crate) fn new(no: &str, total_fen: i64) -> Trade {
        Trade {
            no: no.to_owned(),
            paid_at: format!("{DAY} 09:00:12"),
            total_fen,
            receipt_fen: total_fen,
        }
    }

    fn at(mut self, paid_at: &str) -> Trade {
        self.paid_at = paid_at.to_owned();
        self
    }

    pub(crate) fn received(mut self, receipt_fen: i64) -> Trade {
        self.receipt_fen = receipt_fen;
        self
    }

    pub(crate) fn paid(&self) -> Form {
        self.form("TRADE_SUCCESS", "paid")
            .with("gmt_payment", self.paid_at.as_str())
            .with("receipt_amount", yuan(self.receipt_fen))
    }

    /// Nobody paid in time.
    fn closed(&self) -> Form {
        self.form("TRADE_CLOSED", "closed").with("gmt_close", format!("{DAY} 09:30:00"))
    }

    /// `refund_fee` is everything refunded so far, this refund included.
    pub(crate) fn refunded(&self, request_no: &str, so_far_fen: i64, at: &str) -> Form {
        self.form("TRADE_SUCCESS", request_no)
            .with("gmt_payment", self.paid_at.as_str())
            .with("out_biz_no", request_no)
            .with("refund_fee", yuan(so_far_fen))
            .with("gmt_refund", format!("{at}.123"))
    }

    fn form(&self, status: &str, what: &str) -> Form {
        Form::of_trade(&self.no, status, &format!("{}-{what}", self.no))
            .with("total_amount", yuan(self.total_fen))
    }

    /// The bill's row of the payment, with the contract's fee.
    fn row(&self) -> Row {
        Row {
            trade_no: self.no.clone(),
            out_trade_no: format!("O-{}", self.no),
            business: Business::Payment,
            request_no: String::new(),
            at: self.paid_at.clone(),
            total_fen: self.total_fen,
            receipt_fen: self.receipt_fen,
            fee_fen: -((self.receipt_fen * 6 + 500) / 1000),
            subject: "商品".to_owned(),
        }
    }

    /// The bill's row of a refund of this much.
    fn refund_row(&self, request_no: &str, amount_fen: i64, at: &str) -> Row {
        Row {
            business: Business::Refund,
            request_no: request_no.to_owned(),
            at: at.to_owned(),
            total_fen: -amount_fen,
            receipt_fen: -amount_fen,
            fee_fen: 0,
            ..self.row()
        }
    }
}

fn yuan(fen: i64) -> String {
    payment::Fen::new(fen).to_string()
}

/// kind, trade_no, request_no, bill_fen, ledger_fen, state
type Line = (String, String, Option<String>, Option<i64>, Option<i64>, String);

fn line(kind: &str, trade_no: &str, bill_fen: Option<i64>, ledger_fen: Option<i64>) -> Line {
    (kind.to_owned(), trade_no.to_owned(), None, bill_fen, ledger_fen, "open".to_owned())
}

/// The report's differences, sorted.
fn differences(report: &Value) -> Vec<Line> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut lines: Vec<Line> = report["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| {
            (
                text(&difference["kind"]).unwrap(),
                text(&difference["trade_no"]).unwrap(),
                text(&difference["request_no"]),
                difference["bill_fen"].as_i64(),
                difference["ledger_fen"].as_i64(),
                text(&difference["state"]).unwrap(),
            )
        })
        .collect();
    lines.sort();
    lines
}

fn ids(report: &Value) -> Vec<String> {
    let differences = report["differences"].as_array().unwrap().iter();
    let mut ids: Vec<String> =
        differences.map(|difference| difference["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// opened, reopened, resolved, unchanged
fn changes(report: &Value) -> [i64; 4] {
    ["opened", "reopened", "resolved", "unchanged"]
        .map(|name| report["changes"][name].as_i64().unwrap())
}

/// How many items stand in a bucket.
fn bucket(report: &Value, name: &str) -> i64 {
    report["buckets"][name]["count"].as_i64().unwrap()
}

/// The report of a run that ended with this code. Whatever it found, its buckets add up to the bill, as the
/// test wrote it, and to the ledger.
#[track_caller]
fn run_of(ended: &Ended, code: i32, bill: &Bill) -> Value {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let report = ended.json();
    let rows: Vec<&Row> = bill.parts.iter().flatten().collect();
    let net_fen: i64 = rows.iter().map(|row| row.receipt_fen).sum();
    let fee_fen: i64 = rows.iter().map(|row| row.fee_fen).sum();
    assert_eq!(report["bill"]["rows"], json!(rows.len()), "{report}");
    assert_eq!(report["bill"]["net_fen"], json!(net_fen), "{report}");
    assert_eq!(report["bill"]["fee_fen"], json!(fee_fen), "{report}");
    let sum = |figure: &str| -> i64 {
        let buckets = report["buckets"].as_object().unwrap().values();
        buckets.map(|bucket| bucket[figure].as_i64().unwrap()).sum()
    };
    for (figure, total) in [
        ("bill_rows", &report["bill"]["rows"]),
        ("bill_fen", &report["bill"]["net_fen"]),
        ("ledger_movements", &report["ledger"]["movements"]),
        ("ledger_fen", &report["ledger"]["net_fen"]),
    ] {
        assert_eq!(&json!(sum(figure)), total, "{figure}: {report}");
    }
    report
}
