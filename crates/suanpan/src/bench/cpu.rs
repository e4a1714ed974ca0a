//! CPU time, in user and in system mode, as the system counts it. Each is `None` where there is no `/proc`.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a process has used, all its threads and also those that have ended.
pub(super) fn of_process(pid: u32) -> Option<Duration> {
    Stat::read(&pid.to_string()).map(|stat| ticks(stat.own))
}

/// What a process, its live children and the children it has waited for have used: a Postgres server with
/// all its backends, also those of connections that were closed.
pub(super) fn of_family(pid: u32) -> Option<Duration> {
    let parent = Stat::read(&pid.to_string())?;
    let children: u64 = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| Stat::read(entry.ok()?.file_name().to_str()?))
        .filter(|stat| stat.parent == pid)
        .map(|stat| stat.own)
        .sum();
    Some(ticks(parent.own + parent.waited_for + children))
}

/// What this process has used.
pub(super) fn of_this_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// What this thread has used.
pub(super) fn of_this_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// From the one reading to the other.
pub(super) fn spent(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// `/proc/PID/stat`, in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u64,
    waited_for: u64,
}

impl Stat {
    fn read(pid: &str) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name before it is in brackets and may hold anything, brackets too.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(field(1)?).ok()?,
            own: field(11)? + field(12)?,
            waited_for: field(13)? + field(14)?,
        })
    }
}

fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_nanos(count * (1_000_000_000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_process_is_called() {
        let line = "32669 (a) R 7 (b)) R 32663 32663 30081 0 -1 4194304 100 0 0 0 12 30 5 6 20 0 1 0 1179934";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 32663, own: 42, waited_for: 11 }));
        assert_eq!(Stat::parse("1 (a) R 7"), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let before = of_this_thread();
        let mut number = 1_u64;
        while of_this_thread() == before {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(of_this_process() > Duration::ZERO);
    }
}
