//! The outbox's relay: whatever dies, every event arrives, and those of one trade in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use alipay::RefundFee;
use chrono::DateTime;
use consumer::Relay;
use ledger::outbox::{self, LEAD_SILENT_MAX};
use ledger::{Connection, Content, QueryError};
use payment::{OutTradeNo, Topic, TradeNo};
use prometheus::{Registry, TextEncoder};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use service::{FixedClock, Shutdown};

use super::topic::{self, Found};
use crate::harness::feed::{self, Feed};
use crate::harness::log::{self, LogKind};
use crate::harness::{Alipay, Broker, Database, Notice, sql, wait};

/// Of each trade: paid, and three refunds.
const EVENTS_OF_A_TRADE: usize = 4;
/// More than a relay takes at once, by far: it reads as many rows as it may, and sends the first of each trade.
const MANY: usize = 1_500;

#[test]
fn relays_that_are_cut_off_leave_no_event_out_and_no_trade_out_of_order() {
    const CUTS: i64 = 4;
    let database = Database::new();
    let mut conn = database.connect();
    tell(&mut conn, MANY);
    let told = waiting(&mut conn);
    thread::scope(|scope| {
        let over = Over::default();
        for _ in 0..2 {
            let (mut relay, flag) = (open(&database).0, over.0.clone());
            scope.spawn(move || {
                while !flag.load(Ordering::Relaxed) {
                    // That it fails is the point.
                    drop(relay.step());
                }
            });
        }
        let mut cut = 0;
        wait::until("whoever sent was cut off often enough, and all has left", || {
            if cut < CUTS {
                cut += cut_off_whoever_sends(&mut conn);
            }
            sql::count(&mut conn, "outbox") == 0
        });
        assert!(cut >= CUTS, "all had left after {cut} cuts");
    });
    let found = topic::read(&database.log, Topic::LedgerEvents);
    assert!(found.len() > MANY * EVENTS_OF_A_TRADE, "nothing was sent twice");
    assert_told(&found, &told);
}

#[test]
fn one_relay_leads_and_the_next_goes_on_when_it_hangs() {
    let database = Database::new();
    let mut conn = database.connect();
    tell(&mut conn, 3);
    let told = waiting(&mut conn);
    let (mut other, _) = open(&database);
    // The leader has read the outbox, and hangs.
    let hung = outbox::lead(&mut conn, |conn| {
        assert_eq!(outbox::next(conn, 10).unwrap().len(), 3);
        assert_eq!(other.step().unwrap(), None, "there is a leader");
        wait::until("the other leads", || other.step().unwrap().is_some());
        Ok::<_, QueryError>(())
    });
    assert!(hung.is_err(), "a leader that was silent for {LEAD_SILENT_MAX:?} leads still");
    drain(&database, &mut other);
    assert_told(&topic::read(&database.log, Topic::LedgerEvents), &told);
}

#[test]
fn what_was_read_too_long_ago_is_not_sent() {
    let database = Database::new();
    let (mut conn, mut lock) = (database.connect(), database.connect());
    tell(&mut conn, 3);
    bury(&mut conn, &[b"a=1&b=2"]);
    let (mut relay, _) = open(&database);
    drain_events(&mut conn, &mut relay);
    bury(&mut conn, &[b"a=1&b=3"]);
    // Where it reads what a dead letter says.
    sql::run(&mut lock, "BEGIN; LOCK TABLE dead_letter IN ACCESS EXCLUSIVE MODE");
    thread::scope(|scope| {
        let stepped = scope.spawn(|| relay.step());
        wait::until("the relay is stuck for long", || {
            let stuck =
                "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query_start < now() - interval '6 s'";
            sql::number(&mut conn, stuck) == 1
        });
        sql::run(&mut lock, "ROLLBACK");
        let error = stepped.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("slept"), "{error}");
    });
    assert_eq!(topic::read(&database.log, Topic::DeadLetters).len(), 1);
    assert_eq!(sql::count(&mut conn, "outbox"), 1);
    drain(&database, &mut relay);
    assert_eq!(topic::read(&database.log, Topic::DeadLetters).len(), 2);
}

