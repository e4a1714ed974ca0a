use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The wish to stop, shared by everything in a process. Once triggered it stays triggered.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    triggered: Mutex<bool>,
    woken: Condvar,
    /// The same for tasks; holds what `triggered` holds.
    tasks: watch::Sender<bool>,
}

impl Shutdown {
    /// Not triggered yet.
    pub fn new() -> Self {
        Shutdown(Arc::new(Shared {
            triggered: Mutex::new(false),
            woken: Condvar::new(),
            tasks: watch::Sender::new(false),
        }))
    }

    /// Wakes every thread and task that waits for it. Triggering twice is the same as once.
    pub fn trigger(&self) {
        *self.0.triggered.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.woken.notify_all();
        self.0.tasks.send_replace(true);
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

/// Triggers `shutdown` on the first SIGINT or SIGTERM. The signals are caught when this returns.
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
            // The handlers stay installed for the process's life, so a second signal while
            // stopping does not cut the stop short.
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                tracing::info!(signal = name, "stopping on {name}");
                shutdown.trigger();
            }
        });
    })?;
    Ok(())
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
}
