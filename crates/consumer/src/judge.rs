use std::collections::HashMap;
use std::sync::Arc;

use alipay::{App, Kind, Notification, Trust, Verdict};
use ledger::{Content, Message};
use payment::{AppId, Source, Topic};
use service::chain;
use sha2::{Digest, Sha256};
use stream::{Defect, Record};

/// What a record of the log means, judged by its signed bytes and not by its envelope.
pub(crate) fn judge(
    record: Record,
    log_topic: Arc<str>,
    apps: &HashMap<AppId, Arc<App>>,
) -> Message {
    let Record { partition, offset, envelope, defect } = record;
    let content = match (defect, apps.get(&envelope.app_id)) {
        (Some(Defect::Field(name)), _) => Content::Dead {
            reason: "unreadable_record",
            detail: format!("the record's {name} is none that this version writes"),
        },
        (Some(Defect::Missing { first }), _) => Content::Dead {
            reason: "missing_records",
            detail: format!(
                "the log dropped the records {first} to {offset} of {log_topic}/{} before they were applied; \
                 the bill will tell what they were, and `[log] keep_hours` how long records are kept",
                partition.number
            ),
        },
        (None, None) => Content::Dead {
            reason: "unknown_app",
            detail: format!("app `{}` is not in the settings", envelope.app_id),
        },
        (None, Some(app)) => match envelope.source {
            Source::Notification => {
                let verdict = alipay::receive(app, &envelope.body, Trust::ActiveAndRetired);
                content(app, verdict, partition.topic, envelope.reason.as_deref(), &envelope.body)
            }
            Source::Query | Source::Ledger => Content::Dead {
                reason: "unknown_source",
                detail: "only notifications are read from the log by this version".to_owned(),
            },
        },
    };
    Message {
        app_id: envelope.app_id,
        log_topic,
        partition: partition.number,
        offset,
        source: envelope.source,
        received_at: envelope.received_at,
        content,
        body: envelope.body,
    }
}

/// What the ledger is given of a body of this app, after this verdict, where it stands in `topic`; `reason` is what
/// the record says for standing in quarantine.
pub fn content(
    app: &App,
    verdict: Verdict,
    topic: Topic,
    reason: Option<&str>,
    body: &[u8],
) -> Content {
    match (verdict, topic) {
        // It would pass today; releasing it is a person's decision.
        (Verdict::Genuine { .. }, Topic::Quarantine) => Content::Quarantined {
            reason: reason.unwrap_or("set aside without a reason").to_owned(),
        },
        (Verdict::Genuine { notification, .. }, _) => genuine(app, notification, body),
        (Verdict::SetAside { reason, .. }, _) => {
            Content::Quarantined { reason: format!("{}: {}", reason.code(), chain(&reason)) }
        }
        (Verdict::Refused(refusal), _) => {
            Content::Dead { reason: refusal.cause(), detail: chain(&refusal) }
        }
    }
}

fn genuine(app: &App, notification: Notification, body: &[u8]) -> Content {
    let facts = notification.facts(app.refund_fee);
    // Every kind seen so far has a `notify_id`; one without is known by its bytes.
    let notify_id = match &notification.notify_id {
        Some(notify_id) => notify_id.to_string(),
        None => format!("sha256:{:x}", Sha256::digest(body)),
    };
    let (kind, trade_no, out_trade_no) = match notification.kind {
        Kind::Trade(trade) => (
            "trade_status_sync".to_owned(),
            Some(trade.trade_no.to_string()),
            Some(trade.out_trade_no.to_string()),
        ),
        Kind::Other { name } => (name, None, None),
    };
    Content::Genuine { notify_id, kind, trade_no, out_trade_no, facts }
}
