//! Records that others write into our topics, and the gaps that their transactions leave.

use std::collections::BTreeMap;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::PATIENCE;
use crate::group::{Member, Payer, database, kafka};
use crate::harness::alipay::APP_ID;
use crate::harness::{Alipay, Broker, Database, Notice, sql};

/// Writes as it likes.
struct Stranger {
    producer: BaseProducer,
    topic: String,
}

/// A record as somebody might write it.
#[derive(Clone)]
struct Foreign {
    key: Option<Vec<u8>>,
    headers: BTreeMap<&'static str, Option<Vec<u8>>>,
    value: Option<Vec<u8>>,
    partition: i32,
}

impl Foreign {
    /// As we write it ourselves.
    fn like_ours(alipay: &Alipay, trade_no: &str) -> Foreign {
        let source = format!("/alipay/{APP_ID}");
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", trade_no),
            ("ce_source", &source),
            ("ce_type", "suanpan.notification.received"),
            ("ce_time", "2024-03-05T01:00:12Z"),
            ("ce_origin", "notification"),
        ];
        Foreign {
            key: Some(format!("{APP_ID}/O-{trade_no}").into_bytes()),
            headers: headers.map(|(name, value)| (name, Some(value.as_bytes().to_vec()))).into(),
            value: Some(alipay.sign(&Notice::paid(trade_no))),
            partition: 0,
        }
    }

    fn with(mut self, name: &'static str, value: Option<&[u8]>) -> Foreign {
        self.headers.insert(name, value.map(<[u8]>::to_vec));
        self
    }

    fn without(mut self, name: &str) -> Foreign {
        self.headers.remove(name);
        self
    }
}

impl Stranger {
    fn new(broker: &Broker, database: &Database, settings: &[(&str, &str)]) -> Stranger {
        let mut config = broker.client();
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let topic = kafka(database).topics.notifications.clone();
        Stranger { producer: config.create().unwrap(), topic }
    }

    fn write(&self, foreign: &Foreign) {
        let headers = foreign.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_ref() })
        });
        let mut record =
            BaseRecord::<[u8], [u8]>::to(&self.topic).partition(foreign.partition).headers(headers);
        if let Some(key) = &foreign.key {
            record = record.key(key);
        }
        if let Some(value) = &foreign.value {
            record = record.payload(value);
        }
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }
}

#[test]
fn a_record_that_is_not_ours_is_set_aside_alone_with_its_bytes() {
    let (broker, database) = database(1, &[]);
    let payer = Payer::new(&database);
    let stranger = Stranger::new(&broker, &database, &[]);
    let ours = Foreign::like_ours(&payer.alipay, "FOREIGN");
    let bare = Foreign { headers: BTreeMap::new(), ..ours.clone() };
    let foreign = [
        (bare.clone(), "ce_specversion"),
        (Foreign { key: None, value: None, ..bare }, "ce_specversion"),
        (ours.clone().with("ce_specversion", Some(b"0.3")), "ce_specversion"),
        (ours.clone().with("ce_specversion", None), "ce_specversion"),
        (ours.clone().without("ce_id"), "ce_id"),
        (ours.clone().with("ce_id", Some(b"")), "ce_id"),
        (ours.clone().with("ce_id", Some(b"\xFF")), "ce_id"),
        (ours.clone().without("ce_source"), "ce_source"),
        (ours.clone().with("ce_source", Some(b"/somebody/2021000000000001")), "ce_source"),
        (ours.clone().with("ce_source", Some(b"/alipay/")), "ce_source"),
        (ours.clone().without("ce_type"), "ce_type"),
        (ours.clone().with("ce_type", Some(b"com.example.order")), "ce_type"),
        (ours.clone().with("ce_type", Some(b"suanpan.trade.paid")), "ce_type"),
        (ours.clone().with("ce_origin", Some(b"gossip")), "ce_origin"),
        (Foreign { key: Some(b"\xFF\xFE".to_vec()), ..ours.clone() }, "key"),
        (Foreign { value: None, ..ours.clone() }, "value"),
    ];
    let mut member = Member::open(&database, &payer.alipay);
    for round in 1..=2 {
        for (record, _) in &foreign {
            payer.pay(1);
            stranger.write(record);
        }
        payer.pay(1);
        let count = u64::try_from(foreign.len()).unwrap();
        member.apply(2 * count + 1);
        assert_eq!(member.tale.outcome("applied"), round * (count + 1));
        assert_eq!(member.tale.outcome("dead_letter"), round * count);
        let unreadable = "suanpan_dead_letters_total{reason=\"unreadable_record\"}";
        let told = member.tale.metric(unreadable).unwrap();
        assert_eq!(told, (round * count).to_string());
    }
    let mut letters = ledger::dead_letter::list(
        &mut database.connect(),
        ledger::dead_letter::Filter::default(),
        100,
    )
    .unwrap();
    letters.sort_by_key(|letter| letter.log_offset);
    assert_eq!(letters.len(), 2 * foreign.len());
    for (letter, (record, field)) in letters.iter().zip(foreign.iter().chain(&foreign)) {
        assert_eq!(letter.reason, "unreadable_record");
        let words = format!("the record's {field} is none that this version writes");
        assert_eq!(letter.detail, words);
        assert_eq!(letter.body, record.value.clone().unwrap_or_default());
    }
    let foreign_trades = "trade WHERE trade_no = 'FOREIGN'";
    assert_eq!(sql::count(&mut database.connect(), foreign_trades), 0);
}

