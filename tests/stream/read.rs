//! What readers see, while others write and afterwards.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use stream::{Partition, Reader, Record};

use crate::harness::{Database, Log, log, sql};

#[test]
fn readers_beside_writers_see_every_record_once_and_in_order() {
    const TASKS: usize = 8;
    const EACH: usize = 300;
    const KEYS: usize = 3;
    let database = Database::new();
    // As two processes: their transactions meet in the same partitions.
    let logs = [Log::open(&database), Log::open(&database)];

    let (acknowledged, seen) = thread::scope(|scope| {
        let readers = [1, 50, 1_000].map(|limit| {
            let url = &database.url;
            scope.spawn(move || follow(url, limit, TASKS * EACH))
        });
        let writers = [0, 1].map(|side| {
            let log = &logs[side];
            scope.spawn(move || {
                let appender = &log.appender;
                let task = |task: usize| {
                    let appender = appender.clone();
                    async move {
                        let mut acknowledged = Vec::new();
                        for number in 0..EACH {
                            // Keys are shared by all tasks; each task's own records keep their order.
                            let key = format!("O-{}", number % KEYS);
                            let body = format!("{task} {number}").into_bytes();
                            let envelope = log::envelope(&key, body.clone());
                            let place = appender.append(envelope).await.unwrap();
                            acknowledged.push((place, body));
                        }
                        acknowledged
                    }
                };
                log.all((0..TASKS).filter(|number| number % 2 == side).map(task))
            })
        });
        let acknowledged = writers.map(|writer| writer.join().unwrap());
        (acknowledged.concat().concat(), readers.map(|reader| reader.join().unwrap()))
    });

    let mut expected: Vec<((Partition, i64), Vec<u8>)> = acknowledged;
    expected.sort();
    assert_eq!(expected.len(), TASKS * EACH);
    for records in seen.into_iter().chain([log::read_all(&database), log::read_all(&database)]) {
        let mut last: BTreeMap<(String, String), usize> = BTreeMap::new();
        for record in &records {
            let body = String::from_utf8(record.envelope.body.clone()).unwrap();
            let (task, number) = body.split_once(' ').unwrap();
            let number = number.parse().unwrap();
            let before = last.insert((record.envelope.key.clone(), task.to_owned()), number);
            assert!(
                before.is_none_or(|before| before < number),
                "{task} {number} after {before:?}"
            );
        }
        let mut records: Vec<_> = records
            .into_iter()
            .map(|record| ((record.partition, record.offset), record.envelope.body))
            .collect();
        records.sort();
        assert!(records == expected, "what is read is not what was acknowledged");
    }
}

/// Reads on from the beginning until `count` records were read; every offset must be the next one.
fn follow(url: &str, limit: usize, count: usize) -> Vec<Record> {
    const DEADLINE: Duration = Duration::from_secs(60);
    let mut reader = Reader::open(url).unwrap();
    let mut next: Vec<(Partition, i64)> =
        reader.partitions().unwrap().into_iter().map(|partition| (partition, 0)).collect();
    let mut records = Vec::new();
    let started = Instant::now();
    while records.len() < count {
        assert!(started.elapsed() < DEADLINE, "{} of {count} records came", records.len());
        let more = reader.read(&next, limit, Duration::from_secs(1)).unwrap();
        assert!(more.len() <= limit);
        for record in more {
            let (_, next) = next.iter_mut().find(|(other, _)| *other == record.partition).unwrap();
            assert_eq!(record.offset, *next, "in {}", record.partition);
            *next += 1;
            records.push(record);
        }
    }
    records
}

#[test]
fn records_of_one_key_stand_in_one_partition_in_their_order() {
    const EACH: usize = 20;
    let database = Database::new();
    let log = Log::open(&database);
    let keys = ["O-1", "O-2", "O-3", "订单"];
    let envelopes = (0..EACH)
        .flat_map(|number| keys.map(|key| log::envelope(key, number.to_string().into_bytes())));
    log.append_all(envelopes);
    // After a restart a key still has its partition.
    drop(log);
    Log::open(&database)
        .append_all(keys.map(|key| log::envelope(key, EACH.to_string().into_bytes())));

    let mut by_key: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in log::read_all(&database) {
        by_key.entry(record.envelope.key.clone()).or_default().push(record);
    }
    assert_eq!(by_key.len(), keys.len());
    for (key, records) in by_key {
        let bodies: Vec<&[u8]> = records.iter().map(|record| &*record.envelope.body).collect();
        let numbers: Vec<String> = (0..=EACH).map(|number| number.to_string()).collect();
        assert_eq!(bodies, numbers.iter().map(String::as_bytes).collect::<Vec<_>>(), "{key}");
        assert!(records.iter().all(|record| record.partition == records[0].partition), "{key}");
    }
}

#[test]
fn only_old_records_that_were_read_are_dropped() {
    let database = Database::new();
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
    let mut reader = Reader::open(&database.url).unwrap();
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
    let database = Database::new();
    let mut conn = database.connect();
    let place = Log::open(&database).append(log::envelope("O-1", b"a".to_vec())).unwrap();
    let mut reader = Reader::open(&database.url).unwrap();
    for (asked, expected) in [(4, 4), (1, 4), (0, 4), (6, 6), (6, 6), (2, 6)] {
        stream::create_partitions(&mut conn, asked).unwrap();
        let ends = reader.ends().unwrap();
        assert_eq!(ends.len(), 2 * expected, "both topics after {asked} were asked for");
        let records: i64 = ends.iter().map(|(_, end)| end).sum();
        assert!(records == 1 && ends.contains(&(place.0, 1)), "{ends:?}");
    }
    // An appender that starts now spreads over all of them, and the old record is still there.
    let log = Log::open(&database);
    log.append_all((0..200).map(|key| log::envelope(&format!("O-{key}"), Vec::new())));
    let ends = reader.ends().unwrap();
    assert_eq!(ends.iter().filter(|(_, end)| *end > 0).count(), 6, "{ends:?}");
    assert_eq!(log::read_all(&database).len(), 201);
}
