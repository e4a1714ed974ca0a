//! From the log into the ledger: each message once, verified again, nothing dropped.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use alipay::{App, KeyRing};
use chrono::DateTime;
use consumer::{Consumer, Settings, Step};
use ledger::Applied;
use payment::{AppId, Envelope, Kind, Topic};
use prometheus::{Registry, TextEncoder};
use service::{FixedClock, Health, Shutdown};

use crate::harness::{Alipay, Database, Log, Notice, alipay as pretend, books, log, sql, wait};

#[test]
fn signed_notifications_become_the_ledger_once_however_often_they_come() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let log = Log::open(&database);
    let mut consumer = open(&database, alipay.app());
    for round in 0..2 {
        let notices = ["T1", "T2"].map(Notice::seven).concat();
        log.append_all(notices.iter().map(|notice| envelope(&alipay, notice)));
        let applied = drain(&database, &mut consumer);
        let expected = match round {
            0 => Applied { applied: 14, ..Applied::default() },
            _ => Applied { duplicate: 14, ..Applied::default() },
        };
        assert_eq!(applied, expected);
        let trades = books::of_trades(&mut conn, "%");
        assert_eq!(trades.len(), 2);
        assert_eq!(trades["T1"], trades["T2"]);
        assert!(
            trades["T1"].starts_with("O-T refunded, total 10000, receipt 9500"),
            "{}",
            trades["T1"]
        );
        books::assert_sound(&mut conn);
    }
    // The signed bytes are kept as they came.
    let body = alipay.sign(&Notice::paid("T1"));
    let kept = format!("inbox WHERE body = decode('{}', 'hex')", hex(&body));
    assert_eq!(sql::count(&mut conn, &kept), 2);
}

#[test]
fn a_forged_record_in_the_log_is_a_dead_letter_and_touches_nothing() {
    let database = Database::new();
    let mut conn = database.connect();
    let (alipay, stranger) = (Alipay::new(), Alipay::new());
    Log::open(&database).append(envelope(&alipay, &Notice::paid("GOOD"))).unwrap();

    let strangers = stranger.sign(&Notice::paid("FORGED"));
    let genuine = alipay.sign(&Notice::paid("FORGED"));
    let raised =
        String::from_utf8(genuine).unwrap().replace("total_amount=100.00", "total_amount=900.00");
    let unsigned = b"trade_no=FORGED&trade_status=TRADE_SUCCESS".to_vec();
    let forged = [strangers, raised.into_bytes(), unsigned, Vec::new(), b"\0\xFF%".to_vec()];
    // Past the front door and everything it checks, all of one key, so that they keep their order.
    let log = Log::open(&database);
    for body in &forged {
        log.append(log::envelope("FORGED", body.clone())).unwrap();
    }
    // In the quarantine's topic too, where nobody has looked at signatures either.
    let quarantined = Envelope {
        topic: Topic::Quarantine,
        kind: Kind::NotificationQuarantined,
        ..log::envelope("FORGED", forged[0].clone())
    };
    log.append(quarantined).unwrap();

    let mut consumer = open(&database, alipay.app());
    assert_eq!(
        drain(&database, &mut consumer),
        Applied { applied: 1, dead: 6, ..Applied::default() }
    );
    assert_eq!(drain(&database, &mut consumer), Applied::default());

    let mut letters =
        ledger::dead_letter::list(&mut conn, ledger::dead_letter::Filter::default(), 100).unwrap();
    letters.sort_by_key(|letter| (letter.log_topic.clone(), letter.log_offset));
    let bodies: Vec<&[u8]> = letters.iter().map(|letter| &*letter.body).collect();
    let expected: Vec<&[u8]> = forged.iter().chain(&forged[..1]).map(|body| &**body).collect();
    assert_eq!(bodies, expected);
    let causes: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(causes[..3], ["wrong_signature", "wrong_signature", "missing_sign"]);
    assert_eq!(causes[3..], ["empty_body", "not_a_form", "wrong_signature"]);
    assert_eq!(books::of_trades(&mut conn, "%").into_keys().collect::<Vec<_>>(), ["GOOD"]);
    assert_eq!(sql::count(&mut conn, "inbox"), 1);
    assert_eq!(sql::count(&mut conn, "fact"), 1);
}