#[test]
fn while_the_log_is_away_events_wait_and_leave_later_in_their_order() {
    // One whose going away hurts nobody else.
    let own = (log::kind() == LogKind::Kafka).then(Broker::own);
    let mut database = Database::new();
    if let Some(broker) = &own {
        database.log = stream::Log::Kafka(log::kafka(broker));
        stream::set_up(&database.log).unwrap();
    }
    let (mut conn, mut lock) = (database.connect(), database.connect());
    let (mut relay, registry) = open(&database);
    tell(&mut conn, 20);
    let told = waiting(&mut conn);
    assert_eq!(relay.step().unwrap(), Some(20), "the first event of each");

    match &own {
        Some(broker) => broker.kill(),
        None => sql::run(&mut lock, "BEGIN; LOCK TABLE log_record IN ACCESS EXCLUSIVE MODE"),
    }
    for _ in 0..2 {
        let error = relay.step().unwrap_err();
        assert_eq!(error.to_string(), "cannot append the ledger's events");
        assert_eq!(sql::count(&mut conn, "outbox"), 60);
    }
    match &own {
        Some(broker) => broker.restart(),
        None => sql::run(&mut lock, "ROLLBACK"),
    }
    wait::until("all has left", || {
        drop(relay.step());
        sql::count(&mut conn, "outbox") == 0
    });
    assert_told(&topic::read(&database.log, Topic::LedgerEvents), &told);
    assert_metric(&registry, "suanpan_outbox_sent_total{kind=\"suanpan.trade.paid\"} 20");
    assert_metric(&registry, "suanpan_outbox_sent_total{kind=\"suanpan.trade.refunded\"} 60");
}

#[test]
fn an_event_that_was_sent_and_not_removed_is_sent_again_as_it_was() {
    let database = Database::new();
    let (mut conn, mut lock) = (database.connect(), database.connect());
    tell(&mut conn, 5);
    let told = waiting(&mut conn);
    let (mut relay, _) = open(&database);
    // It may read, and not remove.
    sql::run(&mut lock, "BEGIN; LOCK TABLE outbox IN SHARE MODE");
    thread::scope(|scope| {
        let stepped = scope.spawn(|| relay.step());
        wait::until("the relay removes what it sent", || sql::blocked(&mut conn) == 1);
        let end = "SELECT count(pg_terminate_backend(pid)) AS number FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
        assert_eq!(sql::number(&mut conn, end), 1);
        assert!(stepped.join().unwrap().is_err());
    });
    sql::run(&mut lock, "ROLLBACK");
    assert_eq!(waiting(&mut conn), told, "nothing was removed");
    drain(&database, &mut relay);
    let found = topic::read(&database.log, Topic::LedgerEvents);
    assert_eq!(found.len(), 5 * EVENTS_OF_A_TRADE + 5, "the first of each trade is there twice");
    assert_told(&found, &told);
}

#[test]
fn a_relay_that_is_stopped_leaves_nothing_half_done() {
    let database = Database::new();
    let mut conn = database.connect();
    tell(&mut conn, MANY);
    let told = waiting(&mut conn);
    let (relay, _) = open(&database);
    let shutdown = Shutdown::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| relay.run(&shutdown));
        let all = i64::try_from(MANY * EVENTS_OF_A_TRADE).unwrap();
        wait::until("something has left", || sql::count(&mut conn, "outbox") < all);
        shutdown.trigger();
        running.join().unwrap();
    });
    let is_left: BTreeSet<String> = waiting(&mut conn).into_values().flatten().collect();
    let found = topic::read(&database.log, Topic::LedgerEvents);
    let has_left: BTreeSet<String> = found.into_iter().map(|found| found.id).collect();
    assert_eq!(is_left.intersection(&has_left).count(), 0, "sent, and not removed");
    assert_eq!(
        is_left.union(&has_left).cloned().collect::<BTreeSet<_>>(),
        told.into_values().flatten().collect(),
        "removed, and not sent"
    );
}

