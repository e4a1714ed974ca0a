//! The log in Postgres: its queue, its connection, its partitions, what it drops.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ledger::Connection;
use stream::{AppendError, AppendSettings, Reader};

use crate::harness::{Database, Log, log, sql, wait};

#[test]
fn a_full_queue_is_told_at_once_and_loses_nothing_that_waits() {
    let database = Database::with_postgres_log();
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
    let database = Database::with_postgres_log();
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
    let database = Database::with_postgres_log();
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

#[test]
fn only_old_records_that_were_read_are_dropped() {
    let database = Database::with_postgres_log();
    // One partition of more records than are dropped at a time.
    let mut conn = database.connect();
    let log = Log::open(&database);
    let (partition, _) = log.append(log::envelope("O-1", b"first".to_vec())).unwrap();
    sql::run(
        &mut conn,
        &format!(
            "INSERT INTO log_record (topic, partition, record_offset, id, provider, app_id, key, source,
                                     received_at, body)
             SELECT topic, partition, number, id, provider, app_id, key, source, received_at, body
               FROM log_record, generate_series(1, 5999) AS number;
             UPDATE log_partition SET next_offset = 6000
              WHERE topic = '{}' AND partition = {}",
            partition.topic.as_str(),
            partition.number
        ),
    );
    let mut reader = Reader::open(&database.log).unwrap();
    let left = |conn: &mut ledger::Connection| {
        let left = "SELECT count(*) AS number FROM log_record WHERE record_offset >= ";
        (sql::count(conn, "log_record"), sql::number(conn, &format!("{left}5500")))
    };
    let [long_ago, some_day] = [-1, 1].map(|sign| now(&mut conn) + TimeDelta::days(sign * 365));

    // Read, but young.
    assert_eq!(reader.drop_read(&[(partition, 6_000)], long_ago).unwrap(), 0);
    assert_eq!(left(&mut conn), (6_000, 500));
    // Old, but not read.
    assert_eq!(reader.drop_read(&[(partition, 0)], some_day).unwrap(), 0);
    assert_eq!(left(&mut conn), (6_000, 500));
    // Both, once and no more.
    assert_eq!(reader.drop_read(&[(partition, 5_500)], some_day).unwrap(), 5_500);
    assert_eq!(left(&mut conn), (500, 500));
    assert_eq!(reader.drop_read(&[(partition, 5_500)], some_day).unwrap(), 0);
    assert_eq!(left(&mut conn), (500, 500));

    reader.assignment().unwrap();
    let rest = reader.read(&[(partition, 0)], 5_000, Duration::ZERO).unwrap();
    let offsets: Vec<i64> = rest.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (5_500..6_000).collect::<Vec<_>>());
    // The offsets go on where they were.
    assert_eq!(log.append(log::envelope("O-1", b"next".to_vec())), Ok((partition, 6_000)));
}

/// By the database's clock, which is the one that records are dropped by.
fn now(conn: &mut ledger::Connection) -> DateTime<Utc> {
    let seconds = "SELECT extract(epoch FROM now())::bigint AS number";
    DateTime::from_timestamp(sql::number(conn, seconds), 0).unwrap()
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let database = Database::with_postgres_log();
    let place = Log::open(&database).append(log::envelope("O-1", b"a".to_vec())).unwrap();
    let ends = || {
        let mut reader = Reader::open(&database.log).unwrap();
        let partitions = reader.assignment().unwrap().partitions;
        reader.ends(&partitions).unwrap()
    };
    for (partitions, expected) in [(4, 4), (1, 4), (6, 6), (6, 6), (2, 6)] {
        let database_url = database.url.clone();
        stream::set_up(&stream::Log::Postgres { database_url, partitions }).unwrap();
        let ends = ends();
        assert_eq!(ends.len(), 2 * expected, "both topics after {partitions} were asked for");
        let records: i64 = ends.iter().map(|(_, end)| end).sum();
        assert!(records == 1 && ends.contains(&(place.0, 1)), "{ends:?}");
    }
    // An appender that starts now spreads over all of them, and the old record is still there.
    let log = Log::open(&database);
    log.append_all((0..200).map(|key| log::envelope(&format!("O-{key}"), Vec::new())));
    let ends = ends();
    assert_eq!(ends.iter().filter(|(_, end)| *end > 0).count(), 6, "{ends:?}");
    assert_eq!(log::read_all(&database).len(), 201);
}