#[test]
fn a_message_of_a_retired_key_is_applied_and_one_of_a_forgotten_key_is_not() {
    let database = Database::new();
    let mut conn = database.connect();
    let (now, before, long_ago) = (Alipay::new(), Alipay::new(), Alipay::new());
    let keys = KeyRing::new(vec![now.key("2026")], vec![before.key("2025")]).unwrap();
    let log = Log::open(&database);
    let mut consumer = open(&database, pretend::app(keys));
    for round in 0..2 {
        for (alipay, name) in [(&now, "NOW"), (&before, "BEFORE"), (&long_ago, "LONG-AGO")] {
            log.append(envelope(alipay, &Notice::paid(&format!("{name}-{round}")))).unwrap();
        }
        let applied = drain(&database, &mut consumer);
        assert_eq!(applied, Applied { applied: 2, dead: 1, ..Applied::default() });
    }
    let trades: Vec<String> = books::of_trades(&mut conn, "%").into_keys().collect();
    assert_eq!(trades, ["BEFORE-0", "BEFORE-1", "NOW-0", "NOW-1"]);
}

#[test]
fn a_message_for_an_app_that_nobody_knows_is_a_dead_letter() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let log = Log::open(&database);
    let mut consumer = open(&database, alipay.app());
    for _ in 0..2 {
        let app_id = AppId::parse("2021000000000009").unwrap();
        log.append(Envelope { app_id, ..envelope(&alipay, &Notice::paid("T1")) }).unwrap();
        assert_eq!(drain(&database, &mut consumer), Applied { dead: 1, ..Applied::default() });
    }
    let letters =
        ledger::dead_letter::list(&mut conn, ledger::dead_letter::Filter::default(), 100).unwrap();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!(letter.reason, "unknown_app");
        assert!(letter.detail.contains("2021000000000009"), "{}", letter.detail);
        assert_eq!(letter.body, alipay.sign(&Notice::paid("T1")));
    }
    assert_eq!(sql::count(&mut conn, "trade"), 0);
}

#[test]
fn what_was_set_aside_is_kept_in_quarantine_with_its_reason_and_not_applied() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let log = Log::open(&database);
    let mut consumer = open(&database, alipay.app());
    let other_seller = Notice::paid("T1").with("seller_id", "2088000000000009");
    for _ in 0..2 {
        // As the ingress sets it aside; as somebody's mistake in the wrong topic; and one that would pass
        // by now, which is for a person to decide.
        log.append(Envelope {
            topic: Topic::Quarantine,
            kind: Kind::NotificationQuarantined,
            reason: Some("other_seller: told by the ingress".to_owned()),
            ..envelope(&alipay, &other_seller)
        })
        .unwrap();
        log.append(envelope(&alipay, &other_seller)).unwrap();
        log.append(Envelope {
            topic: Topic::Quarantine,
            kind: Kind::NotificationQuarantined,
            reason: Some("other_app: not ours then".to_owned()),
            ..envelope(&alipay, &Notice::paid("T2"))
        })
        .unwrap();
        let applied = drain(&database, &mut consumer);
        assert_eq!(applied, Applied { quarantined: 3, ..Applied::default() });
    }
    let held = ledger::quarantine::list(&mut conn, 100).unwrap();
    assert_eq!(ledger::quarantine::count(&mut conn), Ok(6));
    let with = |start: &str| held.iter().filter(|held| held.reason.starts_with(start)).count();
    assert_eq!((with("other_seller: "), with("other_app: not ours then")), (4, 2));
    let bodies = [alipay.sign(&other_seller), alipay.sign(&Notice::paid("T2"))];
    assert!(held.iter().all(|held| bodies.contains(&held.body)));
    for table in ["trade", "fact", "inbox", "dead_letter"] {
        assert_eq!(sql::count(&mut conn, table), 0, "{table}");
    }
}