#[test]
fn what_waits_and_what_has_left_is_measured() {
    let database = Database::new();
    let mut conn = database.connect();
    tell(&mut conn, 5);
    let (mut relay, registry) = open(&database);
    relay.step().unwrap();
    // Recorded in 1970, looked at forty-two seconds later, before the step.
    assert_metric(&registry, "suanpan_outbox_events 20");
    assert_metric(&registry, "suanpan_outbox_oldest_event_age_seconds 42");
    assert_metric(&registry, "suanpan_outbox_sent_total{kind=\"suanpan.trade.paid\"} 5");
    assert_metric(&registry, "suanpan_outbox_sent_total{kind=\"suanpan.trade.refunded\"} 0");
    drain(&database, &mut relay);
    assert_metric(&registry, "suanpan_outbox_sent_total{kind=\"suanpan.trade.refunded\"} 15");
    let (mut relay, registry) = open(&database);
    assert_eq!(relay.step().unwrap(), Some(0));
    assert_metric(&registry, "suanpan_outbox_events 0");
    assert_metric(&registry, "suanpan_outbox_oldest_event_age_seconds 0");
}

#[test]
fn a_dead_letter_that_its_topic_does_not_take_is_told_without_its_bytes() {
    let broker = Broker::shared();
    let mut database = Database::new();
    let kafka = log::kafka(&broker);
    database.log = stream::Log::Kafka(kafka.clone());
    stream::set_up(&database.log).unwrap();
    let client: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let topic = ResourceSpecifier::Topic(&kafka.topics.dead_letters);
    let small = AlterConfig::new(topic).set("max.message.bytes", "2000");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let altered = runtime.block_on(client.alter_configs([&small], &AdminOptions::new()));
    assert!(altered.unwrap().iter().all(Result::is_ok));

    let mut conn = database.connect();
    bury(&mut conn, &[b"short", &[b'x'; 5_000]]);
    let (mut relay, _) = open(&database);
    drain(&database, &mut relay);
    let found = topic::read(&database.log, Topic::DeadLetters);
    let bodies: BTreeMap<&str, &[u8]> =
        found.iter().map(|found| (found.id.as_str(), found.body.as_slice())).collect();
    let expected: [(&str, &[u8]); 2] =
        [("notifications/0/0", b"short"), ("notifications/0/1", b"")];
    assert_eq!(bodies, BTreeMap::from(expected));
    let long = found.iter().find(|found| found.id == "notifications/0/1").unwrap();
    let reason = long.headers["ce_reason"].as_str().unwrap();
    assert!(reason.starts_with("wrong_signature: not ours; "), "{reason}");
    assert!(
        reason.contains("`suanpan dead-letters show notifications/0/1 --raw` has its 5000 bytes")
    );
}

#[test]
fn long_dead_letters_are_not_all_held_in_memory_at_once() {
    let database = Database::new();
    let mut conn = database.connect();
    let long = vec![b'x'; 9 << 20];
    bury(&mut conn, &[&long, &long, &long]);
    let next = outbox::next(&mut conn, 100).unwrap();
    let places: Vec<&str> = next.iter().map(|outgoing| outgoing.envelope.id.as_str()).collect();
    assert_eq!(places, ["notifications/0/0", "notifications/0/1"]);
    let ids: Vec<i64> = next.iter().map(|outgoing| outgoing.outbox_id).collect();
    outbox::sent(&mut conn, &ids).unwrap();
    let next = outbox::next(&mut conn, 100).unwrap();
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].envelope.body, long);
}

/// `cargo test --release -p tests --test it -- --ignored --nocapture how_long_the_outbox`
#[test]
#[ignore = "measures, and takes a release build to mean anything"]
fn how_long_the_outbox_takes_to_empty() {
    const EVENTS: i64 = 100_000;
    let database = Database::new();
    let mut conn = database.connect();
    sql::run(
        &mut conn,
        &format!(
            "INSERT INTO outbox (app_id, kind, event_id, key, body, recorded_at)
             SELECT '2021000000000001', 'suanpan.trade.paid', n || '/paid', '2021000000000001/O' || n,
                    '{{\"trade_no\":\"2024030522001400000000' || n || '\",\"out_trade_no\":\"O' || n
                    || '\",\"total_fen\":10000,\"receipt_fen\":9500,\"receipt_known\":true,'
                    || '\"paid_at\":\"2024-03-05T01:00:12Z\"}}', now()
               FROM generate_series(1, {EVENTS}) AS n"
        ),
    );
    let (mut relay, _) = open(&database);
    let started = Instant::now();
    drain(&database, &mut relay);
    let taken = started.elapsed();
    println!("{:?}: {EVENTS} events in {taken:?}", log::kind());
    assert_eq!(sql::count(&mut conn, "outbox"), 0);
}

