use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{io, process, thread};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The wish to stop, shared by everything in a process, and what has to end for it. Once triggered it stays
/// triggered.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    triggered: Mutex<bool>,
    woken: Condvar,
    /// The same for tasks; holds what `triggered` holds.
    tasks: watch::Sender<bool>,
    /// In the order in which they were started.
    held: Mutex<Vec<&'static str>>,
}

/// Something that has to end before the process may. Ended when dropped.
#[derive(Debug)]
pub struct Hold {
    name: &'static str,
    shutdown: Shutdown,
}

impl Shutdown {
    /// Not triggered yet.
    pub fn new() -> Self {
        Shutdown(Arc::new(Shared {
            triggered: Mutex::new(false),
            woken: Condvar::new(),
            tasks: watch::Sender::new(false),
            held: Mutex::new(Vec::new()),
        }))
    }

    /// Wakes every thread and task that waits for it. Triggering twice is the same as once.
    pub fn trigger(&self) {
        *self.0.triggered.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.woken.notify_all();
        self.0.tasks.send_replace(true);
    }

    /// Says that the process must not end before the hold is dropped. `name` is what people are told if that
    /// takes too long.
    pub fn hold(&self, name: &'static str) -> Hold {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Hold { name, shutdown: self.clone() }
    }

    /// What has not ended yet, the first started first.
    pub fn held(&self) -> Vec<&'static str> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was triggered.
    pub fn is_triggered(&self) -> bool {
        *self.0.triggered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks the thread until it is triggered or `limit` has passed; whether it was triggered.
    /// This is how a loop pauses: it wakes at once when the process stops.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let triggered = self.0.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.woken.wait_timeout_while(triggered, limit, |triggered| !*triggered);
        let (triggered, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *triggered
    }

    /// Blocks the thread until it is triggered.
    pub fn wait(&self) {
        let mut triggered = self.0.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        while !*triggered {
            triggered = self.0.woken.wait(triggered).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Resolves when it is triggered, at once if it was.
    pub async fn triggered(&self) {
        let mut tasks = self.0.tasks.subscribe();
        // The sender lives as long as `self`, so the only way out is the value.
        if tasks.wait_for(|triggered| *triggered).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.shutdown.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = held.iter().rposition(|name| *name == self.name) {
            held.remove(place);
        }
    }
}

/// Triggers `shutdown` on the first SIGINT or SIGTERM; the second ends the process at once, with 128 and the
/// signal's number as its exit code. The signals are caught when this returns.
///
/// # Errors
/// When the system refuses a thread or a signal handler.
pub fn on_signals(shutdown: &Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let shutdown = shutdown.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => ("SIGINT", 130),
                    _ = terminate.recv() => ("SIGTERM", 143),
                }
            };
            let (name, _) = next().await;
            tracing::info!(signal = name, "stopping on {name}");
            shutdown.trigger();
            let (name, code) = next().await;
            let held = names(&shutdown);
            tracing::warn!(
                signal = name,
                held,
                "ending at once on a second signal, without: {held}"
            );
            process::exit(code);
        });
    })?;
    Ok(())
}

/// Ends the process with exit code [`OVERDUE`] where it has not ended by itself `limit` after `shutdown` was
/// triggered, and says what is [held](Shutdown::hold).
///
/// # Errors
/// When the system refuses a thread.
pub fn end_within(limit: Duration, shutdown: &Shutdown) -> io::Result<()> {
    let shutdown = shutdown.clone();
    thread::Builder::new().name("stop-limit".to_owned()).spawn(move || {
        shutdown.wait();
        thread::sleep(limit);
        let (held, limit_ms) = (names(&shutdown), limit.as_millis());
        tracing::error!(
            held,
            "the stop took longer than {limit_ms} ms ([stop] limit_ms) and is cut short, without: {held}"
        );
        process::exit(OVERDUE);
    })?;
    Ok(())
}

/// The exit code of a process that did not end within its limit.
pub const OVERDUE: i32 = 3;

fn names(shutdown: &Shutdown) -> String {
    shutdown.held().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_and_a_waiting_task_wake_on_the_trigger() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait_for(Duration::ZERO));
        let thread = thread::spawn({
            let shutdown = shutdown.clone();
            move || shutdown.wait_for(Duration::from_secs(3600))
        });
        let task = thread::spawn({
            let shutdown = shutdown.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(shutdown.triggered());
            }
        });
        shutdown.trigger();
        shutdown.trigger();
        assert!(thread.join().unwrap());
        task.join().unwrap();
        shutdown.wait();
        assert!(shutdown.is_triggered());
    }

    #[test]
    fn what_has_to_end_is_held_until_it_has() {
        let shutdown = Shutdown::new();
        let database = shutdown.hold("database");
        let consumer = shutdown.clone().hold("consumer");
        assert_eq!(shutdown.held(), ["database", "consumer"]);
        drop(database);
        assert_eq!(names(&shutdown), "consumer");
        drop(consumer);
        assert!(shutdown.held().is_empty());
    }
}
