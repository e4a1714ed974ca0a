//! What other clients see: CloudEvents in binary mode, found where Kafka's own clients would look.

use std::collections::BTreeMap;

use chrono::DateTime;
use payment::{AppId, Envelope, Kind, Topic};
use stream::AppendSettings;

use super::raw;
use crate::harness::alipay::APP_ID;
use crate::harness::form::{Form, gbk};
use crate::harness::{Broker, Log, log};

#[test]
fn a_record_is_a_cloud_event_and_its_value_the_raw_body() {
    let broker = Broker::shared();
    let settings = log::kafka(&broker);
    let kafka = stream::Log::Kafka(settings.clone());
    stream::set_up(&kafka).unwrap();
    let log = Log::over(&kafka, AppendSettings::default());
    let bodies = [
        Form::paid("T1").in_gbk().body(),
        [b"a=\0&b=\xFF\xFE\n\r&subject=".as_slice(), &gbk("算盘 + 珠")].concat(),
        Vec::new(),
    ];
    let received_at = DateTime::from_timestamp_micros(1_709_600_412_123_456).unwrap();
    for body in &bodies {
        let envelope = Envelope {
            id: "3b1f".to_owned(),
            received_at,
            ..log::envelope("O/1 订单", body.clone())
        };
        log.append(envelope.clone()).unwrap();
        log.append(Envelope {
            topic: Topic::Quarantine,
            kind: Kind::NotificationQuarantined,
            reason: Some("other_seller: 付给别人".to_owned()),
            ..envelope
        })
        .unwrap();
    }

    let attributes = |kind: &str| {
        let source = format!("/alipay/{APP_ID}");
        let key = format!("{APP_ID}/O/1 订单");
        [
            ("ce_specversion", "1.0"),
            ("ce_id", "3b1f"),
            ("ce_source", &source),
            ("ce_type", kind),
            ("ce_time", "2024-03-05T01:00:12.123456Z"),
            ("ce_subject", "O/1 订单"),
            ("ce_partitionkey", &key),
            ("ce_origin", "notification"),
            ("content-type", "application/x-www-form-urlencoded"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    };
    let mut quarantined = attributes("suanpan.notification.quarantined");
    quarantined.insert(8, ("ce_reason".to_owned(), "other_seller: 付给别人".to_owned()));
    for (topic, headers) in [
        (&settings.topics.notifications, attributes("suanpan.notification.received")),
        (&settings.topics.quarantine, quarantined),
    ] {
        let records = raw(&broker, topic);
        assert_eq!(records.len(), bodies.len());
        for (record, body) in records.iter().zip(&bodies) {
            assert_eq!(String::from_utf8_lossy(&record.key), format!("{APP_ID}/O/1 订单"));
            assert_eq!(record.headers, headers);
            assert_eq!(&record.value, body);
        }
    }
}

#[test]
fn a_key_stands_in_the_partition_where_javas_clients_look_for_it() {
    // Of Kafka's own tests of its hash.
    for (text, hash) in [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ] {
        assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
    }
    let broker = Broker::shared();
    let mut settings = log::kafka(&broker);
    // An operator's wish, which would tear an order's messages apart.
    settings.properties = vec![("partitioner".to_owned(), "random".to_owned())];
    let kafka = stream::Log::Kafka(settings.clone());
    stream::set_up(&kafka).unwrap();
    let mut seen = BTreeMap::new();
    for app_id in [APP_ID, "2021000000000009"] {
        let log = Log::over(&kafka, AppendSettings::default());
        for number in 0..50 {
            let key = format!("{app_id}/订单{number}");
            let envelope = Envelope {
                app_id: AppId::parse(app_id).unwrap(),
                key: key.clone(),
                ..log::envelope("", Vec::new())
            };
            let (partition, _) = log.append(envelope).unwrap();
            let expected = (murmur2(key.as_bytes()) & 0x7FFF_FFFF) % settings.partitions;
            assert_eq!(partition.number, expected, "{key}");
            *seen.entry(partition.number).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn appends_are_idempotent_and_acknowledged_by_all_whatever_the_properties_say() {
    let broker = Broker::own();
    for property in [
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("enable.idempotence", "false"),
        ("delivery.report.only.error", "true"),
        ("transactional.id", "mine"),
        ("message.timeout.ms", "1"),
        ("delivery.timeout.ms", "1"),
    ] {
        let mut settings = log::kafka(&broker);
        settings.partitions = 1;
        settings.properties = vec![(property.0.to_owned(), property.1.to_owned())];
        let kafka = stream::Log::Kafka(settings.clone());
        stream::set_up(&kafka).unwrap();
        let log = Log::over(&kafka, AppendSettings::default());
        for offset in 0..2 {
            // With acks=0 there would be no offset.
            let (_, at) = log.append(log::envelope("O-1", b"a".to_vec())).unwrap();
            assert_eq!(at, offset, "{property:?}");
        }
        // A producer without a number is not idempotent; one with a number takes no other `acks` than `all`.
        let file =
            broker.files_of(&settings.topics.notifications, 0).join("00000000000000000000.log");
        let dump = broker.tool(&["dump-log", "--files", file.to_str().unwrap()]);
        let batches: Vec<&str> = dump.lines().filter(|line| line.contains("baseOffset")).collect();
        assert!(!batches.is_empty(), "{dump}");
        assert!(
            batches.iter().all(|batch| !batch.contains("producerId: -1")),
            "{property:?}: {dump}"
        );
        assert!(batches.iter().all(|batch| batch.contains("isTransactional: false")), "{dump}");
    }
}

#[test]
fn kafkas_own_console_reader_shows_key_headers_and_body() {
    let broker = Broker::shared();
    let settings = log::kafka(&broker);
    let kafka = stream::Log::Kafka(settings.clone());
    stream::set_up(&kafka).unwrap();
    Log::over(&kafka, AppendSettings::default())
        .append(log::envelope("O-1", b"a=1&b=2".to_vec()))
        .unwrap();
    for _ in 0..2 {
        let said = broker.tool(&[
            "console-consumer",
            "--bootstrap-server",
            &broker.address(),
            "--topic",
            &settings.topics.notifications,
            "--from-beginning",
            "--max-messages",
            "1",
            "--property",
            "print.key=true",
            "--property",
            "print.headers=true",
        ]);
        assert!(said.contains(&format!("{APP_ID}/O-1\ta=1&b=2\n")), "{said}");
        assert!(said.contains("ce_specversion:1.0,ce_id:"), "{said}");
        assert!(said.contains("ce_type:suanpan.notification.received,"), "{said}");
    }
}

/// Kafka's `Utils.murmur2`, after its published description.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap();
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}