#[test]
fn what_is_readable_and_signed_is_applied_whoever_wrote_it() {
    let (broker, database) = database(1, &[]);
    let payer = Payer::new(&database);
    let stranger = Stranger::new(&broker, &database, &[]);
    let mut member = Member::open(&database, &payer.alipay);
    for round in 0..2 {
        let name = |number: u32| format!("S{round}{number}");
        let records = [
            Foreign::like_ours(&payer.alipay, &name(0)),
            // A tool that copies without keys, one that knows no times, and one that adds its own.
            Foreign { key: None, ..Foreign::like_ours(&payer.alipay, &name(1)) },
            Foreign::like_ours(&payer.alipay, &name(2)).without("ce_time").without("ce_origin"),
            Foreign::like_ours(&payer.alipay, &name(3)).with("ce_time", Some(b"yesterday")),
            Foreign::like_ours(&payer.alipay, &name(4)).with("traceparent", Some(b"\xFF\0")),
        ];
        for record in &records {
            stranger.write(record);
        }
        member.apply(5);
    }
    assert_eq!(member.tale.outcome("applied"), 10);
}

#[test]
fn an_aborted_transaction_is_skipped_and_no_gap_stops_or_repeats_anything() {
    for batch in [1, 3, 500] {
        let (broker, database) = database(4, &[]);
        let payer = Payer::new(&database);
        let id = broker.fresh_name();
        let stranger = Stranger::new(&broker, &database, &[("transactional.id", &id)]);
        stranger.producer.init_transactions(PATIENCE).unwrap();
        let mut member = Member::with_batch(&database, &payer.alipay, batch);
        for round in 0..2 {
            // Marks stand in every partition, alone and in rows.
            for transaction in 0..10 {
                stranger.producer.begin_transaction().unwrap();
                let is_aborted = transaction % 3 != 0;
                for partition in 0..4 {
                    let fate = if is_aborted { "ABORTED" } else { "COMMITTED" };
                    let trade_no = format!("{fate}-{round}-{transaction}-{partition}");
                    let record = Foreign::like_ours(&payer.alipay, &trade_no);
                    stranger.write(&Foreign { partition, ..record });
                }
                if is_aborted {
                    stranger.producer.abort_transaction(PATIENCE).unwrap();
                } else {
                    stranger.producer.commit_transaction(PATIENCE).unwrap();
                }
                payer.pay(2);
            }
            // Every partition ends with a record of ours, so that nothing waits behind a mark.
            for partition in 0..4 {
                let plain = Stranger::new(&broker, &database, &[]);
                let last = Foreign::like_ours(&payer.alipay, &format!("LAST-{round}-{partition}"));
                plain.write(&Foreign { partition, ..last });
            }
            member.apply(4 * 4 + 20 + 4);
            assert_eq!(member.tale.outcome("applied"), (round + 1) * 40);
        }
        member.consumer.close();
        let mut conn = database.connect();
        assert_eq!(sql::count(&mut conn, "trade"), 80);
        assert_eq!(sql::count(&mut conn, "trade WHERE trade_no LIKE 'ABORTED%'"), 0);
        assert_eq!(sql::count(&mut conn, "dead_letter"), 0);
        let parity = consumer::parity::check(&database.log, &mut conn, std::iter::empty()).unwrap();
        assert!(parity.holds(), "{parity:#?}");
        // Nothing is left for whoever comes next.
        let mut next = Member::open(&database, &payer.alipay);
        payer.pay(1);
        next.apply(1);
    }
}
