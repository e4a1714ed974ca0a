//! A batch is applied whole or not at all, and once.

use std::thread;

use alipay::RefundFee;
use chrono::DateTime;
use ledger::book::{self, Origin};
use ledger::position::Advance;
use ledger::{Applied, ApplyError, Connection, Content};

use crate::harness::{Alipay, Database, Feed, Notice, books, feed, sql, wait};

#[test]
fn a_batch_with_a_message_that_is_refused_writes_nothing() {
    let database = Database::new();
    let mut conn = database.connect();
    sql::run(&mut conn, "ALTER TABLE trade ADD CHECK (trade_no <> 'BAD')");
    let alipay = Alipay::new();
    let batch = || {
        let dead = Content::Dead { reason: "wrong_signature", detail: "none".to_owned() };
        let set_aside = Content::Quarantined { reason: "other_seller".to_owned() };
        let [good, bad] = ["GOOD", "BAD"].map(|trade_no| paid(&alipay, trade_no));
        vec![good, dead, set_aside, bad]
    };
    let mut feed = Feed::claim(&mut conn);
    for _ in 0..2 {
        let refused = feed.apply(&mut conn, batch());
        assert!(matches!(refused, Err(ApplyError::Refused(_))), "{refused:?}");
        assert_eq!(rows(&mut conn), 0);
        assert_eq!(position(&mut conn), 0);
    }

    let mut rest = batch();
    rest.pop();
    let applied = feed.apply(&mut conn, rest).unwrap();
    assert_eq!(applied, Applied { applied: 1, quarantined: 1, dead: 1, ..Applied::default() });
    assert_eq!(position(&mut conn), 3);
}

#[test]
fn whoever_reads_from_another_position_than_the_ledgers_is_fenced() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    let [first, second] = ["T1", "T2"].map(|trade_no| paid(&alipay, trade_no));
    feed.apply(&mut conn, vec![first]).unwrap();
    let before = rows(&mut conn);

    // Behind, and ahead.
    for next_offset in [0, 2] {
        for _ in 0..2 {
            let fenced = Feed { next_offset, ..feed }.apply(&mut conn, vec![second.clone()]);
            assert!(matches!(fenced, Err(ApplyError::Fenced)), "{fenced:?}");
        }
    }
    // Right in one partition and wrong in another.
    let mut half = feed.batch(vec![second.clone()]);
    let other = ledger::position::claim(&mut conn, &[(feed::LOG_TOPIC, 1)]).unwrap()[0];
    let to = 8;
    half.steps.push(Advance {
        partition: 1,
        epoch: other.epoch,
        from: 7,
        to,
        ..half.steps[0].clone()
    });
    let fenced = ledger::apply(&mut conn, &half, DateTime::UNIX_EPOCH);
    assert!(matches!(fenced, Err(ApplyError::Fenced)), "{fenced:?}");
    assert_eq!(rows(&mut conn), before);
    assert_eq!(position(&mut conn), 1);

    feed.apply(&mut conn, vec![second]).unwrap();
    assert_eq!(position(&mut conn), 2);
}

#[test]
fn of_two_who_apply_the_same_batch_at_once_one_is_fenced() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    for round in 0..3 {
        let mut holder = database.connect();
        sql::run(&mut holder, "BEGIN; SELECT 1 FROM log_position FOR UPDATE");
        let batch = feed.batch(vec![paid(&alipay, &format!("T{round}"))]);
        let outcomes = thread::scope(|scope| {
            let rivals = [(); 2].map(|()| {
                let mut conn = database.connect();
                let batch = &batch;
                scope.spawn(move || ledger::apply(&mut conn, batch, DateTime::UNIX_EPOCH))
            });
            wait::until("both wait for the position", || sql::blocked(&mut conn) == 2);
            sql::run(&mut holder, "COMMIT");
            rivals.map(|rival| rival.join().unwrap())
        });
        let applied = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let fenced = |outcome: &&_| matches!(outcome, Err(ApplyError::Fenced));
        assert_eq!((applied, outcomes.iter().filter(fenced).count()), (1, 1), "{outcomes:?}");
        feed.next_offset += 1;
        assert_eq!(position(&mut conn), feed.next_offset);
        assert_eq!(sql::count(&mut conn, "inbox"), feed.next_offset);
    }
    books::assert_sound(&mut conn);
}

