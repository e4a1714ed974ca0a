//! Real messages of every kind, held against the document.

use std::collections::{BTreeMap, BTreeSet};

use payment::Topic;
use serde_json::{Value, json};

use super::document::{Document, Part, assert_valid};
use super::topic::{self, Found};
use crate::harness::form::Form;
use crate::harness::log::{Log, envelope};
use crate::harness::{sql, wait};
use crate::reconcile::differences::every_kind;
use crate::reconcile::{DAY, Shop, Trade};

/// Makes a shop that has everything happen to it that there is to tell.
fn eventful_shop() -> Shop {
    let shop = Shop::open();
    let apply = || shop.home.wait_until_applied();
    // Paid, closed, refunded, contradicted.
    let (bill, _) = every_kind(&shop);
    // A second refund that comes before the first, on a trade whose payment is told last.
    let trade = Trade::new("T20", 10_000).received(9_500);
    shop.tell(&trade.refunded("R2", 5_000, &format!("{DAY} 11:00:00")));
    apply();
    shop.tell(&trade.refunded("R1", 3_000, &format!("{DAY} 10:00:00")));
    apply();
    shop.tell(&trade.paid());
    // One that is not for us, one about no order, and one that Alipay never sent.
    shop.tell(&Form::paid("T30").with("seller_id", "2088000000000009"));
    shop.tell(
        &Form::paid("T31")
            .with("notify_type", "another_kind")
            .without("trade_no")
            .without("out_trade_no"),
    );
    let log = Log::open(shop.home.database.as_ref().unwrap());
    log.append(envelope("O1", b"a=1&b=2".to_vec())).unwrap();
    apply();
    // Differences open; one resolves and comes back.
    let mut without = bill.clone();
    without.parts[0].retain(|row| row.trade_no != "T02");
    for bill in [&bill, &without, &bill] {
        let ended = shop.reconcile(bill);
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
    let mut conn = shop.home.connect();
    wait::until("all events have left", || sql::count(&mut conn, "outbox") == 0);
    shop
}

#[test]
fn every_message_is_as_the_document_says_and_all_that_it_describes_was_seen() {
    let document = Document::read();
    let shop = eventful_shop();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for topic in Topic::ALL {
        for found in topic::read(&shop.home.log(), topic) {
            check(&document, topic, &found, seen.entry(found.kind.clone()).or_default());
        }
    }
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), document.kinds());
    for (kind, seen) in &seen {
        for (part, fields) in [(Part::Headers, &seen.headers), (Part::Payload, &seen.payload)] {
            assert_eq!(*fields, document.fields(kind, part), "{kind}: {part:?}");
        }
        assert_eq!(seen.topics.len(), 1, "{kind}");
    }
    let values = |kind: &str, field: &str| &seen[kind].values[field];
    let opened = "suanpan.difference.opened";
    assert_eq!(*values(opened, "state"), texts(&["open", "reopened"]));
    assert_eq!(*values("suanpan.trade.corrected", "business"), texts(&["payment", "refund"]));
    let flags = BTreeSet::from(["true".to_owned(), "false".to_owned()]);
    assert_eq!(*values("suanpan.trade.paid", "receipt_known"), flags);
}

#[test]
fn nothing_of_a_buyer_is_in_the_ledgers_events() {
    let shop = eventful_shop();
    // As the notifications have it, and as JSON would.
    let posted = topic::read(&shop.home.log(), Topic::Notifications);
    let secrets = ["138****01", "算盘", "k%3Dv%26x", "buyer", "sign"];
    let all = |found: &Found| format!("{} {}", found.headers, String::from_utf8_lossy(&found.body));
    assert!(posted.iter().any(|found| all(found).contains("buyer_logon_id")));
    for found in topic::read(&shop.home.log(), Topic::LedgerEvents) {
        for secret in secrets {
            assert!(!all(&found).contains(secret), "{secret}: {found:?}");
        }
    }
}

/// What messages of one type had.
#[derive(Default)]
struct Seen {
    topics: BTreeSet<&'static str>,
    headers: BTreeSet<String>,
    payload: BTreeSet<String>,
    values: BTreeMap<String, BTreeSet<String>>,
}

fn check(document: &Document, topic: Topic, found: &Found, seen: &mut Seen) {
    let kind = found.kind.as_str();
    let content_type = document.content_type(kind);
    let mut headers = found.headers.clone();
    if let Some(row) = &found.row {
        assert_valid(&document.validator_of(document.schema_named("LogRecord")), row);
        headers["content-type"] = json!(content_type);
    }
    assert_eq!(headers["content-type"], content_type);
    assert_eq!(headers["ce_partitionkey"], found.key.as_str());
    let validator = document.validator(kind, Part::Headers);
    assert_valid(&validator, &headers);
    assert_every_name_counts(&validator, &headers);
    seen.topics.insert(topic.as_str());
    seen.headers.extend(names(&headers));
    if content_type != "application/json" {
        return;
    }

    let payload: Value = serde_json::from_slice(&found.body).unwrap();
    let validator = document.validator(kind, Part::Payload);
    assert_valid(&validator, &payload);
    assert_every_name_counts(&validator, &payload);
    seen.payload.extend(names(&payload));
    for (name, value) in payload.as_object().unwrap() {
        seen.values.entry(name.clone()).or_default().insert(value.to_string());
    }
}

/// A field by another name is refused, whichever it is.
#[track_caller]
fn assert_every_name_counts(validator: &jsonschema::Validator, object: &Value) {
    for name in names(object) {
        let mut renamed = object.clone();
        let value = renamed.as_object_mut().unwrap().remove(&name).unwrap();
        renamed[format!("{name}_x")] = value;
        assert!(!validator.is_valid(&renamed), "`{name}` may have any name");
    }
}

fn names(object: &Value) -> Vec<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// As they stand in JSON.
fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| format!("\"{text}\"")).collect()
}
