//! What readers see, while others write and afterwards: the same of either log.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use chrono::DateTime;
use payment::{Envelope, Kind, Topic};
use stream::{Partition, Reader, Record};

use crate::harness::{Database, Log, log};

/// How long a record that is there may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_is_acknowledged_can_be_read_by_whoever_comes_next() {
    let database = Database::new();
    let log = Log::open(&database);
    for number in 0..20 {
        let envelope = Envelope {
            topic: Topic::CONSUMED[number % 2],
            kind: [Kind::NotificationReceived, Kind::NotificationQuarantined][number % 2],
            reason: (number % 3 == 0).then(|| "other_seller: 付给别人".to_owned()),
            received_at: DateTime::from_timestamp_micros(1_709_600_412_123_456).unwrap(),
            ..log::envelope("O-1", b"a=%00&b=\0\xFF\n".repeat(number * 100))
        };
        let (partition, offset) = log.append(envelope.clone()).unwrap();
        let mut reader = Reader::beside(&database.log).unwrap();
        reader.assignment().unwrap();
        for _ in 0..2 {
            let records = reader.read(&[(partition, offset)], 10, PATIENCE).unwrap();
            assert_eq!(records.len(), 1);
            assert_eq!((records[0].partition, records[0].offset), (partition, offset));
            assert_eq!(records[0].envelope, envelope);
        }
    }
}

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
            let log = &database.log;
            scope.spawn(move || follow(log, limit, TASKS * EACH))
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
fn follow(log: &stream::Log, limit: usize, count: usize) -> Vec<Record> {
    const DEADLINE: Duration = Duration::from_secs(60);
    let mut reader = Reader::beside(log).unwrap();
    let partitions = reader.assignment().unwrap().partitions;
    let mut next: Vec<(Partition, i64)> =
        partitions.into_iter().map(|partition| (partition, 0)).collect();
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
