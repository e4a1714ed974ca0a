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

/// Reconciles yesterday, every morning, for every app that has a gateway.
pub struct Reconciler {
    database_url: String,
    clients: Vec<(Client, Gateway)>,
    from_hour: u32,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: Health,
    /// When an app that failed is tried again.
    not_before: HashMap<AppId, DateTime<Utc>>,
}

const HEALTH_PART: &str = "reconciler";
const LOOK_EVERY: Duration = Duration::from_secs(30);
const RETRY_AFTER_MINUTES: i64 = 10;

impl Reconciler {
    /// `from_hour` is the hour in Shanghai from which yesterday's bill is asked for.
    pub fn new(
        database_url: &str,
        clients: Vec<(Client, Gateway)>,
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

    /// Reconciles what is due and was not run yet. Says how many days were run.
    pub fn step(&mut self, conn: &mut Connection) -> usize {
        let now = self.clock.now();
        let yesterday = BillDay::of(now).previous();
        if now < yesterday.end() + chrono::Duration::hours(i64::from(self.from_hour)) {
            return 0;
        }
        let mut runs = 0;
        for (client, gateway) in &self.clients {
            if self.not_before.get(&client.app_id).is_some_and(|not_before| now < *not_before) {
                continue;
            }
            let retry = now + chrono::Duration::minutes(RETRY_AFTER_MINUTES);
            match ledger::run::last_run_no(conn, &client.app_id, yesterday) {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(error) => {
                    error!(%error, app.id = %client.app_id, "cannot read whether yesterday was run");
                    self.not_before.insert(client.app_id.clone(), retry);
                    continue;
                }
            }
            let source = Source::Gateway(gateway);
            match reconcile(conn, client, yesterday, &source, &*self.clock, &self.metrics) {
                Ok(report) => {
                    runs += 1;
                    info!(
                        app.id = %client.app_id, day = %yesterday, open = report.open_count(),
                        "reconciled {yesterday}"
                    );
                }
                Err(error) => {
                    self.not_before.insert(client.app_id.clone(), retry);
                    let only_early = matches!(
                        error,
                        ReconcileError::Source(SourceError::NotYet { .. })
                            | ReconcileError::Held { .. }
                    );
                    let text = service::chain(&error);
                    if only_early {
                        info!(app.id = %client.app_id, day = %yesterday, "{text}");
                    } else {
                        error!(
                            app.id = %client.app_id, day = %yesterday, error = text,
                            "cannot reconcile {yesterday}"
                        );
                    }
                }
            }
        }
        runs
    }

    /// Steps until told to stop.
    pub fn run(mut self, shutdown: &Shutdown) {
        let mut conn = None;
        while !shutdown.is_triggered() {
            match conn.take().map_or_else(|| ledger::connect(&self.database_url), Ok) {
                Ok(mut open) => {
                    self.health.ok(HEALTH_PART);
                    self.step(&mut open);
                    // A connection that broke in the step is made anew at the next.
                    conn = ledger::check_schema(&mut open).is_ok().then_some(open);
                }
                Err(error) => self.health.failed(HEALTH_PART, &error.to_string()),
            }
            shutdown.wait_for(LOOK_EVERY);
        }
    }
}
