use ledger::{Connection, QueryError};
use payment::AppId;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::kind::Kind;
use crate::report::Report;

/// What SREs see of reconciliation. Names and labels are part of the interface.
#[derive(Clone, Debug)]
pub struct Metrics {
    runs: IntCounterVec,
    differences: IntGaugeVec,
    difference_amount: IntGaugeVec,
    last_closed: GaugeVec,
    rows_per_second: Gauge,
    gateway_requests: IntCounterVec,
}

const STATES: [&str; 4] = ["open", "acknowledged", "resolved", "reopened"];

impl Metrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let metrics = Metrics {
            runs: IntCounterVec::new(
                Opts::new(
                    "suanpan_reconciliation_runs_total",
                    "Days reconciled, by how they came out.",
                ),
                &["outcome"],
            )?,
            differences: IntGaugeVec::new(
                Opts::new(
                    "suanpan_reconciliation_differences",
                    "Differences between bills and ledger.",
                ),
                &["app", "kind", "state"],
            )?,
            difference_amount: IntGaugeVec::new(
                Opts::new(
                    "suanpan_reconciliation_difference_amount_fen",
                    "What the unresolved differences amount to, in fen: the sum of |bill - ledger|.",
                ),
                &["app", "kind"],
            )?,
            last_closed: GaugeVec::new(
                Opts::new(
                    "suanpan_reconciliation_last_closed_day_timestamp_seconds",
                    "Start (Asia/Shanghai) of the last day that was reconciled without an open difference.",
                ),
                &["app"],
            )?,
            rows_per_second: Gauge::new(
                "suanpan_reconciliation_bill_rows_per_second",
                "Rows per second while the last bill was read and loaded.",
            )?,
            gateway_requests: IntCounterVec::new(
                Opts::new(
                    "suanpan_gateway_requests_total",
                    "Requests to Alipay's gateway, by answer.",
                ),
                &["method", "code"],
            )?,
        };
        for outcome in ["matched", "differences", "failed"] {
            metrics.runs.with_label_values(&[outcome]).reset();
        }
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.differences.clone()))?;
        registry.register(Box::new(metrics.difference_amount.clone()))?;
        registry.register(Box::new(metrics.last_closed.clone()))?;
        registry.register(Box::new(metrics.rows_per_second.clone()))?;
        registry.register(Box::new(metrics.gateway_requests.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn run(&self, outcome: Result<&Report, ()>) {
        let outcome = match outcome {
            Err(()) => "failed",
            Ok(report) if report.has_open() => "differences",
            Ok(_) => "matched",
        };
        self.runs.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn gateway_request(&self, method: &str, code: Result<(), &str>) {
        let code = code.err().unwrap_or("10000");
        self.gateway_requests.with_label_values(&[method, code]).inc();
    }

    pub(crate) fn bill_speed(&self, rows_per_second: Option<f64>) {
        if let Some(rows_per_second) = rows_per_second {
            self.rows_per_second.set(rows_per_second);
        }
    }

    /// Shows what the ledger holds of an app's differences now.
    pub fn differences(&self, conn: &mut Connection, app_id: &AppId) -> Result<(), QueryError> {
        let counts = ledger::difference::counts(conn, app_id)?;
        for kind in Kind::ALL {
            let mut unresolved_fen = 0_i64;
            for state in STATES {
                let of_state =
                    counts.iter().find(|count| count.kind == kind.as_str() && count.state == state);
                if let Some(count) = of_state.filter(|_| state != "resolved") {
                    unresolved_fen = unresolved_fen.saturating_add(count.amount_fen);
                }
                self.differences
                    .with_label_values(&[app_id.as_str(), kind.as_str(), state])
                    .set(of_state.map_or(0, |count| count.count));
            }
            self.difference_amount
                .with_label_values(&[app_id.as_str(), kind.as_str()])
                .set(unresolved_fen);
        }
        if let Some(day) = ledger::run::last_closed(conn, app_id)? {
            let start = i32::try_from(day.start().timestamp()).unwrap_or(i32::MAX);
            self.last_closed.with_label_values(&[app_id.as_str()]).set(f64::from(start));
        }
        Ok(())
    }
}