fn open(database: &Database) -> (Relay, Registry) {
    let registry = Registry::new();
    let clock = FixedClock::new(DateTime::UNIX_EPOCH + Duration::from_secs(42));
    (Relay::open(&database.log, &database.url, Arc::new(clock), &registry).unwrap(), registry)
}

/// Steps until nothing waits.
fn drain(database: &Database, relay: &mut Relay) {
    drain_events(&mut database.connect(), relay);
}

fn drain_events(conn: &mut Connection, relay: &mut Relay) {
    wait::until("all events have left", || {
        relay.step().unwrap();
        sql::count(conn, "outbox") == 0
    });
}

/// Has the ledger told of so many trades, each paid and refunded three times.
fn tell(conn: &mut Connection, trades: usize) {
    let alipay = Alipay::new();
    let [_, paid, first, second, third, ..] = Notice::seven("T");
    let facts: Vec<_> = [paid, first, second, third]
        .iter()
        .flat_map(|notice| alipay.read(notice).facts(RefundFee::Cumulative))
        .collect();
    let contents = (0..trades).map(|trade| {
        let facts = facts.iter().cloned().map(|mut fact| {
            fact.trade_no = TradeNo::parse(&format!("T{trade}")).unwrap();
            fact.out_trade_no = OutTradeNo::parse(&format!("O{trade}")).unwrap();
            fact
        });
        feed::genuine(&format!("N{trade}"), facts.collect())
    });
    Feed::claim(conn).apply(conn, contents.collect()).unwrap();
    let expected = i64::try_from(trades * EVENTS_OF_A_TRADE).unwrap();
    assert_eq!(sql::count(conn, "outbox"), expected);
}

/// Has the ledger set these bodies aside.
fn bury(conn: &mut Connection, bodies: &[&[u8]]) {
    let dead = || Content::Dead { reason: "wrong_signature", detail: "not ours".to_owned() };
    let mut batch = Feed::claim(conn).batch(bodies.iter().map(|_| dead()).collect());
    for (message, body) in batch.messages.iter_mut().zip(bodies) {
        message.body = body.to_vec();
    }
    ledger::apply(conn, &batch, DateTime::UNIX_EPOCH).unwrap();
}

/// The ids of what waits, by key, in order.
fn waiting(conn: &mut Connection) -> BTreeMap<String, Vec<String>> {
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = "SELECT key || ' ' || event_id AS text FROM outbox ORDER BY outbox_id";
    for text in sql::texts(conn, all) {
        let (key, id) = text.split_once(' ').unwrap();
        ids.entry(key.to_owned()).or_default().push(id.to_owned());
    }
    ids
}

/// Everything is there, each trade's events in their order; what is there again is the same again.
#[track_caller]
fn assert_told(found: &[Found], told: &BTreeMap<String, Vec<String>>) {
    let mut firsts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut known: BTreeMap<&str, &Found> = BTreeMap::new();
    for found in found {
        match known.get(found.id.as_str()) {
            None => {
                known.insert(&found.id, found);
                firsts.entry(found.key.clone()).or_default().push(found.id.clone());
            }
            Some(first) => {
                let same = |found: &Found| {
                    (found.key.clone(), found.kind.clone(), found.sequence, found.body.clone())
                };
                assert_eq!(same(first), same(found));
            }
        }
    }
    assert_eq!(firsts, *told);
}

/// Ends the ledger's connection of the relay that waits for the log; how many there were.
fn cut_off_whoever_sends(conn: &mut Connection) -> i64 {
    sql::number(
        conn,
        "SELECT count(pg_terminate_backend(a.pid)) AS number
           FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
            AND (l.classid, l.objid) = (x'5355414e'::bigint::oid, x'50414e02'::bigint::oid)
            AND a.state = 'idle in transaction'",
    )
}

#[track_caller]
fn assert_metric(registry: &Registry, line: &str) {
    let metrics = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(metrics.lines().any(|found| found == line), "`{line}` is not in\n{metrics}");
}

/// Set when it goes, so also where the test fails: loops that look at it end.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
