//! What an append promises, and what it says when it cannot keep it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::DateTime;
use ledger::Connection;
use payment::{Envelope, Topic};
use stream::{AppendError, AppendSettings, Reader};

use crate::harness::{Database, Log, log, sql, wait};

#[test]
fn what_is_acknowledged_can_be_read_by_whoever_comes_next() {
    let database = Database::new();
    let log = Log::open(&database);
    for number in 0..20 {
        let envelope = Envelope {
            topic: Topic::ALL[number % 2],
            reason: (number % 3 == 0).then(|| "other_seller: 付给别人".to_owned()),
            received_at: DateTime::from_timestamp_micros(1_709_600_412_123_456).unwrap(),
            ..log::envelope("O-1", b"a=%00&b=\0\xFF\n".repeat(number * 100))
        };
        let (partition, offset) = log.append(envelope.clone()).unwrap();
        let mut reader = Reader::open(&database.url).unwrap();
        for _ in 0..2 {
            let records = reader.read(&[(partition, offset)], 10, Duration::ZERO).unwrap();
            assert_eq!(records.len(), 1);
            assert_eq!((records[0].partition, records[0].offset), (partition, offset));
            assert_eq!(records[0].envelope, envelope);
        }
    }
}

#[test]
fn a_full_queue_is_told_at_once_and_loses_nothing_that_waits() {
    let database = Database::new();
    let mut conn = database.connect();
    let log = Log::with(&database, AppendSettings { queue: 1, ..AppendSettings::default() });
    let mut context = Context::from_waker(Waker::noop());
    for round in 1..=2 {
        let holder = hold_the_log(&database);
        let mut taken = pin!(log.appender.append(log::envelope("O-1", b"taken".to_vec())));
        assert!(taken.as_mut().poll(&mut context).is_pending());
        wait::until("the append waits for the log", || sql::blocked(&mut conn) == 1);
        let mut queued = pin!(log.appender.append(log::envelope("O-1", b"queued".to_vec())));
        assert!(queued.as_mut().poll(&mut context).is_pending());
        for _ in 0..2 {
            let mut refused = pin!(log.appender.append(log::envelope("O-1", b"refused".to_vec())));
            assert_eq!(refused.as_mut().poll(&mut context), Poll::Ready(Err(AppendError::Full)));
        }
        release(holder);
        assert_eq!(log.block_on(taken).unwrap().1, 2 * round - 2);
        assert_eq!(log.block_on(queued).unwrap().1, 2 * round - 1);
    }
    assert_eq!(bodies(&database), ["taken", "queued", "taken", "queued"]);
}

#[test]
fn an_append_whose_connection_is_cut_is_unavailable_and_the_next_ones_go_on() {
    let database = Database::new();
    let mut conn = database.connect();
    let log = Log::open(&database);
    for round in 0..2 {
        let holder = hold_the_log(&database);
        let mut cut = pin!(log.appender.append(log::envelope("O-1", b"cut".to_vec())));
        assert!(cut.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wait::until("the append waits for the log", || sql::blocked(&mut conn) == 1);
        let cut_off = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 30000)) AS number
              FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'suanpan append'";
        assert_eq!(sql::number(&mut conn, cut_off), 1);
        assert_eq!(log.block_on(cut), Err(AppendError::Unavailable));
        assert!(!log.appender.is_connected());
        release(holder);

        let mut offset = None;
        wait::until("the appender has connected again", || {
            offset = match log.append(log::envelope("O-1", b"after".to_vec())) {
                Ok((_, offset)) => Some(offset),
                Err(error) => {
                    assert_eq!(error, AppendError::Unavailable);
                    None
                }
            };
            offset.is_some()
        });
        assert!(log.appender.is_connected());
        // What was not acknowledged has left no gap either.
        assert_eq!(offset, Some(round));
    }
    assert_eq!(bodies(&database), ["after", "after"]);
}

#[test]
fn while_the_database_is_away_every_append_is_unavailable() {
    let database = Database::new();
    let log = Log::open(&database);
    log.append(log::envelope("O-1", b"before".to_vec())).unwrap();
    for _ in 0..2 {
        database.go_away();
        for _ in 0..10 {
            let away = log.append(log::envelope("O-1", b"away".to_vec()));
            assert_eq!(away, Err(AppendError::Unavailable));
        }
        assert!(!log.appender.is_connected());
        database.come_back();
        // Nobody needs to send anything for it to be noticed.
        wait::until("the appender sees the database", || log.appender.is_connected());
        log.append(log::envelope("O-1", b"back".to_vec())).unwrap();
    }
    assert_eq!(bodies(&database), ["before", "back", "back"]);
}

/// Keeps every append from its partition, until the connection is given to [`release`].
fn hold_the_log(database: &Database) -> Connection {
    let mut holder = database.connect();
    sql::run(&mut holder, "BEGIN; SELECT 1 FROM log_partition FOR UPDATE");
    holder
}

fn release(mut holder: Connection) {
    sql::run(&mut holder, "COMMIT");
}

fn bodies(database: &Database) -> Vec<String> {
    let records = log::read_all(database).into_iter();
    records.map(|record| String::from_utf8(record.envelope.body).unwrap()).collect()
}
