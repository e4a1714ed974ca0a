use std::fs;
use std::thread;

/// What it was measured on.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Empty where the system does not tell.
    pub(super) cpu: String,
    pub(super) system: String,
    pub(super) memory: String,
    /// How busy it was with other things, as `/proc/loadavg` tells it for the last minute.
    pub(super) load: String,
}

impl Machine {
    pub(super) fn read() -> Machine {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, name: &str| {
            let text = file(path);
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
            value.unwrap_or_default().to_owned()
        };
        Machine {
            cores: thread::available_parallelism().map_or(1, usize::from),
            cpu: field("/proc/cpuinfo", "model name"),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                file("/proc/sys/kernel/osrelease").trim()
            ),
            memory: field("/proc/meminfo", "MemTotal"),
            load: file("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}
