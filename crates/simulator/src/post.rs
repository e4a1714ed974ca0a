use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use payment::NotifyId;

use crate::delivery::{Delivery, DeliveryKind, Expected, Method};

/// Sends the deliveries to `{base_url}/notify/alipay/{app_id}` and compares each answer with what
/// is expected.
///
/// `base_url` is like `http://127.0.0.1:8080`. At most `concurrency` requests are under way at
/// once, started in the list's order. A 503 and a lost connection are tried again, as Alipay does,
/// only sooner; after [`MAX_TRIES`] they are counted as wrong. `progress` is told (done, total)
/// after every answer, on this thread.
pub fn post_all(
    deliveries: &[Delivery],
    base_url: &str,
    concurrency: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Tally, PostError> {
    let base_url = base_url.trim_end_matches('/');
    if !base_url.starts_with("http://") {
        return Err(PostError::NotAnAddress { given: base_url.to_owned() });
    }
    let next = AtomicUsize::new(0);
    let agent = agent(concurrency);
    let (answers, answered) = mpsc::channel();
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..concurrency.max(1) {
            let (answers, agent, next) = (answers.clone(), &agent, &next);
            scope.spawn(move || {
                while let Some((index, delivery)) = take(deliveries, next) {
                    let got = post_stubbornly(agent, base_url, delivery);
                    if answers.send((index, delivery, got)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(answers);
        for (done, (index, delivery, got)) in (1..).zip(&answered) {
            tally.count(index, delivery, got);
            progress(done, deliveries.len());
        }
    });
    tally.wrong.sort_by_key(|wrong| wrong.index);
    Ok(tally)
}

/// How the merchant answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered `success`, and rightly.
    pub success: u64,
    /// Refused, and rightly.
    pub fail: u64,
    /// Answered otherwise than expected, in the list's order.
    pub wrong: Vec<Wrong>,
}

/// A delivery that was not answered as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its place in the list, from 0.
    pub index: usize,
    /// What was special about it.
    pub what: DeliveryKind,
    /// Which notification.
    pub notify_id: NotifyId,
    /// The right answer.
    pub expected: Expected,
    /// The answer.
    pub got: Got,
}

/// An answer, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// HTTP 200 and exactly `success`.
    Success,
    /// HTTP 4xx.
    Fail { status: u16 },
    /// Anything else that is HTTP.
    Other { status: u16 },
    /// No answer, even after all tries.
    Nothing { error: String },
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("`{given}` is not the address of a merchant; it looks like `http://127.0.0.1:8080`")]
    NotAnAddress { given: String },
}

/// How often a delivery is sent before it is given up.
pub const MAX_TRIES: u32 = 8;

const TIMEOUT: Duration = Duration::from_secs(16);
const PAUSE: Duration = Duration::from_millis(50);
const ANSWER_LIMIT_BYTES: u64 = 4096;

impl Tally {
    fn count(&mut self, index: usize, delivery: &Delivery, got: Got) {
        match (delivery.expected, got) {
            (Expected::Success, Got::Success) => self.success += 1,
            (Expected::Fail, Got::Fail { .. }) => self.fail += 1,
            (expected, got) => self.wrong.push(Wrong {
                index,
                what: delivery.what,
                notify_id: delivery.notify_id.clone(),
                expected,
                got,
            }),
        }
    }
}

fn agent(concurrency: usize) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .max_idle_connections(concurrency)
        .max_idle_connections_per_host(concurrency)
        .user_agent("Mozilla/4.0")
        .build()
        .new_agent()
}

fn take<'a>(deliveries: &'a [Delivery], next: &AtomicUsize) -> Option<(usize, &'a Delivery)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    deliveries.get(index).map(|delivery| (index, delivery))
}

fn post_stubbornly(agent: &ureq::Agent, base_url: &str, delivery: &Delivery) -> Got {
    let mut got = post(agent, base_url, delivery);
    for tried in 1..MAX_TRIES {
        match got {
            Got::Other { status: 503 } | Got::Nothing { .. } => {
                std::thread::sleep(PAUSE * 2_u32.pow(tried.min(5)));
                got = post(agent, base_url, delivery);
            }
            Got::Success | Got::Fail { .. } | Got::Other { .. } => break,
        }
    }
    got
}

fn post(agent: &ureq::Agent, base_url: &str, delivery: &Delivery) -> Got {
    let url = format!("{base_url}/notify/alipay/{}", delivery.app_id_in_path);
    let sent = match delivery.method {
        Method::Post => agent
            .post(url)
            .content_type("application/x-www-form-urlencoded; charset=utf-8")
            .send(delivery.body.as_slice()),
        Method::Get => {
            agent.get(format!("{url}?{}", String::from_utf8_lossy(&delivery.body))).call()
        }
    };
    let answer = sent.and_then(|mut response| {
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT_BYTES).read_to_vec()?;
        Ok((status, body))
    });
    match answer {
        Ok((200, body)) if body == b"success" => Got::Success,
        Ok((status @ 400..=499, _)) => Got::Fail { status },
        Ok((status, _)) => Got::Other { status },
        Err(error) => Got::Nothing { error: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
