//! A record as a CloudEvent 1.0 in Kafka's binary mode: attributes as headers `ce_*`, the value untouched.

use chrono::{DateTime, SecondsFormat, Utc};
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use crate::read::unknown_app;
use crate::{Defect, StreamError};

/// The headers of an envelope.
pub(super) fn headers(envelope: &Envelope) -> OwnedHeaders {
    let source = format!("/{}/{}", envelope.provider.as_str(), envelope.app_id);
    let time = envelope.received_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let sequence = envelope.sequence.map(|sequence| sequence.to_string());
    let subject = envelope.key.split_once('/').map(|(_, out_trade_no)| out_trade_no);
    let attributes = [
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some(envelope.id.as_str())),
        ("ce_source", Some(source.as_str())),
        ("ce_type", Some(envelope.kind.as_str())),
        ("ce_time", Some(time.as_str())),
        ("ce_subject", subject.filter(|subject| !subject.is_empty())),
        ("ce_partitionkey", Some(envelope.key.as_str())),
        ("ce_origin", Some(envelope.source.as_str())),
        ("ce_sequence", sequence.as_deref()),
        ("ce_reason", envelope.reason.as_deref()),
        ("content-type", Some(content_type(envelope))),
    ];
    attributes.into_iter().fold(OwnedHeaders::new_with_capacity(11), |headers, (key, value)| {
        match value {
            Some(value) => headers.insert(Header { key, value: Some(value) }),
            None => headers,
        }
    })
}

/// What the value is.
fn content_type(envelope: &Envelope) -> &'static str {
    match (envelope.topic, envelope.source) {
        (Topic::LedgerEvents, _) => "application/json",
        (Topic::DeadLetters, _) => "application/octet-stream",
        (Topic::Notifications | Topic::Quarantine, Source::Query) => "application/json",
        (Topic::Notifications | Topic::Quarantine, Source::Notification | Source::Ledger) => {
            "application/x-www-form-urlencoded"
        }
    }
}

/// Where messages of a kind stand.
fn topic_of(kind: Kind) -> Topic {
    match kind {
        Kind::NotificationReceived => Topic::Notifications,
        Kind::NotificationQuarantined => Topic::Quarantine,
        Kind::MessageDead => Topic::DeadLetters,
        Kind::TradePaid
        | Kind::TradeRefunded
        | Kind::TradeClosed
        | Kind::TradeCorrected
        | Kind::TradeConflict
        | Kind::DifferenceOpened
        | Kind::DifferenceResolved => Topic::LedgerEvents,
    }
}

/// The envelope of a record that anybody may have written, and what is wrong with it.
pub(super) fn read(
    message: &BorrowedMessage<'_>,
    topic: Topic,
) -> Result<(Envelope, Option<Defect>), StreamError> {
    let text = |name| text(message, name);
    let (provider, app_id) = text("ce_source").map_or((None, None), parse_source);
    let kind = text("ce_type").and_then(Kind::named).filter(|kind| topic_of(*kind) == topic);
    let source = text("ce_origin").map_or(Some(Source::Notification), Source::named);
    let key = message.key().map(|key| std::str::from_utf8(key).ok());
    let id = text("ce_id").filter(|id| !id.is_empty());
    let defects = [
        (text("ce_specversion") != Some("1.0"), "ce_specversion"),
        (id.is_none(), "ce_id"),
        (provider.is_none() || app_id.is_none(), "ce_source"),
        (kind.is_none(), "ce_type"),
        (source.is_none(), "ce_origin"),
        (key == Some(None), "key"),
        (message.payload().is_none(), "value"),
    ];
    let defect = defects.into_iter().find_map(|(is_wrong, name)| is_wrong.then_some(name));
    let app_id = app_id.map_or_else(unknown_app, Ok)?;
    let envelope = Envelope {
        id: id.unwrap_or_default().to_owned(),
        topic,
        kind: kind.unwrap_or(Kind::NotificationReceived),
        provider: provider.unwrap_or(Provider::Alipay),
        key: key.flatten().map_or_else(|| format!("{app_id}/"), str::to_owned),
        app_id,
        source: source.unwrap_or(Source::Notification),
        received_at: text("ce_time")
            .and_then(parse_time)
            .or_else(|| taken_at(message))
            .unwrap_or_default(),
        sequence: text("ce_sequence").and_then(|sequence| sequence.parse().ok()),
        reason: text("ce_reason").map(str::to_owned),
        body: message.payload().unwrap_or_default().to_vec(),
    };
    Ok((envelope, defect.map(Defect::Field)))
}

/// When the record was received, as far as it says.
pub(super) fn received_at(message: &BorrowedMessage<'_>) -> Option<DateTime<Utc>> {
    text(message, "ce_time").and_then(parse_time).or_else(|| taken_at(message))
}

/// The first header of that name, if it is text.
fn text<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}

/// `/alipay/2021000000000001`
fn parse_source(text: &str) -> (Option<Provider>, Option<AppId>) {
    let parts = text.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    let Some((provider, app_id)) = parts else { return (None, None) };
    (Provider::named(provider), AppId::parse(app_id).ok())
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

/// When the broker, or the writer's library, says the record was made.
fn taken_at(message: &BorrowedMessage<'_>) -> Option<DateTime<Utc>> {
    let at = DateTime::from_timestamp_millis(message.timestamp().to_millis()?)?;
    // Anybody may write any number there, also one that the ledger's calendar does not reach.
    (at >= DateTime::UNIX_EPOCH).then_some(at)
}
