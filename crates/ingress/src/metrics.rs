use std::time::Duration;

use alipay::Refusal;
use chrono::{DateTime, Utc};
use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use crate::outcome::Outcome;

/// What the ingress counts. The label `app` is a configured id, or [`UNKNOWN`](Metrics::UNKNOWN):
/// nobody can make up new ones.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    notifications: IntCounterVec,
    failures: IntCounterVec,
    request_seconds: Histogram,
    append_seconds: Histogram,
    last_accepted: IntGaugeVec,
}

impl Metrics {
    /// The label of requests to no app of ours.
    pub(crate) const UNKNOWN: &'static str = "unknown";

    /// Registers everything; each app's counters begin at 0, so that a rate can be told from the first
    /// message on.
    pub(crate) fn register<'a>(
        registry: &Registry,
        apps: impl Iterator<Item = &'a str>,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            notifications: IntCounterVec::new(
                Opts::new(
                    "suanpan_ingress_notifications_total",
                    "Notifications received, by what became of them.",
                ),
                &["app", "outcome"],
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "suanpan_ingress_signature_failures_total",
                    "Notifications refused, by cause.",
                ),
                &["app", "cause"],
            )?,
            request_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "suanpan_ingress_request_duration_seconds",
                    "From a request's headers to its answer.",
                )
                .buckets(exponential_buckets(0.0005, 2.0, 15)?),
            )?,
            append_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "suanpan_ingress_append_duration_seconds",
                    "How long an append to the log took until its commit, or until it was given up.",
                )
                .buckets(exponential_buckets(0.0005, 2.0, 15)?),
            )?,
            last_accepted: IntGaugeVec::new(
                Opts::new(
                    "suanpan_ingress_last_accepted_timestamp_seconds",
                    "When a notification was last accepted; 0 if none was since the start.",
                ),
                &["app"],
            )?,
        };
        registry.register(Box::new(metrics.notifications.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.request_seconds.clone()))?;
        registry.register(Box::new(metrics.append_seconds.clone()))?;
        registry.register(Box::new(metrics.last_accepted.clone()))?;
        for app in apps {
            for outcome in Outcome::LABELS {
                metrics.notifications.with_label_values(&[app, outcome]);
            }
            for cause in Refusal::CAUSES {
                metrics.failures.with_label_values(&[app, cause]);
            }
            metrics.last_accepted.with_label_values(&[app]);
        }
        Ok(metrics)
    }

    /// One request, when it is answered.
    pub(crate) fn answered(&self, app: &str, outcome: Outcome, took: Duration) {
        self.notifications.with_label_values(&[app, outcome.label()]).inc();
        if let Outcome::Refused(refused) = outcome {
            self.failures.with_label_values(&[app, refused.cause]).inc();
        }
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// One append, whether or not it worked.
    pub(crate) fn appended(&self, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// A notification of this app is in the log.
    pub(crate) fn accepted(&self, app: &str, at: DateTime<Utc>) {
        self.last_accepted.with_label_values(&[app]).set(at.timestamp());
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::outcome::Refused;

    #[test]
    fn counters_begin_at_zero_and_count_by_outcome_and_cause() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry, ["A"].into_iter()).unwrap();
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for outcome in Outcome::LABELS {
            let line = format!(
                "suanpan_ingress_notifications_total{{app=\"A\",outcome=\"{outcome}\"}} 0\n"
            );
            assert!(text().contains(&line), "{line}");
        }
        metrics.answered("A", Outcome::Accepted, Duration::from_millis(3));
        metrics.answered(Metrics::UNKNOWN, Outcome::Refused(Refused::UNKNOWN_APP), Duration::ZERO);
        metrics.accepted("A", DateTime::from_timestamp(1_710_000_000, 0).unwrap());
        for line in [
            "suanpan_ingress_notifications_total{app=\"A\",outcome=\"accepted\"} 1\n",
            "suanpan_ingress_notifications_total{app=\"unknown\",outcome=\"refused\"} 1\n",
            "suanpan_ingress_signature_failures_total{app=\"unknown\",cause=\"unknown_app\"} 1\n",
            "suanpan_ingress_request_duration_seconds_count 2\n",
            "suanpan_ingress_append_duration_seconds_count 0\n",
            "suanpan_ingress_last_accepted_timestamp_seconds{app=\"A\"} 1710000000\n",
        ] {
            assert!(text().contains(line), "{line}\n{}", text());
        }
    }
}
