use chrono::{DateTime, Utc};
use ledger::{Applied, Content, Message};
use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use stream::Partition;

/// What SREs see of the consumer. Names and labels are part of the interface.
pub(crate) struct Metrics {
    applied: IntCounterVec,
    dead_letters: IntCounterVec,
    lag: IntGaugeVec,
    oldest_age: Gauge,
    quarantine: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let metrics = Metrics {
            applied: IntCounterVec::new(
                Opts::new(
                    "suanpan_consumer_applied_total",
                    "Messages taken from the log, by what became of them.",
                ),
                &["outcome"],
            )?,
            dead_letters: IntCounterVec::new(
                Opts::new(
                    "suanpan_dead_letters_total",
                    "Messages set aside because they could not be applied.",
                ),
                &["reason"],
            )?,
            lag: IntGaugeVec::new(
                Opts::new(
                    "suanpan_consumer_lag_messages",
                    "Messages in the log that are not applied yet.",
                ),
                &["partition"],
            )?,
            oldest_age: Gauge::new(
                "suanpan_consumer_oldest_unapplied_age_seconds",
                "Age of the oldest message in the log that is not applied yet; 0 when all are.",
            )?,
            quarantine: IntGauge::new(
                "suanpan_quarantine_messages",
                "Genuine messages held because a check failed.",
            )?,
        };
        for outcome in ["applied", "kept", "duplicate", "quarantined", "dead_letter"] {
            metrics.applied.with_label_values(&[outcome]).reset();
        }
        metrics.dead_letters.with_label_values(&["wrong_signature"]).reset();
        registry.register(Box::new(metrics.applied.clone()))?;
        registry.register(Box::new(metrics.dead_letters.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.oldest_age.clone()))?;
        registry.register(Box::new(metrics.quarantine.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn applied(&self, applied: &Applied, messages: &[Message]) {
        for (outcome, count) in [
            ("applied", applied.applied),
            ("kept", applied.kept),
            ("duplicate", applied.duplicate),
            ("quarantined", applied.quarantined),
            ("dead_letter", applied.dead),
        ] {
            self.applied.with_label_values(&[outcome]).inc_by(count);
        }
        for message in messages {
            match &message.content {
                Content::Dead { reason, .. } => {
                    self.dead_letters.with_label_values(&[*reason]).inc()
                }
                Content::Genuine { .. } | Content::Quarantined { .. } => {}
            }
        }
    }

    /// Of the partitions that are ours; what others have is theirs to tell.
    pub(crate) fn lag(&self, positions: &[(Partition, i64)], ends: &[(Partition, i64)]) {
        self.lag.reset();
        for (partition, next) in positions {
            let end =
                ends.iter().find(|(other, _)| other == partition).map_or(*next, |(_, end)| *end);
            self.lag.with_label_values(&[&partition.to_string()]).set((end - next).max(0));
        }
    }

    /// Set with every step, so that it grows also while nobody can look.
    pub(crate) fn age(&self, oldest: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let age = oldest.and_then(|oldest| (now - oldest).to_std().ok());
        self.oldest_age.set(age.map_or(0.0, |age| age.as_secs_f64()));
    }

    pub(crate) fn quarantined(&self, messages: i64) {
        self.quarantine.set(messages);
    }
}
