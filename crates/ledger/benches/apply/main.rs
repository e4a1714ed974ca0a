//! How fast the ledger applies notifications, beside bare multi-row inserts of the rows that come of it.
//!
//! ```text
//! cargo bench -p ledger --bench apply -- DATABASE_URL [NOTIFICATIONS] [BATCH]
//! ```
//!
//! The database is a scratch one: it must be empty, gets the schema, and is filled. Nothing is asserted about time.

mod bare;
mod messages;
#[path = "../../src/statement.rs"]
mod statement;

use std::error::Error;
use std::time::{Duration, Instant};

use diesel::sql_types::Integer;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use ledger::position::Advance;
use ledger::{Batch, Connection, Message, outbox};

use crate::messages::{LOG_TOPIC, Messages, PARTITIONS};

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds a flag of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(url) = arguments.next() else {
        eprintln!(
            "usage: cargo bench -p ledger --bench apply -- DATABASE_URL [NOTIFICATIONS] [BATCH]"
        );
        return Ok(());
    };
    let notifications: usize = arguments.next().map_or(Ok(100_000), |number| number.parse())?;
    let batch: usize = arguments.next().map_or(Ok(500), |number| number.parse())?;

    let mut conn = ledger::connect(&url)?;
    let applied = ledger::migrate(&mut conn)?;
    if applied.is_empty() {
        return Err("the database is not empty: give a scratch one".into());
    }
    println!("{notifications} notifications in batches of {batch}");
    sql_query("CHECKPOINT").execute(&mut conn)?;
    let ours = apply(&mut conn, notifications, batch)?;
    ours.print("ledger::apply");
    let bare = bare::insert(&mut ledger::connect(&url)?, notifications.div_ceil(batch))?;
    bare.print("bare inserts");
    let ratio = percent(bare.wall, ours.wall);
    println!("ledger::apply runs at {ratio} % of bare inserts' rate");
    drain(&mut conn, batch)?.print("the outbox, per event");
    Ok(())
}

fn apply(
    conn: &mut Connection,
    notifications: usize,
    batch: usize,
) -> Result<Cost, Box<dyn Error>> {
    let partitions: Vec<(&str, i32)> = (0..PARTITIONS).map(|number| (LOG_TOPIC, number)).collect();
    let claims = ledger::position::claim(conn, &partitions)?;
    let mut next: Vec<Advance> = partitions
        .iter()
        .zip(&claims)
        .map(|((log_topic, partition), claimed)| Advance {
            log_topic: (*log_topic).into(),
            partition: *partition,
            epoch: claimed.epoch,
            from: claimed.next_offset,
            to: claimed.next_offset,
        })
        .collect();
    let mut messages = Messages::new();
    let mut meter = Meter::start(conn)?;
    let mut done = 0;
    while done < notifications {
        let taken: Vec<Message> = messages.by_ref().take(batch.min(notifications - done)).collect();
        done += taken.len();
        for step in &mut next {
            let last = taken.iter().rfind(|message| message.partition == step.partition);
            step.to = last.map_or(step.from, |message| message.offset + 1);
        }
        let steps = next.iter().filter(|step| step.to > step.from).cloned().collect();
        let taken = Batch { messages: taken, steps };
        let now = messages.now();
        meter.measure(|| ledger::apply(conn, &taken, now))?;
        for step in &mut next {
            step.from = step.to;
        }
    }
    Ok(meter.stop(notifications))
}

/// What a relay asks of the database.
fn drain(conn: &mut Connection, batch: usize) -> Result<Cost, Box<dyn Error>> {
    let (limit, mut events) = (i64::try_from(batch)?, 0);
    let mut meter = Meter::start(conn)?;
    loop {
        let sent = meter.measure(|| -> Result<usize, Box<dyn Error>> {
            let next = outbox::next(conn, limit)?;
            let ids: Vec<i64> = next.iter().map(|event| event.outbox_id).collect();
            outbox::sent(conn, &ids)?;
            Ok(ids.len())
        })?;
        if sent == 0 {
            return Ok(meter.stop(events));
        }
        events += sent;
    }
}

/// What a number of notifications, or events, cost in all.
struct Cost {
    of: usize,
    wall: Duration,
    /// Of this thread: making values, encoding, waiting excluded.
    client_cpu: Duration,
    /// Of the one server process that serves the connection.
    server_cpu: Duration,
}

impl Cost {
    fn print(&self, what: &str) {
        let each = |time: Duration| micros(time, self.of);
        println!(
            "{what}: {} /s, {} us each (client {} us of CPU, Postgres {} us of CPU)",
            per_second(self.wall, self.of),
            each(self.wall),
            each(self.client_cpu),
            each(self.server_cpu),
        );
    }
}

/// Counts only what happens inside `measure`, on either side.
struct Meter {
    wall: Duration,
    client_cpu: Duration,
    server: u32,
    server_before: Duration,
}

impl Meter {
    fn start(conn: &mut Connection) -> Result<Meter, Box<dyn Error>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Integer)]
            pid: i32,
        }
        let row: Row = sql_query("SELECT pg_backend_pid() AS pid").get_result(conn)?;
        let server = u32::try_from(row.pid)?;
        let zero = Duration::ZERO;
        Ok(Meter { wall: zero, client_cpu: zero, server, server_before: cpu_of(server) })
    }

    fn measure<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let (started, cpu) = (Instant::now(), thread_cpu());
        let done = work();
        self.client_cpu += thread_cpu() - cpu;
        self.wall += started.elapsed();
        done
    }

    fn stop(self, of: usize) -> Cost {
        let server_cpu = cpu_of(self.server).saturating_sub(self.server_before);
        let Meter { wall, client_cpu, .. } = self;
        Cost { of, wall, client_cpu, server_cpu }
    }
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// User and system time of a process on this machine, from Linux's own count in hundredths of a second; zero where
/// it cannot be read.
fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field may hold blanks; it ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// With one decimal.
fn micros(time: Duration, of: usize) -> String {
    let tenths = time.as_micros() * 10 / u128::try_from(of.max(1)).unwrap_or(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn per_second(time: Duration, of: usize) -> u128 {
    u128::try_from(of).unwrap_or(0) * 1_000_000 / time.as_micros().max(1)
}

fn percent(part: Duration, whole: Duration) -> u128 {
    part.as_micros() * 100 / whole.as_micros().max(1)
}
