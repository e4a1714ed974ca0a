//! What the ledger tells the world: once per fact, in order per trade, in the transaction of the effect.

use std::collections::BTreeMap;

use alipay::RefundFee;
use chrono::{DateTime, NaiveDate};
use ledger::difference::{self, Difference};
use ledger::outbox::{self, Outgoing, Waiting};
use ledger::{Connection, Content, Place, QueryError};
use payment::{AppId, BillDay, Kind, Source, Topic};
use serde_json::{Value, json};

use crate::harness::alipay::APP_ID;
use crate::harness::{Alipay, Database, Feed, Notice, books, feed, sql};

#[test]
fn what_becomes_of_a_trade_is_told_in_order_and_once() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    let [_, paid, first, second, ..] = Notice::seven("T1");
    for notice in [Notice::closed("T1"), paid, second, first] {
        // Once, and again.
        feed.apply(&mut conn, vec![content(&alipay, &notice), content(&alipay, &notice)]).unwrap();
        feed.apply(&mut conn, vec![content(&alipay, &notice)]).unwrap();
    }
    let events = drain(&mut conn);
    let told: Vec<(&str, &str, Value)> = events
        .iter()
        .map(|event| (event.id.as_str(), event.kind.as_str(), event.body.clone()))
        .collect();
    let trade = |more: Value| {
        let mut body = json!({"trade_no": "T1", "out_trade_no": "O-T1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let closed = trade(json!({"closed_at": "2024-03-05T01:30:00Z"}));
    let paid = trade(json!({"total_fen": 10000, "receipt_fen": 9500, "receipt_known": true,
                            "paid_at": "2024-03-05T01:00:12Z"}));
    // The cumulative figure was all that was known of it, until the refund before it was told.
    let second = trade(json!({"request_no": "R2", "amount_fen": 5000, "receipt_fen": 4750,
                              "confirmed": false, "refunded_at": "2024-03-07T02:00:00.456Z"}));
    let first = trade(json!({"request_no": "R1", "amount_fen": 3000, "receipt_fen": 2850,
                             "confirmed": false, "refunded_at": "2024-03-06T02:00:00.123Z"}));
    let corrected = trade(json!({"business": "refund", "request_no": "R2", "total_fen": 2000,
                                 "receipt_fen": 1900, "change_total_fen": -3000,
                                 "change_receipt_fen": -2850}));
    let entry = sql::number(
        &mut conn,
        "SELECT entry_id AS number FROM journal_entry WHERE reason = 'corrected'",
    );
    let corrected_id = format!("T1/corrected/{entry}");
    assert_eq!(
        told,
        [
            ("T1/closed", "suanpan.trade.closed", closed),
            ("T1/paid", "suanpan.trade.paid", paid),
            ("T1/refunded/R2", "suanpan.trade.refunded", second),
            ("T1/refunded/R1", "suanpan.trade.refunded", first),
            (corrected_id.as_str(), "suanpan.trade.corrected", corrected),
        ]
    );
    assert!(events.is_sorted_by_key(|event| event.sequence));
    assert_eq!(outbox::waiting(&mut conn).unwrap(), Waiting::default());
}

#[test]
fn a_contradiction_is_told_with_every_value_and_again_when_another_comes() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    let told = |total: &str| content(&alipay, &Notice::paid("T1").with("total_amount", total));
    for total in ["100.00", "96.00", "96.00", "100.00", "97.00", "98.00"] {
        feed.apply(&mut conn, vec![told(total)]).unwrap();
    }
    books::assert_told(&mut conn);
    let conflicts: Vec<(String, Value)> = drain(&mut conn)
        .into_iter()
        .filter(|event| event.kind == Kind::TradeConflict)
        .map(|event| (event.id, event.body["told"].clone()))
        .collect();
    let expected = [
        ("T1/conflict/total//2".to_owned(), json!(["100.00", "96.00"])),
        ("T1/conflict/total//3".to_owned(), json!(["100.00", "96.00", "97.00"])),
        ("T1/conflict/total//4".to_owned(), json!(["100.00", "96.00", "97.00", "98.00"])),
    ];
    assert_eq!(conflicts, expected);
}

#[test]
fn the_next_event_of_a_key_waits_until_the_one_before_is_in_the_log() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    for trade_no in ["T1", "T2"] {
        let [_, paid, first, ..] = Notice::seven(trade_no);
        feed.apply(&mut conn, vec![content(&alipay, &paid), content(&alipay, &first)]).unwrap();
    }
    let ids = |events: &[Outgoing]| -> Vec<String> {
        events.iter().map(|event| event.envelope.id.clone()).collect()
    };
    let firsts = outbox::next(&mut conn, 100).unwrap();
    assert_eq!(ids(&firsts), ["T1/paid", "T2/paid"]);
    // Asked again, and with less room: the same, from the head.
    assert_eq!(outbox::next(&mut conn, 100).unwrap(), firsts);
    assert_eq!(ids(&outbox::next(&mut conn, 2).unwrap()), ["T1/paid"]);

    outbox::sent(&mut conn, &[firsts[1].outbox_id]).unwrap();
    assert_eq!(ids(&outbox::next(&mut conn, 100).unwrap()), ["T1/paid", "T2/refunded/R1"]);
    // Sending what is gone already removes nothing else.
    outbox::sent(&mut conn, &[firsts[1].outbox_id]).unwrap();
    assert_eq!(ids(&outbox::next(&mut conn, 100).unwrap()), ["T1/paid", "T2/refunded/R1"]);
}

