//! Waiting for what must happen, without guessing how long it takes.

use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what the slowest machine needs: only a test that fails waits so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks again and again until it is so, and fails by name if it never is.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        // The machine is left to whoever is waited for.
        thread::park_timeout(LOOK_EVERY);
    }
}
