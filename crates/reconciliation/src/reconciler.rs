use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alipay::Gateway;
use chrono::{DateTime, Utc};
use ledger::Connection;
use payment::{AppId, BillDay};
use service::{Clock, Health, Shutdown};
use tracing::{error, info};

use crate::day::{ReconcileError, reconcile};
use crate::metrics::Metrics;
use crate::source::{Client, Source, SourceError};

/// Reconciles yesterday, every morning, for every app that has a gateway; and shows what the ledger holds of every
/// app's differences, whoever reconciled them.
pub struct Reconciler {
    database_url: String,
    clients: Vec<(Client, Option<Gateway>)>,
    from_hour: u32,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Health,
    /// When a day that failed is tried again.
    not_before: HashMap<(AppId, BillDay), DateTime<Utc>>,
}

const HEALTH_PART: &str = "reconciler";
const LOOK_EVERY: Duration = Duration::from_secs(30);
const RETRY_AFTER_MINUTES: i64 = 10;

impl Reconciler {
    /// `from_hour` is the hour in Shanghai from which yesterday's bill is asked for.
    pub fn new(
        database_url: &str,
        clients: Vec<(Client, Option<Gateway>)>,
        from_hour: u32,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        health: &Health,
    ) -> Reconciler {
        health.register(HEALTH_PART);
        Reconciler {
            database_url: database_url.to_owned(),
            clients,
            from_hour,
            clock,
            metrics,
            health: health.clone(),
            not_before: HashMap::new(),
        }
    }

    /// Reconciles the days that are due: yesterday, and days since the first run that were missed. Says how many
    /// were run.
    pub fn step(&mut self, conn: &mut Connection) -> usize {
        self.step_until(&Shutdown::new(), conn)
    }

    /// The same, but no day is begun once `shutdown` is triggered.
    fn step_until(&mut self, shutdown: &Shutdown, conn: &mut Connection) -> usize {
        let now = self.clock.now();
        let yesterday = BillDay::of(now).previous();
        let ready_at = yesterday.end() + chrono::Duration::hours(i64::from(self.from_hour));
        let until = if now < ready_at { yesterday.previous() } else { yesterday };
        self.not_before.retain(|_, not_before| now < *not_before);
        let mut runs = 0;
        for (client, gateway) in &self.clients {
            let Some(gateway) = gateway else { continue };
            let days = match ledger::run::due(conn, &client.app_id, until) {
                Ok(days) => days,
                Err(error) => {
                    error!(%error, app.id = %client.app_id, "cannot read which days are due");
                    continue;
                }
            };
            for day in days {
                if shutdown.is_triggered() {
                    return runs;
                }
                let key = (client.app_id.clone(), day);
                if self.not_before.contains_key(&key) {
                    continue;
                }
                let source = Source::Gateway(gateway);
                match reconcile(conn, client, day, &source, &*self.clock, &self.metrics) {
                    Ok(report) => {
                        runs += 1;
                        let open = report.open_count();
                        info!(app.id = %client.app_id, day = %day, open, "reconciled {day}");
                    }
                    Err(error) => {
                        let retry = now + chrono::Duration::minutes(RETRY_AFTER_MINUTES);
                        self.not_before.insert(key, retry);
                        log_failure(&client.app_id, day, &error);
                    }
                }
            }
        }
        runs
    }

    /// Brings the metrics to what the ledger holds, other processes' runs included.
    fn show(&self, conn: &mut Connection) {
        for (client, _) in &self.clients {
            if let Err(error) = self.metrics.differences(conn, &client.app_id) {
                error!(%error, app.id = %client.app_id, "cannot count the differences");
            }
        }
    }

    /// Steps until told to stop. A day that is being reconciled is finished first; cut short, it would leave
    /// nothing behind.
    pub fn run(mut self, shutdown: &Shutdown) {
        let mut conn = None;
        while !shutdown.is_triggered() {
            match conn.take().map_or_else(|| ledger::connect(&self.database_url), Ok) {
                Ok(mut open) => {
                    self.health.ok(HEALTH_PART);
                    self.step_until(shutdown, &mut open);
                    self.show(&mut open);
                    // A connection that broke in the step is made anew at the next.
                    conn = ledger::check_schema(&mut open).is_ok().then_some(open);
                }
                Err(error) => self.health.failed(HEALTH_PART, &error.to_string()),
            }
            shutdown.wait_for(LOOK_EVERY);
        }
    }
}

fn log_failure(app_id: &AppId, day: BillDay, error: &ReconcileError) {
    let only_early = matches!(
        error,
        ReconcileError::Source(SourceError::NotYet { .. }) | ReconcileError::Held { .. }
    );
    let text = service::chain(error);
    if only_early {
        info!(app.id = %app_id, day = %day, "{text}");
    } else {
        error!(app.id = %app_id, day = %day, error = text, "cannot reconcile {day}");
    }
}
