use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::{ConnectionType, Method};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use alipay::{App, SetAside, Trust, Verdict};
use payment::{Envelope, Kind, Provider, Source, Topic};
use service::{Clock, Health, chain};
use stream::{AppendError, Appender};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::Settings;
use crate::body;
use crate::ingress::LOG;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, Refused};

/// What stands behind the door.
pub(crate) struct Door {
    pub(crate) apps: BTreeMap<String, Arc<App>>,
    pub(crate) appender: Appender,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) settings: Settings,
}

/// Every request there is: two paths do not need a router, which costs as much as a tenth of a verification.
pub(crate) async fn receive(
    request: HttpRequest,
    payload: Payload,
    door: Data<Door>,
) -> HttpResponse {
    let app_id = request.path().strip_prefix(PATH).filter(|rest| !rest.contains('/'));
    match (app_id, request.method()) {
        // What comes to no path of ours must not vanish without a trace: notifications to a mistyped `notify_url` do.
        (None | Some(""), _) => door.turn_away(Refused::UNKNOWN_PATH),
        (Some(app_id), &(Method::POST | Method::GET)) => {
            notify(&request, app_id, payload, &door).await
        }
        (Some(_), _) => door.turn_away(Refused::OTHER_METHOD),
    }
}

const PATH: &str = "/notify/alipay/";

/// `POST` with the form as body, or `GET` with it as query string. A `POST`'s query string is not part
/// of the message: only what was signed counts.
async fn notify(
    request: &HttpRequest,
    app_id: &str,
    payload: Payload,
    door: &Door,
) -> HttpResponse {
    let started = Instant::now();
    let (label, outcome) = match door.apps.get(app_id) {
        Some(app) => (app.app_id.as_str(), door.take(app, request, payload).await),
        None => {
            // Received and thrown away, for the sender to see the answer.
            let Settings { body_limit_bytes, read_timeout, .. } = door.settings;
            drop(body::read(request, payload, body_limit_bytes, read_timeout).await);
            (Metrics::UNKNOWN, Outcome::Refused(Refused::UNKNOWN_APP))
        }
    };
    match outcome {
        Outcome::Accepted => debug!(app = label, "accepted a notification"),
        // Told where the reason is known.
        Outcome::Quarantined | Outcome::Unavailable => {}
        Outcome::Refused(refused @ (Refused::UNKNOWN_APP | Refused::INCOMPLETE_BODY)) => {
            warn!(app = label, cause = refused.cause, "refused a notification: {}", refused.cause);
        }
        Outcome::Refused(_) => {}
        Outcome::TooLarge => {
            let limit_bytes = door.settings.body_limit_bytes;
            warn!(
                app = label,
                limit_bytes, "refused a notification: longer than {limit_bytes} bytes"
            );
        }
        Outcome::TimedOut => warn!(app = label, "gave up on a notification: its body did not come"),
    }
    door.metrics.answered(label, outcome, started.elapsed());
    door.answer(outcome)
}

impl Door {
    fn turn_away(&self, refused: Refused) -> HttpResponse {
        let started = Instant::now();
        warn!(cause = refused.cause, "refused a request: {}", refused.cause);
        self.metrics.answered(Metrics::UNKNOWN, Outcome::Refused(refused), started.elapsed());
        self.answer(Outcome::Refused(refused))
    }

    /// While the process stops, the last on its connection: a sender who goes on over it would hold up the stop.
    fn answer(&self, outcome: Outcome) -> HttpResponse {
        let mut answer = outcome.answer();
        if self.health.is_draining() {
            answer.head_mut().set_connection_type(ConnectionType::Close);
        }
        answer
    }