#[test]
fn a_message_that_the_ledger_refuses_is_set_aside_alone() {
    let database = Database::new();
    let mut conn = database.connect();
    sql::run(&mut conn, "ALTER TABLE trade ADD CONSTRAINT no_poison CHECK (trade_no <> 'POISON')");
    let alipay = Alipay::new();
    let log = Log::open(&database);
    let mut consumer = open(&database, alipay.app());
    for round in 0..2 {
        let good = (0..20).map(|number| Notice::paid(&format!("T{round}-{number:02}")));
        let mut notices: Vec<Notice> = good.collect();
        notices.insert(7, Notice::paid("POISON"));
        log.append_all(notices.iter().map(|notice| envelope(&alipay, notice)));
        let applied = drain(&database, &mut consumer);
        assert_eq!(applied, Applied { applied: 20, dead: 1, ..Applied::default() });
    }
    let letters =
        ledger::dead_letter::list(&mut conn, ledger::dead_letter::Filter::default(), 100).unwrap();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!(letter.body, alipay.sign(&Notice::paid("POISON")));
        assert_eq!(letter.reason, "refused_by_ledger");
        assert!(letter.detail.contains("no_poison"), "{}", letter.detail);
    }
    let trades = books::of_trades(&mut conn, "%");
    assert_eq!(trades.len(), 40);
    assert!(!trades.contains_key("POISON"));
    books::assert_sound(&mut conn);
}

#[test]
fn a_consumer_that_starts_again_goes_on_and_repeats_nothing() {
    const MESSAGES: u64 = 30;
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let notices = (0..MESSAGES).map(|number| Notice::paid(&format!("T{number}")));
    Log::open(&database).append_all(notices.map(|notice| envelope(&alipay, &notice)));
    let mut applied = 0;
    let mut starts = 0;
    while applied < MESSAGES {
        // Every one stops after its first batch.
        let settings = Settings { batch: 7, ..settings() };
        let mut consumer = open_with(&database, alipay.app(), settings);
        let mut more = Applied::default();
        wait::until("a batch is applied", || {
            match consumer.step(Duration::from_millis(10)).unwrap() {
                Step::Applied(batch) => {
                    more = batch;
                    true
                }
                Step::Idle | Step::Fenced => false,
            }
        });
        assert_eq!(more, Applied { applied: more.applied, ..Applied::default() });
        applied += more.applied;
        starts += 1;
        consumer.close();
    }
    assert_eq!(applied, MESSAGES);
    assert!(starts >= 5, "{starts} batches of 7 for {MESSAGES} messages");
    assert_eq!(drain(&database, &mut open(&database, alipay.app())), Applied::default());
    assert_eq!(sql::count(&mut conn, "inbox"), 30);
    books::assert_sound(&mut conn);
}

#[test]
fn two_consumers_that_race_over_one_log_apply_everything_once() {
    const TRADES: usize = 40;
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let notices: Vec<Notice> =
        (0..TRADES).flat_map(|number| Notice::seven(&format!("T{number:02}"))).collect();
    let log = Log::open(&database);
    for _ in 0..2 {
        log.append_all(notices.iter().map(|notice| envelope(&alipay, notice)));
    }

    let start = Barrier::new(2);
    let totals = thread::scope(|scope| {
        let rivals = [3, 5].map(|batch| {
            let settings = Settings { batch, ..settings() };
            let mut consumer = open_with(&database, alipay.app(), settings);
            let (start, database) = (&start, &database);
            scope.spawn(move || {
                start.wait();
                drain(database, &mut consumer)
            })
        });
        rivals.map(|rival| rival.join().unwrap())
    });

    let told = u64::try_from(notices.len()).unwrap();
    assert_eq!(totals.iter().map(|total| total.applied).sum::<u64>(), told);
    assert_eq!(totals.iter().map(|total| total.duplicate).sum::<u64>(), told);
    assert_eq!(totals.iter().map(|total| total.dead + total.quarantined).sum::<u64>(), 0);
    assert_eq!(sql::count(&mut conn, "inbox"), i64::try_from(2 * notices.len()).unwrap());
    let trades = books::of_trades(&mut conn, "%");
    assert_eq!(trades.len(), TRADES);
    assert!(trades.values().all(|book| *book == trades["T00"]));
    books::assert_sound(&mut conn);
}

