//! The ledger's events, read as somebody else's program reads them.

use std::collections::BTreeMap;

use payment::Topic;
use serde_json::Value;
use stream::Log;

use super::crowd::Told;
use super::records::{self, Record};

#[derive(Clone, Debug)]
pub(crate) struct Event {
    key: String,
    id: String,
    kind: String,
    sequence: i64,
    body: Value,
}

/// All of them, those of one trade in the order in which they stand in the log.
pub(crate) fn read(log: &Log) -> Vec<Event> {
    let event = |Record { key, mut headers, body }| {
        let mut header = |name: &str| headers.remove(name).unwrap_or_else(|| panic!("no {name}"));
        Event {
            key,
            id: header("ce_id"),
            kind: header("ce_type"),
            sequence: header("ce_sequence").parse().unwrap(),
            body: serde_json::from_slice(&body).unwrap(),
        }
    };
    records::read(log, Topic::LedgerEvents).into_iter().map(event).collect()
}

/// Whoever reads them once each, by their ids, knows every payment and refund to the fen.
pub(crate) fn assert_told(events: &[Event], told: &BTreeMap<String, Told>) {
    let mut seen: BTreeMap<&str, &Event> = BTreeMap::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    // By trade: paid, and refunded by request number.
    let mut heard: BTreeMap<String, (i64, BTreeMap<String, i64>)> = BTreeMap::new();
    for event in events {
        let before = last.get(event.key.as_str()).copied().unwrap_or(-1);
        if let Some(first) = seen.get(event.id.as_str()) {
            assert_eq!((&first.kind, &first.body), (&event.kind, &event.body), "{}", event.id);
            continue;
        }
        seen.insert(&event.id, event);
        assert!(event.sequence > before, "{} comes after sequence {before}", event.id);
        last.insert(&event.key, event.sequence);

        let text = |name: &str| event.body[name].as_str().unwrap().to_owned();
        let fen = |name: &str| event.body[name].as_i64().unwrap();
        let trade_no = text("trade_no");
        match event.kind.as_str() {
            "suanpan.trade.paid" => {
                assert_eq!(event.id, format!("{trade_no}/paid"));
                let known = heard.insert(trade_no, (fen("total_fen"), BTreeMap::new()));
                assert!(known.is_none(), "{} is the first of its trade", event.id);
            }
            "suanpan.trade.refunded" => {
                let request_no = text("request_no");
                assert_eq!(event.id, format!("{trade_no}/refunded/{request_no}"));
                let (_, refunds) = heard.get_mut(&trade_no).expect("paid before it is refunded");
                let known = refunds.insert(request_no, fen("amount_fen"));
                assert!(known.is_none(), "{} is told once", event.id);
            }
            "suanpan.trade.corrected" => {
                let change_fen = fen("change_total_fen");
                let (paid_fen, refunds) = heard.get_mut(&trade_no).expect("paid before it changes");
                match text("business").as_str() {
                    "payment" => *paid_fen += change_fen,
                    _ => *refunds.get_mut(&text("request_no")).unwrap() += change_fen,
                }
            }
            "suanpan.trade.closed" => {}
            other => panic!("nobody caused a {other}: {event:?}"),
        }
    }
    let expected: BTreeMap<String, (i64, BTreeMap<String, i64>)> = told
        .iter()
        .filter(|(_, told)| told.is_paid)
        .map(|(trade_no, told)| (trade_no.clone(), (told.total_fen, told.refunds_fen.clone())))
        .collect();
    assert_eq!(heard, expected);
}