    async fn take(&self, app: &App, request: &HttpRequest, payload: Payload) -> Outcome {
        let limit_bytes = self.settings.body_limit_bytes;
        let body = if request.method() == Method::GET {
            request.query_string().as_bytes().to_vec()
        } else {
            match body::read(request, payload, limit_bytes, self.settings.read_timeout).await {
                Ok(body) => body,
                Err(outcome) => return outcome,
            }
        };
        if body.len() > limit_bytes {
            return Outcome::TooLarge;
        }
        match alipay::receive(app, &body, Trust::Active) {
            Verdict::Genuine { notification, proof: _ } => {
                let envelope = self.envelope(app, notification.key, body);
                self.keep(app, envelope, Outcome::Accepted).await
            }
            Verdict::SetAside { reason, proof: _, key } => {
                let code = reason.code();
                warn!(app = %app.app_id, reason = code, "set a genuine notification aside: {code}");
                let envelope = self.envelope(app, key, body);
                let envelope = Envelope {
                    topic: Topic::Quarantine,
                    kind: Kind::NotificationQuarantined,
                    reason: Some(words(&reason)),
                    ..envelope
                };
                self.keep(app, envelope, Outcome::Quarantined).await
            }
            Verdict::Refused(refusal) => {
                // The place, and nothing of the content: anybody may have sent it.
                let (cause, offset) = (refusal.cause(), refusal.offset());
                warn!(app = %app.app_id, cause, offset, "refused a notification: {cause}");
                Outcome::Refused(Refused::by(&refusal))
            }
        }
    }

    fn envelope(&self, app: &App, key: String, body: Vec<u8>) -> Envelope {
        Envelope {
            id: Uuid::new_v4().to_string(),
            topic: Topic::Notifications,
            kind: Kind::NotificationReceived,
            provider: Provider::Alipay,
            app_id: app.app_id.clone(),
            key: storable(&key),
            source: Source::Notification,
            sequence: None,
            received_at: self.clock.now(),
            reason: None,
            body,
        }
    }

    /// `kept` once the envelope is committed to the log, and nothing but `Unavailable` before.
    async fn keep(&self, app: &App, envelope: Envelope, kept: Outcome) -> Outcome {
        let at = envelope.received_at;
        let started = Instant::now();
        let append = self.appender.append(envelope);
        let appended = tokio::time::timeout(self.settings.append_timeout, append).await;
        self.metrics.appended(started.elapsed());
        let reason = match appended {
            Ok(Ok(_)) => {
                self.health.ok(LOG);
                if kept == Outcome::Accepted {
                    self.metrics.accepted(app.app_id.as_str(), at);
                }
                return kept;
            }
            Ok(Err(error @ (AppendError::Full | AppendError::Unavailable))) => error.to_string(),
            Ok(Err(error @ (AppendError::ZeroByte { .. } | AppendError::TooLarge { .. }))) => {
                // This one message's fault; the log is well.
                error!(app = %app.app_id, %error, "cannot append a notification");
                return Outcome::Unavailable;
            }
            Err(_) => "an append took longer than its limit".to_owned(),
        };
        error!(app = %app.app_id, reason, "cannot append a notification: {reason}");
        self.health.failed(LOG, &reason);
        Outcome::Unavailable
    }
}

/// The reason as it is kept: a word for programs, then the words for people.
fn words(reason: &SetAside) -> String {
    storable(&format!("{}: {}", reason.code(), chain(reason)))
}

/// A genuine message may hold any byte, the log's text none that is zero; and it must be kept.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    use payment::{AppId, SellerId};

    use super::*;

    #[test]
    fn a_reason_is_a_word_and_then_a_sentence() {
        let expected = AppId::parse("2021000000000001").unwrap();
        let reason = SetAside::OtherApp { app_id: "2021\0".to_owned(), expected };
        assert_eq!(
            words(&reason),
            "other_app: the message is for app `2021\u{FFFD}`, not for `2021000000000001`"
        );
        let expected = SellerId::parse("2088000000000001").unwrap();
        let reason = SetAside::OtherSeller { seller_id: "2088".to_owned(), expected };
        assert!(words(&reason).starts_with("other_seller: "));
    }
}