#[test]
fn only_one_relay_leads_until_its_work_is_done() {
    let database = Database::new();
    let (mut first, mut second) = (database.connect(), database.connect());
    let mut elsewhere = Database::new().connect();
    let leads =
        |conn: &mut Connection| outbox::lead(conn, |_| Ok::<_, QueryError>(())).unwrap().is_some();
    for (outcome, expected) in
        [(Ok(()), Ok(Some(()))), (Err(QueryError::NotFound), Err(QueryError::NotFound))]
    {
        let led = outbox::lead(&mut first, |_| {
            assert!(!leads(&mut second));
            assert!(leads(&mut elsewhere), "another database has a leader of its own");
            outcome
        });
        assert_eq!(led, expected);
        assert!(leads(&mut second));
    }
}

#[test]
fn a_dead_letter_is_told_with_its_bytes_its_reason_and_its_place() {
    let database = Database::new();
    let mut conn = database.connect();
    let mut feed = Feed::claim(&mut conn);
    let dead = Content::Dead { reason: "wrong_signature", detail: "none fits".to_owned() };
    let quarantined = Content::Quarantined { reason: "other_seller".to_owned() };
    feed.apply(&mut conn, vec![quarantined, dead.clone(), dead]).unwrap();
    let waiting = outbox::waiting(&mut conn).unwrap();
    assert_eq!(waiting, Waiting { events: 2, oldest: Some(DateTime::UNIX_EPOCH) });

    let events = outbox::next(&mut conn, 100).unwrap();
    for (event, offset) in events.iter().zip([1, 2]) {
        let envelope = &event.envelope;
        let place = Place { log_topic: feed::LOG_TOPIC.to_owned(), partition: 0, offset };
        assert_eq!(envelope.id, place.to_string());
        assert_eq!((envelope.topic, envelope.kind), (Topic::DeadLetters, Kind::MessageDead));
        assert_eq!(envelope.source, Source::Ledger);
        assert_eq!(envelope.reason.as_deref(), Some("wrong_signature: none fits"));
        assert_eq!(envelope.body, format!("body {offset}").into_bytes());
    }
    assert_eq!(events.len(), 2);
}

#[test]
fn a_difference_is_told_when_it_opens_opens_again_and_resolves() {
    let database = Database::new();
    let mut conn = database.connect();
    let app_id = AppId::parse(APP_ID).unwrap();
    let date = NaiveDate::from_ymd_opt(2024, 3, 5).unwrap();
    let found = |difference_id: &str, out_trade_no: &str| Difference {
        difference_id: difference_id.to_owned(),
        day: date,
        kind: "amount".to_owned(),
        business: "payment".to_owned(),
        trade_no: "T1".to_owned(),
        request_no: String::new(),
        out_trade_no: out_trade_no.to_owned(),
        bill_fen: Some(9_999),
        ledger_fen: Some(10_000),
        state: "open".to_owned(),
    };
    let both = [found("D1", "O-T1"), found("D2", "")];
    for found in [&both[..], &both, &[], &[], &both[..1]] {
        difference::update(
            &mut conn,
            &app_id,
            BillDay::new(date),
            found,
            "run",
            DateTime::UNIX_EPOCH,
        )
        .unwrap();
    }
    let events = drain(&mut conn);
    let of = |difference_id: &str| -> Vec<(Kind, &str)> {
        let about = events.iter().filter(|event| event.body["difference_id"] == difference_id);
        about.map(|event| (event.kind, event.body["state"].as_str().unwrap())).collect()
    };
    let (opened, resolved) = (Kind::DifferenceOpened, Kind::DifferenceResolved);
    assert_eq!(of("D1"), [(opened, "open"), (resolved, "resolved"), (opened, "reopened")]);
    assert_eq!(of("D2"), [(opened, "open"), (resolved, "resolved")]);
    assert_eq!(
        events[0].body,
        json!({"difference_id": "D1", "day": "2024-03-05", "kind": "amount", "business": "payment",
               "trade_no": "T1", "request_no": "", "out_trade_no": "O-T1", "bill_fen": 9999,
               "ledger_fen": 10000, "state": "open"})
    );
    let keys: BTreeMap<&str, usize> = events.iter().fold(BTreeMap::new(), |mut keys, event| {
        *keys.entry(event.key.as_str()).or_default() += 1;
        keys
    });
    let order = format!("{APP_ID}/O-T1");
    let none = format!("{APP_ID}/difference/D2");
    assert_eq!(keys, BTreeMap::from([(order.as_str(), 3), (none.as_str(), 2)]));
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len());
}

/// An event, as it would arrive.
struct Told {
    id: String,
    kind: Kind,
    key: String,
    sequence: Option<i64>,
    body: Value,
}

/// Sends everything, a little at a time.
fn drain(conn: &mut Connection) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        let events = outbox::next(conn, 2).unwrap();
        if events.is_empty() {
            return told;
        }
        let ids: Vec<i64> = events.iter().map(|event| event.outbox_id).collect();
        outbox::sent(conn, &ids).unwrap();
        told.extend(events.into_iter().map(|Outgoing { envelope, .. }| {
            assert_eq!((envelope.topic, envelope.source), (Topic::LedgerEvents, Source::Ledger));
            Told {
                id: envelope.id,
                kind: envelope.kind,
                key: envelope.key,
                sequence: envelope.sequence,
                body: serde_json::from_slice(&envelope.body).unwrap(),
            }
        }));
    }
}

fn content(alipay: &Alipay, notice: &Notice) -> Content {
    let notification = alipay.read(notice);
    let notify_id = notification.notify_id.as_ref().unwrap().as_str();
    feed::genuine(notify_id, notification.facts(RefundFee::Cumulative))
}
