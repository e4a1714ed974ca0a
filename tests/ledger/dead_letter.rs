//! Dead letters are kept, found by their place, and remember when they were put back into the log.

use chrono::{DateTime, Utc};
use ledger::dead_letter::{self, DeadLetter, Filter, Replay};
use ledger::{Connection, Content, Place, QueryError};
use payment::AppId;

use crate::harness::alipay::APP_ID;
use crate::harness::{Database, Feed, feed, sql};

#[test]
fn a_letter_may_be_replayed_more_than_once_and_shows_the_last_time() {
    let database = Database::new();
    let mut conn = database.connect();
    letters(&mut conn, &["wrong_signature", "unknown_app"]);
    assert_eq!(dead_letter::open_count(&mut conn), Ok(2));
    let found = dead_letter::find(&mut conn, &place(0)).unwrap().unwrap();
    assert_eq!((found.reason.as_str(), found.detail.as_str()), ("wrong_signature", "why 0"));
    assert_eq!((found.app_id.as_str(), found.place()), (APP_ID, place(0)));
    assert_eq!(found.body, b"body 0");
    assert_eq!((found.replays, found.replayed_to), (0, None));

    for (turn, actor) in [(1, "ann"), (2, "bob")] {
        dead_letter::replayed(&mut conn, &place(0), &place(100 + turn), actor, at(turn)).unwrap();
        let found = dead_letter::find(&mut conn, &place(0)).unwrap().unwrap();
        assert_eq!(found.replays, turn);
        assert_eq!(found.replayed_to, Some(place(100 + turn).to_string()));
        assert_eq!(found.replayed_by.as_deref(), Some(actor));
        assert_eq!(found.replayed_at, Some(at(turn)));
        assert_eq!(list(&mut conn, Filter::default())[1], found);
        assert_eq!(dead_letter::open_count(&mut conn), Ok(1));
    }
    let untouched = dead_letter::find(&mut conn, &place(1)).unwrap().unwrap();
    assert_eq!((untouched.replays, untouched.replayed_by), (0, None));
}

#[test]
fn a_place_without_a_letter_is_not_found_and_not_replayed() {
    let database = Database::new();
    let mut conn = database.connect();
    letters(&mut conn, &["wrong_signature"]);
    let elsewhere = Place { log_topic: "quarantine".to_owned(), ..place(0) };
    for nowhere in [place(7), elsewhere, Place { partition: 1, ..place(0) }] {
        assert_eq!(dead_letter::find(&mut conn, &nowhere), Ok(None));
        let noted = dead_letter::replayed(&mut conn, &nowhere, &place(9), "ann", at(1));
        assert_eq!(noted, Err(QueryError::NotFound));
    }
    assert_eq!(sql::count(&mut conn, "dead_letter_replay"), 0);
}

#[test]
fn letters_are_listed_by_reason_by_app_and_by_what_became_of_them() {
    let database = Database::new();
    let mut conn = database.connect();
    letters(&mut conn, &["wrong_signature", "unknown_app", "wrong_signature"]);
    dead_letter::replayed(&mut conn, &place(2), &place(100), "ann", at(1)).unwrap();
    let offsets = |letters: Vec<DeadLetter>| -> Vec<i64> {
        letters.iter().map(|letter| letter.log_offset).collect()
    };
    let (ours, other) = (AppId::parse(APP_ID).unwrap(), AppId::parse("2021000000000002").unwrap());
    let all = Filter::default();
    for (filter, expected) in [
        (all, vec![2, 1, 0]),
        (Filter { reason: Some("wrong_signature"), ..all }, vec![2, 0]),
        (Filter { reason: Some("wrong"), ..all }, vec![]),
        (Filter { app_id: Some(&ours), ..all }, vec![2, 1, 0]),
        (Filter { app_id: Some(&other), ..all }, vec![]),
        (Filter { replay: Replay::Open, ..all }, vec![1, 0]),
        (Filter { replay: Replay::Done, ..all }, vec![2]),
        (Filter { reason: Some("wrong_signature"), replay: Replay::Open, ..all }, vec![0]),
    ] {
        assert_eq!(offsets(list(&mut conn, filter)), expected, "{filter:?}");
    }
    let newest = dead_letter::list(&mut conn, all, 1).unwrap();
    assert_eq!(offsets(newest), [2]);
}

#[test]
fn a_replay_is_noted_for_good() {
    let database = Database::new();
    let mut conn = database.connect();
    letters(&mut conn, &["wrong_signature"]);
    dead_letter::replayed(&mut conn, &place(0), &place(1), "ann", at(1)).unwrap();
    for change in [
        "UPDATE dead_letter_replay SET actor = 'bob'",
        "DELETE FROM dead_letter_replay",
        "TRUNCATE dead_letter_replay",
    ] {
        let refusal = sql::refusal(&mut conn, change);
        assert!(refusal.contains("is append-only"), "{change}: {refusal}");
    }
}

/// Letters at the partition's first offsets, each received a second after the one before.
fn letters(conn: &mut Connection, reasons: &[&'static str]) {
    let feed = Feed::claim(conn);
    let dead = |(offset, reason): (usize, &&'static str)| Content::Dead {
        reason,
        detail: format!("why {offset}"),
    };
    let mut batch = feed.batch(reasons.iter().enumerate().map(dead).collect());
    for message in &mut batch.messages {
        message.received_at = at(message.offset);
    }
    ledger::apply(conn, &batch, DateTime::UNIX_EPOCH).unwrap();
}

fn list(conn: &mut Connection, filter: Filter<'_>) -> Vec<DeadLetter> {
    dead_letter::list(conn, filter, 100).unwrap()
}

fn place(offset: i64) -> Place {
    Place { log_topic: feed::LOG_TOPIC.to_owned(), partition: 0, offset }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}
