use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Whether this process can do its work, told part by part; `/readyz` shows it.
///
/// A process is ready when every registered part is ok and it is not draining.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    parts: BTreeMap<String, Part>,
    draining: bool,
}

/// How one part is. A reason is for people who run the system: no secrets, no buyer data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Part {
    /// Registered, not heard of yet.
    Starting,
    /// Does its work.
    Ok,
    /// Does not, for this reason.
    Failed {
        /// What is wrong and what to look at.
        reason: String,
    },
}

/// All parts at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every part is ok and the process is not draining.
    pub ready: bool,
    /// The process is stopping and wants no new work.
    pub draining: bool,
    /// By name.
    pub parts: BTreeMap<String, Part>,
}

impl Health {
    /// No parts, therefore ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a part: the process is not ready until it is [`ok`](Self::ok).
    pub fn register(&self, part: &str) {
        self.set(part, Part::Starting);
    }

    /// The part does its work.
    pub fn ok(&self, part: &str) {
        self.set(part, Part::Ok);
    }

    /// The part does not do its work.
    pub fn failed(&self, part: &str, reason: &str) {
        self.set(part, Part::Failed { reason: reason.to_owned() });
    }

    /// The process stops: not ready from now on.
    pub fn draining(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).draining = true;
    }

    /// Whether the process stops.
    pub fn is_draining(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).draining
    }

    /// How things are.
    pub fn report(&self) -> Report {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !state.draining && state.parts.values().all(|part| *part == Part::Ok);
        Report { ready, draining: state.draining, parts: state.parts.clone() }
    }

    fn set(&self, name: &str, part: Part) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Called for every message: no allocation while nothing changes.
        match state.parts.get_mut(name) {
            Some(known) if *known == part => {}
            Some(known) => *known = part,
            None => {
                state.parts.insert(name.to_owned(), part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_its_parts_are_and_it_does_not_drain() {
        let health = Health::new();
        assert!(health.report().ready);
        health.register("log");
        health.register("ledger");
        health.ok("log");
        assert!(!health.report().ready, "the ledger is still starting");
        health.ok("ledger");
        assert!(health.report().ready);
        health.failed("log", "connection refused");
        assert!(!health.report().ready);
        health.ok("log");
        assert!(!health.is_draining());
        health.draining();
        assert!(health.is_draining() && !health.report().ready);
    }
}