#[test]
fn a_database_that_is_away_sets_nothing_aside() {
    let database = Database::new();
    let alipay = Alipay::new();
    let mut consumer = open(&database, alipay.app());
    for round in 0..2 {
        let log = Log::open(&database);
        log.append(envelope(&alipay, &Notice::paid(&format!("T{round}")))).unwrap();
        drop(log);
        database.go_away();
        for _ in 0..3 {
            assert!(consumer.step(Duration::ZERO).is_err());
        }
        database.come_back();
        assert_eq!(drain(&database, &mut consumer), Applied { applied: 1, ..Applied::default() });
    }
    let mut conn = database.connect();
    assert_eq!(sql::count(&mut conn, "dead_letter"), 0);
    books::assert_sound(&mut conn);
}

#[test]
fn the_loop_applies_what_comes_until_it_is_told_to_stop() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let log = Log::open(&database);
    let registry = Registry::new();
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let clock = Arc::new(FixedClock::new(DateTime::UNIX_EPOCH));
    let app = Arc::new(alipay.app());
    let consumer = Consumer::open(
        &database.log,
        &database.url,
        [app],
        Settings::default(),
        clock,
        &registry,
        &health,
    )
    .unwrap();
    assert!(!health.report().ready);

    thread::scope(|scope| {
        let running = scope.spawn(|| consumer.run(&shutdown));
        for round in 1..=2 {
            log.append_all(Notice::seven("T1").map(|notice| envelope(&alipay, &notice)));
            wait::until("all is applied", || sql::count(&mut conn, "inbox") == 7 * round);
        }
        wait::until("the consumer is well", || health.report().ready);
        shutdown.trigger();
        running.join().unwrap();
    });
    let metrics = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for outcome in ["applied", "duplicate"] {
        let line = format!("suanpan_consumer_applied_total{{outcome=\"{outcome}\"}} 7\n");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert_eq!(drain(&database, &mut open(&database, alipay.app())), Applied::default());
}

fn settings() -> Settings {
    Settings { linger: Duration::ZERO, ..Settings::default() }
}

fn open(database: &Database, app: App) -> Consumer {
    open_with(database, app, settings())
}

fn open_with(database: &Database, app: App, settings: Settings) -> Consumer {
    let clock = Arc::new(FixedClock::new(DateTime::UNIX_EPOCH));
    let (registry, health) = (Registry::new(), Health::new());
    Consumer::open(
        &database.log,
        &database.url,
        [Arc::new(app)],
        settings,
        clock,
        &registry,
        &health,
    )
    .unwrap()
}

/// Steps until nothing is left.
fn drain(database: &Database, consumer: &mut Consumer) -> Applied {
    let (mut conn, mut total) = (database.connect(), Applied::default());
    let mut reader = stream::Reader::beside(&database.log).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "only {total:?} was applied");
        match consumer.step(Duration::from_millis(10)).unwrap() {
            Step::Applied(more) => {
                total.applied += more.applied;
                total.kept += more.kept;
                total.duplicate += more.duplicate;
                total.quarantined += more.quarantined;
                total.dead += more.dead;
            }
            Step::Fenced => {}
            Step::Idle => {
                let left = consumer::parity::unapplied(&database.log, &mut reader, &mut conn);
                if left.unwrap() == 0 {
                    return total;
                }
            }
        }
    }
}

/// The notification as the ingress appends it.
fn envelope(alipay: &Alipay, notice: &Notice) -> Envelope {
    log::envelope(notice.out_trade_no(), alipay.sign(notice))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
