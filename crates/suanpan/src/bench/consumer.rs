use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use diesel::connection::SimpleConnection as _;
use payment::{AppId, Envelope, Provider, Source, Topic};
use service::{Clock as _, SystemClock};
use stream::{AppendSettings, Appender};
use tokio::task::JoinSet;

use super::figures::{Measure, Round, Unit, hundredths, ns_each, per_second};
use super::notification::{APP_ID, Notifications};
use super::testbed::{Role, Testbed};
use super::{Bench, bare, books, cpu};

/// Fills the log, lets a consumer apply all of it, and then inserts the rows it made once more, bare.
pub(super) fn measure(bench: &Bench<'_>, number: u32) -> anyhow::Result<Round> {
    let bed = bench.testbed(&format!("consumer-{number}"))?;
    let expected = &bench.notifications.expected;
    fill(&bed, &bench.notifications)?;
    let mut conn = bed.connect()?;
    // What was left to write is written: it is not the consumer's.
    conn.batch_execute("CHECKPOINT")?;

    let postgres_cpu = bed.postgres_cpu();
    let mut consumer = bed.start("consumer")?;
    let progress =
        follow(&mut conn, &mut consumer, expected.notifications, bench.shutdown.clone())?;
    let consumer_cpu = consumer.cpu();
    let postgres_cpu = cpu::spent(postgres_cpu, bed.postgres_cpu());
    consumer.stop()?;

    let mut round = Round::default();
    round.wrong.extend(books::check_ledger(&mut conn, expected)?);
    conn.batch_execute("CHECKPOINT")?;
    let bare = bare::insert_again(&mut conn, expected.notifications, || bed.postgres_cpu())?;

    let count = expected.notifications;
    let each = |time: Option<Duration>| time.map(|time| ns_each(time, count));
    let applied = per_second(count, progress.elapsed());
    let inserted = per_second(count, bare.elapsed);
    round.add(APPLIED, applied);
    round.add(MIDDLE, progress.middle_per_second());
    round.add(BARE, inserted);
    round.add(BARE_ROWS, per_second(bare.rows, bare.elapsed));
    round.add(RATIO, hundredths(applied, inserted));
    round.add_known(CPU, each(consumer_cpu));
    round.add_known(POSTGRES_CPU, each(postgres_cpu));
    round.add_known(BARE_CPU, each(bare.postgres_cpu));
    drop(conn);
    bed.close(bench.args.keep)?;
    Ok(round)
}

/// Puts all of them into the log, through no door.
fn fill(bed: &Testbed, notifications: &Arc<Notifications>) -> anyhow::Result<()> {
    let appender = Appender::start(bed.database_url(), AppendSettings::default())?;
    let app_id = AppId::parse(APP_ID)?;
    let next = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let filled: anyhow::Result<()> = runtime.block_on(async {
        let mut lanes = JoinSet::new();
        for _ in 0..FILL_LANES {
            let (appender, app_id) = (appender.clone(), app_id.clone());
            let (next, notifications) = (next.clone(), notifications.clone());
            lanes.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(signed) = notifications.signed.get(number) else {
                        return Ok::<_, stream::AppendError>(());
                    };
                    let envelope = Envelope {
                        id: format!("bench-{number}"),
                        topic: Topic::Notifications,
                        provider: Provider::Alipay,
                        app_id: app_id.clone(),
                        key: signed.key.clone(),
                        source: Source::Notification,
                        received_at: SystemClock.now(),
                        reason: None,
                        body: signed.body.clone(),
                    };
                    appender.append(envelope).await?;
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        Ok(())
    });
    appender.close();
    filled
}

/// How far the ledger was, and when: from the moment the consumer said it runs to the last notification.
#[derive(Debug)]
pub(super) struct Progress(Vec<(Duration, u64)>);

impl Progress {
    pub(super) fn elapsed(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |(at, _)| *at)
    }

    /// The rate between the first look that found a tenth applied and the first that found nine tenths: without
    /// the start and the end.
    fn middle_per_second(&self) -> u64 {
        let total = self.0.last().map_or(0, |(_, applied)| *applied);
        let first_at = |tenths| self.0.iter().find(|(_, applied)| applied * 10 >= total * tenths);
        match (first_at(1), first_at(9)) {
            (Some((from, before)), Some((to, after))) if to > from => {
                per_second(after - before, to.saturating_sub(*from))
            }
            (_, _) => per_second(total, self.elapsed()),
        }
    }
}

/// Looks at the ledger's positions until `count` are applied.
pub(super) fn follow(
    conn: &mut ledger::Connection,
    consumer: &mut Role,
    count: u64,
    shutdown: service::Shutdown,
) -> anyhow::Result<Progress> {
    let started = Instant::now();
    let mut seen = Vec::new();
    let mut moved = Instant::now();
    loop {
        let applied = books::applied(conn)?;
        let at = started.elapsed();
        if seen.last().is_none_or(|(_, before)| *before < applied) {
            moved = Instant::now();
            seen.push((at, applied));
        }
        if applied >= count {
            return Ok(Progress(seen));
        }
        consumer.check_runs()?;
        if moved.elapsed() > STANDSTILL {
            bail!(
                "the consumer has applied {applied} of {count}, and nothing more for {} s",
                STANDSTILL.as_secs()
            );
        }
        if shutdown.wait_for(LOOK_EVERY) {
            bail!("stopped by a signal");
        }
    }
}

/// As many appends wait at once, so that batches are full.
const FILL_LANES: usize = 1_024;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const STANDSTILL: Duration = Duration::from_secs(60);

const APPLIED: Measure =
    Measure::new("applied_per_second", "applied", Unit::PerSecond).at_least(20_000);
const MIDDLE: Measure =
    Measure::new("applied_middle_per_second", "applied, without start and end", Unit::PerSecond);
const BARE: Measure =
    Measure::new("bare_inserts_per_second", "the same rows inserted bare", Unit::PerSecond);
const BARE_ROWS: Measure =
    Measure::new("bare_insert_rows_per_second", "the same, counted in rows", Unit::PerSecond);
const RATIO: Measure = Measure::new(
    "applied_percent_of_bare_inserts",
    "applied as a share of bare inserts",
    Unit::Percent,
)
.at_least(50);
const CPU: Measure = Measure::new("consumer_cpu_per_applied_ns", "CPU of consumer, each", Unit::Ns);
const POSTGRES_CPU: Measure =
    Measure::new("postgres_cpu_per_applied_ns", "CPU of Postgres, each", Unit::Ns);
const BARE_CPU: Measure =
    Measure::new("postgres_cpu_per_bare_ns", "CPU of Postgres, each inserted bare", Unit::Ns);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_rate_leaves_out_start_and_end() {
        let second = Duration::from_secs;
        let progress = Progress(vec![
            (second(0), 0),
            (second(10), 100),
            (second(12), 500),
            (second(14), 900),
            (second(60), 1_000),
        ]);
        assert_eq!(progress.middle_per_second(), 200);
        assert_eq!(progress.elapsed(), second(60));
        assert_eq!(Progress(vec![(second(2), 10)]).middle_per_second(), 5);
    }
}
