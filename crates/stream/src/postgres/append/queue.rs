use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use payment::Envelope;
use tokio::sync::oneshot;

use crate::{AppendError, AppendSettings, Partition};

/// What waits to be appended: bounded, so that a slow database is felt at once and not by memory.
#[derive(Debug)]
pub(super) struct Queue {
    settings: AppendSettings,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

/// One envelope and whoever waits for its offset.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) partition: Partition,
    pub(super) envelope: Envelope,
    pub(super) answer: oneshot::Sender<Result<i64, AppendError>>,
}

/// What there is to do.
pub(super) enum Taken {
    Batch(Vec<Waiting>),
    /// Nothing came for a while.
    Idle,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    pub(super) fn new(settings: AppendSettings) -> Self {
        Queue { settings, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn put(&self, waiting: Waiting) -> Result<(), AppendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(AppendError::Unavailable);
        }
        let bytes = state.bytes.saturating_add(size(&waiting.envelope));
        if state.waiting.len() >= self.settings.queue || bytes > self.settings.queue_bytes {
            return Err(AppendError::Full);
        }
        state.bytes = bytes;
        state.waiting.push_back(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes what waits, up to a batch; whatever comes meanwhile is the next batch.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return if state.closed { Taken::Closed } else { Taken::Idle };
        }
        let mut batch = Vec::new();
        let mut batch_bytes = 0_usize;
        while batch.len() < self.settings.batch && batch_bytes < self.settings.batch_bytes {
            let Some(waiting) = state.waiting.pop_front() else { break };
            let bytes = size(&waiting.envelope);
            state.bytes = state.bytes.saturating_sub(bytes);
            // Whoever gave up has answered `fail` already and will be sent the message again.
            if !waiting.answer.is_closed() {
                batch_bytes = batch_bytes.saturating_add(bytes);
                batch.push(waiting);
            }
        }
        Taken::Batch(batch)
    }

    /// Takes nothing more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(envelope: &Envelope) -> usize {
    let reason = envelope.reason.as_ref().map_or(0, String::len);
    [envelope.body.len(), envelope.key.len(), envelope.id.len(), reason]
        .into_iter()
        .fold(128, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use payment::Topic;

    use super::super::tests::envelope;
    use super::*;

    type Answer = oneshot::Receiver<Result<i64, AppendError>>;

    fn waiting(key: &str) -> (Waiting, Answer) {
        let (answer, receiver) = oneshot::channel();
        let partition = Partition { topic: Topic::Notifications, number: 0 };
        (Waiting { partition, envelope: envelope(key), answer }, receiver)
    }

    fn keys(queue: &Queue) -> Vec<String> {
        match queue.take(Duration::ZERO) {
            Taken::Batch(batch) => batch.into_iter().map(|waiting| waiting.envelope.key).collect(),
            Taken::Idle => vec!["idle".to_owned()],
            Taken::Closed => vec!["closed".to_owned()],
        }
    }

    #[test]
    fn a_batch_is_what_waits_in_order_without_those_who_gave_up() {
        let queue = Queue::new(AppendSettings { batch: 2, ..AppendSettings::default() });
        let mut answers = Vec::new();
        for key in ["a", "b", "c", "d"] {
            let (waiting, answer) = waiting(key);
            queue.put(waiting).unwrap();
            answers.push(answer);
        }
        answers.remove(1);
        assert_eq!(keys(&queue), ["a", "c"]);
        assert_eq!(keys(&queue), ["d"]);
        assert_eq!(keys(&queue), ["idle"]);
    }

    #[test]
    fn a_full_queue_says_so_at_once_until_something_is_taken() {
        let by_count = AppendSettings { queue: 1, ..AppendSettings::default() };
        let by_bytes =
            AppendSettings { queue_bytes: size(&envelope("a")), ..AppendSettings::default() };
        for settings in [by_count, by_bytes] {
            let queue = Queue::new(settings);
            let (first, _answer) = waiting("a");
            let (second, _answer) = waiting("b");
            queue.put(first).unwrap();
            assert_eq!(queue.put(second), Err(AppendError::Full));
            assert_eq!(keys(&queue), ["a"]);
            let (third, _answer) = waiting("c");
            queue.put(third).unwrap();
            assert_eq!(keys(&queue), ["c"]);
        }
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_takes_nothing() {
        let queue = Queue::new(AppendSettings::default());
        let (first, _answer) = waiting("a");
        queue.put(first).unwrap();
        queue.close();
        let (second, _answer) = waiting("b");
        assert_eq!(queue.put(second), Err(AppendError::Unavailable));
        assert_eq!(keys(&queue), ["a"]);
        assert_eq!(keys(&queue), ["closed"]);
    }
}
