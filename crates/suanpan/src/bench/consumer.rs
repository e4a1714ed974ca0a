use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use diesel::connection::SimpleConnection as _;
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};
use service::{Clock as _, Shutdown, SystemClock};
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
    let progress = follow(&mut conn, &mut consumer, expected.notifications, bench.shutdown)?;
    let relayed = relayed(&mut conn, &mut consumer, bench.shutdown)?;
    let consumer_cpu = consumer.cpu();
    let postgres_cpu = cpu::spent(postgres_cpu, bed.postgres_cpu());
    consumer.stop()?;

    let mut round = Round::default();
    round.wrong.extend(books::check_ledger(&mut conn, expected)?);
    round.wrong.extend(books::check_events(&bed, expected)?);
    conn.batch_execute("CHECKPOINT")?;
    let bare = bare::insert_again(&mut conn, expected.notifications, || bed.postgres_cpu())?;

    let count = expected.notifications;
    let each = |time: Option<Duration>| time.map(|time| ns_each(time, count));
    let applied = per_second(count, progress.elapsed());
    let inserted = per_second(count, bare.elapsed);
    round.add(APPLIED, applied);
    round.add(MIDDLE, progress.middle_per_second());
    round.add(RELAYED, ms(relayed));
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
    let appender = Appender::start(bed.log(), AppendSettings::default())?;
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
                        kind: Kind::NotificationReceived,
                        provider: Provider::Alipay,
                        app_id: app_id.clone(),
                        key: signed.key.clone(),
                        source: Source::Notification,
                        sequence: None,
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

/// How far the ledger was, and when: from the last look that found nothing applied to the first that found all.
#[derive(Debug)]
pub(super) struct Progress(Vec<(Duration, u64)>);

impl Progress {
    fn elapsed(&self) -> Duration {
        match (self.0.first(), self.0.last()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            (_, _) => Duration::ZERO,
        }
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
    shutdown: &Shutdown,
) -> anyhow::Result<Progress> {
    let started = Instant::now();
    let mut seen: Vec<(Duration, u64)> = Vec::new();
    look_until(consumer, shutdown, || {
        let applied = books::applied(conn)?;
        let at = started.elapsed();
        match seen.as_mut_slice() {
            [(first, 0)] if applied == 0 => *first = at,
            [.., (_, before)] if *before == applied => {}
            [] | [..] => seen.push((at, applied)),
        }
        Ok(Look { number: applied, is_done: applied >= count })
    })?;
    Ok(Progress(seen))
}

/// How long it takes until what the ledger has to tell is all in the log.
pub(super) fn relayed(
    conn: &mut ledger::Connection,
    consumer: &mut Role,
    shutdown: &Shutdown,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    look_until(consumer, shutdown, || {
        let waiting = books::waiting_events(conn)?;
        Ok(Look { number: waiting, is_done: waiting == 0 })
    })?;
    Ok(started.elapsed())
}

struct Look {
    number: u64,
    is_done: bool,
}

/// Looks until it is done; an error if the number stands still for long, or the consumer has ended.
fn look_until(
    consumer: &mut Role,
    shutdown: &Shutdown,
    mut look: impl FnMut() -> anyhow::Result<Look>,
) -> anyhow::Result<()> {
    let (mut number, mut moved) = (None, Instant::now());
    loop {
        let seen = look()?;
        if seen.is_done {
            return Ok(());
        }
        if number.replace(seen.number) != Some(seen.number) {
            moved = Instant::now();
        }
        consumer.check_runs()?;
        if moved.elapsed() > STANDSTILL {
            bail!(
                "the consumer is at {} and has not moved for {} s",
                seen.number,
                STANDSTILL.as_secs()
            );
        }
        if shutdown.wait_for(LOOK_EVERY) {
            bail!("stopped by a signal");
        }
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As many appends wait at once, so that batches are full.
const FILL_LANES: usize = 1_024;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const STANDSTILL: Duration = Duration::from_secs(60);

const APPLIED: Measure =
    Measure::new("applied_per_second", "applied", Unit::PerSecond).at_least(20_000);
const MIDDLE: Measure =
    Measure::new("applied_middle_per_second", "applied, without start and end", Unit::PerSecond);
pub(super) const RELAYED: Measure =
    Measure::new("last_event_after_last_applied_ms", "last event in the log, after that", Unit::Ms);
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
            (second(3), 0),
            (second(10), 100),
            (second(12), 500),
            (second(14), 900),
            (second(60), 1_000),
        ]);
        assert_eq!(progress.middle_per_second(), 200);
        assert_eq!(progress.elapsed(), second(57));
        let at_once = Progress(vec![(second(1), 0), (second(3), 10)]);
        assert_eq!(at_once.middle_per_second(), 5);
    }
}
