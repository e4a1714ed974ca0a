//! Whoever claimed a partition last may apply its messages, and nobody else.

use std::thread;

use alipay::RefundFee;
use chrono::DateTime;
use ledger::position::Advance;
use ledger::{Applied, ApplyError, Batch, Content};

use crate::harness::{Alipay, Database, Feed, Notice, feed, sql, wait};

#[test]
fn a_claim_shuts_out_whoever_held_the_partition_also_where_its_offsets_still_fit() {
    let database = Database::new();
    let (mut paused, mut next) = (database.connect(), database.connect());
    let alipay = Alipay::new();
    let paid =
        |trade_no: &str| feed::genuine(trade_no, alipay.read(&Notice::paid(trade_no)).facts(FEE));
    let mut asleep = Feed::claim(&mut paused);
    asleep.apply(&mut paused, vec![paid("T1")]).unwrap();

    let mut awake = Feed::claim(&mut next);
    assert_eq!(awake.next_offset, asleep.next_offset);
    for _ in 0..2 {
        let fenced = asleep.apply(&mut paused, vec![paid("T2")]);
        assert!(matches!(fenced, Err(ApplyError::Fenced)), "{fenced:?}");
    }
    assert_eq!(sql::count(&mut next, "inbox"), 1);
    awake.apply(&mut next, vec![paid("T2")]).unwrap();
    assert_eq!(sql::count(&mut next, "inbox"), 2);
    // And back: nothing remembers who the holder is but the epoch.
    let mut again = Feed::claim(&mut paused);
    again.apply(&mut paused, vec![paid("T3")]).unwrap();
    let fenced = awake.apply(&mut next, vec![paid("T4")]);
    assert!(matches!(fenced, Err(ApplyError::Fenced)), "{fenced:?}");
}

const FEE: RefundFee = RefundFee::Cumulative;

#[test]
fn a_claim_waits_for_the_batch_that_is_being_applied_and_goes_on_behind_it() {
    let database = Database::new();
    let mut conn = database.connect();
    let alipay = Alipay::new();
    let paid = || feed::genuine("N", alipay.read(&Notice::paid("T1")).facts(FEE));
    let mut feed = Feed::claim(&mut conn);
    feed.apply(&mut conn, vec![paid()]).unwrap();
    for round in 2..4 {
        let mut holder = database.connect();
        sql::run(&mut holder, "BEGIN; SELECT 1 FROM trade FOR UPDATE");
        let batch = feed.batch(vec![paid()]);
        let (applied, claimed) = thread::scope(|scope| {
            let applying = scope
                .spawn(|| ledger::apply(&mut database.connect(), &batch, DateTime::UNIX_EPOCH));
            wait::until("the batch waits for the trade", || sql::blocked(&mut conn) == 1);
            let claiming = scope.spawn(|| Feed::claim(&mut database.connect()));
            wait::until("the claim waits for the batch", || sql::blocked(&mut conn) == 2);
            sql::run(&mut holder, "COMMIT");
            (applying.join().unwrap(), claiming.join().unwrap())
        });
        assert_eq!(applied.unwrap(), Applied { duplicate: 1, ..Applied::default() });
        assert_eq!(claimed.next_offset, round);
        assert!(claimed.epoch > feed.epoch);
        feed = claimed;
    }
}

#[test]
fn of_many_who_claim_at_once_none_shares_an_epoch_and_the_last_one_holds_all() {
    const CLAIMS: usize = 20;
    let database = Database::new();
    let asked = [("notifications", 0), ("notifications", 1), ("quarantine", 0)];
    let claimed = thread::scope(|scope| {
        let claiming = [0, 1, 2, 3].map(|turn| {
            let database = &database;
            scope.spawn(move || {
                let mut conn = database.connect();
                // Each asks in an order of its own, and is answered in that order.
                let mut mine = asked;
                mine.rotate_left(turn % 3);
                let claim = |_| ledger::position::claim(&mut conn, &mine).unwrap();
                let claims: Vec<_> = (0..CLAIMS).map(claim).collect();
                claims
                    .into_iter()
                    .map(|mut claims| {
                        claims.rotate_right(turn % 3);
                        claims
                    })
                    .collect::<Vec<_>>()
            })
        });
        claiming.map(|claiming| claiming.join().unwrap()).concat()
    });
    let mut epochs: Vec<i64> = claimed.iter().map(|claims| claims[0].epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=80).collect::<Vec<i64>>());
    for claims in claimed {
        // Taken together: nobody came between the partitions of one claim.
        assert!(claims.iter().all(|claim| claim.epoch == claims[0].epoch), "{claims:?}");
    }
    let mut conn = database.connect();
    assert_eq!(ledger::position::read(&mut conn, &asked).unwrap(), [0, 0, 0]);
}

#[test]
fn records_that_the_log_lost_stand_as_one_dead_letter_at_the_first_of_them() {
    let database = Database::new();
    let mut conn = database.connect();
    let lost = Content::Dead {
        reason: "missing_records",
        detail: "offsets 0 to 41 are no longer in the log".to_owned(),
    };
    for round in 1..3 {
        let feed = Feed::claim(&mut conn);
        let mut batch = feed.batch(vec![lost.clone()]);
        batch.messages[0].app_id = payment::AppId::parse("unknown").unwrap();
        batch.messages[0].body = Vec::new();
        batch.steps[0].to = feed.next_offset + 42;
        let applied = ledger::apply(&mut conn, &batch, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(applied, Applied { dead: 1, ..Applied::default() });
        assert_eq!(Feed::claim(&mut conn).next_offset, 42 * round);
        assert_eq!(sql::count(&mut conn, "dead_letter"), round);
        assert_eq!(sql::count(&mut conn, "outbox"), round);
    }
}

#[test]
fn a_partition_that_nobody_claimed_cannot_be_moved() {
    let database = Database::new();
    let mut conn = database.connect();
    let (log_topic, partition) = (feed::LOG_TOPIC.into(), 3);
    let batch = Batch {
        steps: vec![Advance { log_topic, partition, epoch: 0, from: 0, to: 1 }],
        ..Batch::default()
    };
    let fenced = ledger::apply(&mut conn, &batch, DateTime::UNIX_EPOCH);
    assert!(matches!(fenced, Err(ApplyError::Fenced)), "{fenced:?}");
}