#[test]
fn two_who_race_over_the_same_messages_apply_each_once() {
    const MESSAGES: usize = 300;
    let database = Database::new();
    let alipay = Alipay::new();
    let sample = alipay.read(&Notice::paid("T")).facts(RefundFee::Cumulative);
    let contents: Vec<Content> = (0..MESSAGES)
        .map(|number| {
            let mut facts = sample.clone();
            for fact in &mut facts {
                fact.trade_no = payment::TradeNo::parse(&format!("T{}", number / 2)).unwrap();
            }
            // Every second one is the one before, told again.
            feed::genuine(&format!("N{}", number / 2), facts)
        })
        .collect();

    let epoch = Feed::claim(&mut database.connect()).epoch;
    let race = |batch: usize| {
        let mut conn = database.connect();
        let mut total = Applied::default();
        loop {
            let next_offset = position(&mut conn);
            let start = usize::try_from(next_offset).unwrap();
            let messages: Vec<Content> = contents.iter().skip(start).take(batch).cloned().collect();
            if messages.is_empty() {
                return total;
            }
            match (Feed { epoch, next_offset }).apply(&mut conn, messages) {
                Ok(more) => {
                    total.applied += more.applied;
                    total.duplicate += more.duplicate;
                }
                Err(ApplyError::Fenced) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let totals = thread::scope(|scope| {
        let rivals = [3, 5].map(|batch| scope.spawn(move || race(batch)));
        rivals.map(|rival| rival.join().unwrap())
    });

    let expected = u64::try_from(MESSAGES / 2).unwrap();
    assert_eq!(totals.iter().map(|total| total.applied).sum::<u64>(), expected);
    assert_eq!(totals.iter().map(|total| total.duplicate).sum::<u64>(), expected);
    let mut conn = database.connect();
    assert_eq!(sql::count(&mut conn, "inbox"), i64::try_from(MESSAGES).unwrap());
    assert_eq!(sql::count(&mut conn, "journal_entry"), i64::try_from(MESSAGES / 2).unwrap());
    books::assert_sound(&mut conn);
}

#[test]
fn of_two_who_make_one_trade_at_once_the_later_one_tries_again_and_adds_to_it() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    for trade_no in ["T1", "T2"] {
        // What somebody else is about to commit of the same trade.
        let told = alipay.read(&Notice::waiting(trade_no)).facts(RefundFee::Cumulative);
        let told: Vec<_> = told.into_iter().map(|fact| (fact, Origin::Query)).collect();
        let mut holder = database.connect();
        sql::run(&mut holder, "BEGIN");
        book::record(&mut holder, &told, DateTime::UNIX_EPOCH).unwrap();
        let batch = feed.batch(vec![paid(&alipay, trade_no)]);
        let outcome = thread::scope(|scope| {
            let later = scope
                .spawn(|| ledger::apply(&mut database.connect(), &batch, DateTime::UNIX_EPOCH));
            wait::until("the later one waits", || sql::blocked(&mut conn) == 1);
            sql::run(&mut holder, "COMMIT");
            later.join().unwrap()
        });
        assert!(matches!(outcome, Err(ApplyError::Transient(_))), "{outcome:?}");
        assert_eq!(position(&mut conn), feed.next_offset);

        feed.apply(&mut conn, vec![paid(&alipay, trade_no)]).unwrap();
        let book = &books::of_trades(&mut conn, trade_no)[trade_no];
        assert!(book.contains("created 2024-03-05") && book.contains("paid 2024-03-05"), "{book}");
    }
    books::assert_sound(&mut conn);
    books::assert_told(&mut conn);
}

#[test]
fn a_notice_told_again_is_a_duplicate_and_changes_nothing() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    // Once within the batch, and twice after it.
    let told = || paid(&alipay, "T1");
    let first = feed.apply(&mut conn, vec![told(), told()]).unwrap();
    assert_eq!(first, Applied { applied: 1, duplicate: 1, ..Applied::default() });
    let book = books::of_trades(&mut conn, "T1");
    for _ in 0..2 {
        let again = feed.apply(&mut conn, vec![told()]).unwrap();
        assert_eq!(again, Applied { duplicate: 1, ..Applied::default() });
    }
    assert_eq!(books::of_trades(&mut conn, "T1"), book);
    assert_eq!(sql::count(&mut conn, "journal_entry"), 1);
    assert_eq!(sql::count(&mut conn, "outbox"), 1);
    let outcomes = sql::texts(&mut conn, "SELECT outcome AS text FROM inbox ORDER BY log_offset");
    assert_eq!(outcomes, ["applied", "duplicate", "duplicate", "duplicate"]);
}

#[test]
fn a_notify_id_that_comes_back_with_other_content_hides_nothing() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let mut feed = Feed::claim(&mut conn);
    feed.apply(&mut conn, vec![paid(&alipay, "T1")]).unwrap();
    for _ in 0..2 {
        let other = Notice::paid("T1").with("total_amount", "96.00");
        let again = feed.apply(&mut conn, vec![content(&alipay, &other)]).unwrap();
        assert_eq!(again, Applied { duplicate: 1, ..Applied::default() });
    }
    assert_eq!(sql::count(&mut conn, "fact"), 2);
    let conflicts = "SELECT subject || ' ' || told AS text FROM conflict ORDER BY told";
    assert_eq!(sql::texts(&mut conn, conflicts), ["total 100.00", "total 96.00"]);
    books::assert_sound(&mut conn);
}

fn paid(alipay: &Alipay, trade_no: &str) -> Content {
    content(alipay, &Notice::paid(trade_no))
}

fn content(alipay: &Alipay, notice: &Notice) -> Content {
    let notification = alipay.read(notice);
    let notify_id = notification.notify_id.as_ref().unwrap().as_str();
    feed::genuine(notify_id, notification.facts(RefundFee::Cumulative))
}

/// How many rows there are in everything that a batch may write to, the position's left out.
fn rows(conn: &mut Connection) -> i64 {
    [
        "inbox",
        "quarantine",
        "dead_letter",
        "fact",
        "trade",
        "refund",
        "conflict",
        "journal_entry",
        "journal_line",
        "outbox",
    ]
    .into_iter()
    .map(|table| sql::count(conn, table))
    .sum()
}

fn position(conn: &mut Connection) -> i64 {
    ledger::position::read(conn, &[(feed::LOG_TOPIC, 0)]).unwrap()[0]
}
