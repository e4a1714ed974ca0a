//! Messages that contradict each other, in any order.

use std::cell::{Cell, RefCell};
use std::fmt;

use chrono::{DateTime, Duration, Utc};
use ledger::{Content, audit};
use payment::{AppId, Fact, Fen, OutTradeNo, Reported, RequestNo, Told, TradeNo};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::alipay::APP_ID;
use crate::harness::{Database, Feed, books, feed, sql};

#[test]
fn contradictions_too_make_one_ledger_in_any_order_repetition_and_batch() {
    const CASES: u32 = 300;
    let database = Database::new();
    let mut conn = database.connect();
    // What is committed is the same, only sooner.
    sql::run(&mut conn, "SET synchronous_commit = off");
    let feed = Feed::claim(&mut conn);
    let (conn, feed, trades) = (RefCell::new(conn), Cell::new(feed), Cell::new(0));

    let book = |batches: &[Vec<Message>]| {
        let trade_no = format!("T{:06}", trades.replace(trades.get() + 1));
        let (mut conn, mut reading) = (conn.borrow_mut(), feed.get());
        for batch in batches {
            let contents = batch.iter().map(|message| message.about(&trade_no)).collect();
            let applied = reading.apply(&mut conn, contents);
            prop_assert!(applied.is_ok(), "{applied:?}");
        }
        feed.set(reading);
        Ok(books::of_trades(&mut conn, &trade_no).remove(&trade_no).unwrap())
    };
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let tested = TestRunner::new(config).run(&told_twice(), |(once, again)| {
        prop_assert_eq!(book(&once)?, book(&again)?);
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
    books::assert_sound(&mut conn.borrow_mut());
    books::assert_told(&mut conn.borrow_mut());
    audit::books(&mut conn.borrow_mut(), |finding| panic!("{finding:?}")).unwrap();
}

type Batches = Vec<Vec<Message>>;

/// The same messages in one batch, and again in another order, some of them repeatedly, in batches.
fn told_twice() -> impl Strategy<Value = (Batches, Batches)> {
    vec(message(), 1..9).prop_flat_map(|once| {
        let all = once.clone();
        let shuffled = vec(select(once.clone()), 0..6)
            .prop_map(move |repeated| [all.clone(), repeated].concat())
            .prop_shuffle();
        let again = (shuffled, vec(1..5_usize, 1..4)).prop_map(|(messages, sizes)| {
            let mut rest = messages.as_slice();
            let mut batches = Vec::new();
            for size in sizes.into_iter().cycle() {
                let (batch, left) = rest.split_at(size.min(rest.len()));
                batches.push(batch.to_vec());
                rest = left;
                if rest.is_empty() {
                    break;
                }
            }
            batches
        });
        (Just(vec![once]), again)
    })
}

/// A message about one trade. A `notify_id` may come with several contents.
#[derive(Clone)]
struct Message {
    notify_id: u8,
    says: Vec<Says>,
}

#[derive(Clone, Debug)]
struct Says {
    out_trade_no: &'static str,
    told: Told,
}

/// One line each: a failing case is a list of them.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says: Vec<String> = self.says.iter().map(|says| format!("{says:?}")).collect();
        write!(f, "{}: {}", self.notify_id, says.join("; "))
    }
}

/// Stands for the number of a refund that was told without one, which is the trade's.
const UNNAMED: &str = "unnamed";

impl Message {
    fn about(&self, trade_no: &str) -> Content {
        let trade = TradeNo::parse(trade_no).unwrap();
        let fact = |says: &Says| {
            let mut told = says.told.clone();
            if let Told::Refunded { request_no, .. } = &mut told
                && request_no.as_str() == UNNAMED
            {
                *request_no = RequestNo::parse(trade_no).unwrap();
            }
            Fact {
                app_id: AppId::parse(APP_ID).unwrap(),
                trade_no: trade.clone(),
                out_trade_no: OutTradeNo::parse(says.out_trade_no).unwrap(),
                told,
            }
        };
        let facts = self.says.iter().map(fact).collect();
        feed::genuine(&format!("{trade_no}-{}", self.notify_id), facts)
    }
}

fn message() -> impl Strategy<Value = Message> {
    let out_trade_no = prop_oneof![9 => Just("O-1"), 1 => Just("O-2")];
    let says = (out_trade_no, told()).prop_map(|(out_trade_no, told)| Says { out_trade_no, told });
    (0..9_u8, vec(says, 1..4)).prop_map(|(notify_id, says)| Message { notify_id, says })
}

/// Few values each, so that facts meet and contradict each other.
fn told() -> impl Strategy<Value = Told> {
    let yuan = |most: i64| (1..=most).prop_map(|yuan| Fen::new(yuan * 100));
    let at = || (0..4_i64).prop_map(|hours| EIGHT_O_CLOCK + Duration::hours(hours));
    let request_no = select(vec!["R1", "R2", "R3", UNNAMED])
        .prop_map(|request_no| RequestNo::parse(request_no).unwrap());
    let reported = prop_oneof![
        2 => yuan(4).prop_map(Reported::Cumulative),
        1 => yuan(4).prop_map(Reported::Single),
    ];
    prop_oneof![
        1 => (yuan(3), at()).prop_map(|(total, at)| Told::Created { total, at }),
        3 => (yuan(3), option::of(yuan(3)), at())
            .prop_map(|(total, receipt, at)| Told::Paid { total, receipt, at }),
        4 => (request_no, reported, option::of(yuan(2)), at()).prop_map(
            |(request_no, reported, receipt, at)| {
                Told::Refunded { request_no, reported, receipt, at }
            }
        ),
        1 => option::of(at()).prop_map(|at| Told::Closed { at }),
        1 => Just(Told::Finished),
    ]
}

/// 2024-03-05 08:00 in Beijing.
const EIGHT_O_CLOCK: DateTime<Utc> = DateTime::from_timestamp(1_709_596_800, 0).unwrap();
