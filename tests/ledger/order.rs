//! A trade's notices in every order.

use alipay::RefundFee;
use ledger::{Content, audit};
use payment::{Fact, OutTradeNo, RequestNo, Told, TradeNo};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::harness::{Alipay, Database, Feed, Notice, books, feed, sql};

/// What the seven notices make of the trade, in whatever order they come.
const BOOK: &str = "\
O-T refunded, total 10000, receipt 9500 (known: t), refunded 10000, created 2024-03-05 01:00:00+00, \
paid 2024-03-05 01:00:12+00, closed 2024-03-05 01:30:00+00, conflict: f, doubt: 
refund R1: 3000, receipt 2850, at 2024-03-06 02:00:00.123+00, confirmed: f, conflict: f
refund R2: 2000, receipt 1900, at 2024-03-07 02:00:00.456+00, confirmed: f, conflict: f
refund R3: 5000, receipt 4750, at 2024-03-08 02:00:00.789+00, confirmed: f, conflict: f
fact of O-T: closed      2024-03-05 01:30:00+00
fact of O-T: closed      2024-03-08 02:00:00+00
fact of O-T: created  10000    2024-03-05 01:00:00+00
fact of O-T: finished      
fact of O-T: paid  10000    2024-03-05 01:00:12+00
fact of O-T: paid  10000 9500   2024-03-05 01:00:12+00
fact of O-T: refunded R1   3000 cumulative 2024-03-06 02:00:00.123+00
fact of O-T: refunded R2   5000 cumulative 2024-03-07 02:00:00.456+00
fact of O-T: refunded R3   10000 cumulative 2024-03-08 02:00:00.789+00
balance  alipay:clearing: 9500
balance  merchant:discount: 500
balance  sales: -10000
balance R1 alipay:clearing: -2850
balance R1 merchant:discount: -150
balance R1 sales: 3000
balance R2 alipay:clearing: -1900
balance R2 merchant:discount: -100
balance R2 sales: 2000
balance R3 alipay:clearing: -4750
balance R3 merchant:discount: -250
balance R3 sales: 5000";

#[test]
fn every_order_and_repetition_of_a_trades_seven_notices_makes_one_ledger() {
    const RETELLINGS: usize = 2;
    let alipay = Alipay::new();
    let told = Notice::seven("T").map(|notice| alipay.read(&notice).facts(RefundFee::Cumulative));
    let mut dice = ChaCha8Rng::seed_from_u64(20_240_305);
    let tales: Vec<Tale> = permutations(told.len())
        .flat_map(|order| {
            let mut tales = vec![Tale::of(&order, "")];
            for seed in 0..RETELLINGS {
                tales.push(Tale {
                    order: retold(&order, &mut dice),
                    ..Tale::of(&order, &format!("-{seed}"))
                });
            }
            tales
        })
        .collect();
    assert_eq!(tales.len(), 5040 * (1 + RETELLINGS));

    let database = Database::new();
    let mut conn = database.connect();
    sql::run(&mut conn, "SET synchronous_commit = off");
    let mut messages = interleaved(&tales, &told, &mut dice);
    let (all, firsts) = (messages.len(), tales.len() * told.len());
    let (mut feed, mut applied, mut duplicate) = (Feed::claim(&mut conn), 0, 0);
    while !messages.is_empty() {
        let most = *[1, 7, 100, 500, 3_000, 6_000].choose(&mut dice).unwrap();
        let rest = messages.split_off(most.min(messages.len()));
        let outcome = feed.apply(&mut conn, std::mem::replace(&mut messages, rest)).unwrap();
        applied += outcome.applied;
        duplicate += outcome.duplicate;
    }

    assert_eq!(usize::try_from(applied).unwrap(), firsts);
    assert_eq!(usize::try_from(duplicate).unwrap(), all - firsts);
    let trades = books::of_trades(&mut conn, "%");
    assert_eq!(trades.len(), tales.len());
    for (trade_no, book) in trades {
        assert_eq!(book, BOOK, "{trade_no}: its digits are the order in which it was told");
    }
    books::assert_sound(&mut conn);
    books::assert_told(&mut conn);
    audit::books(&mut conn, |finding| panic!("{finding:?}")).unwrap();
}

/// The notices of one trade in the order in which they are told, by their numbers.
struct Tale {
    trade_no: TradeNo,
    out_trade_no: OutTradeNo,
    order: Vec<usize>,
}

impl Tale {
    fn of(order: &[usize], suffix: &str) -> Tale {
        let digits: String = order.iter().map(ToString::to_string).collect();
        Tale {
            trade_no: TradeNo::parse(&format!("{digits}{suffix}")).unwrap(),
            out_trade_no: OutTradeNo::parse(&format!("O-{digits}{suffix}")).unwrap(),
            order: order.to_vec(),
        }
    }

    fn message(&self, place: usize, told: &[Vec<Fact>]) -> Content {
        let notice = self.order[place];
        let of_this_trade = |fact: &Fact| {
            let mut told = fact.told.clone();
            // A refund without a number has the trade's.
            if let Told::Refunded { request_no, .. } = &mut told
                && request_no.as_str() == fact.trade_no.as_str()
            {
                *request_no = RequestNo::parse(self.trade_no.as_str()).unwrap();
            }
            let (app_id, trade_no) = (fact.app_id.clone(), self.trade_no.clone());
            Fact { app_id, trade_no, out_trade_no: self.out_trade_no.clone(), told }
        };
        let facts = told[notice].iter().map(of_this_trade).collect();
        feed::genuine(&format!("{}-{notice}", self.trade_no), facts)
    }
}

fn permutations(of: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..(1..=of).product()).map(move |mut number: usize| {
        let mut left: Vec<usize> = (0..of).collect();
        let choose = |choices| {
            let choice = left.remove(number % choices);
            number /= choices;
            choice
        };
        (1..=of).rev().map(choose).collect()
    })
}

/// The same order, with some of it told again later.
fn retold(order: &[usize], dice: &mut ChaCha8Rng) -> Vec<usize> {
    let mut retold = order.to_vec();
    for _ in 0..dice.random_range(1..=4) {
        let first = dice.random_range(0..retold.len());
        let again = dice.random_range(first..retold.len()) + 1;
        retold.insert(again, retold[first]);
    }
    retold
}

/// All tales told at once: each goes on by up to three messages before the next has its turn.
fn interleaved(tales: &[Tale], told: &[Vec<Fact>], dice: &mut ChaCha8Rng) -> Vec<Content> {
    let mut messages = Vec::new();
    let mut places = vec![0; tales.len()];
    let mut unfinished = true;
    while unfinished {
        unfinished = false;
        for (tale, place) in tales.iter().zip(&mut places) {
            let until = tale.order.len().min(*place + dice.random_range(0..=3));
            messages.extend((*place..until).map(|place| tale.message(place, told)));
            *place = until;
            unfinished |= until < tale.order.len();
        }
    }
    messages
}

#[test]
fn a_refund_told_without_its_number_is_booked_once_whenever_the_number_comes() {
    let alipay = Alipay::new();
    let at = "2024-03-06 10:00:00.123";
    let told = [
        Notice::paid("T"),
        Notice::refunded_unnamed("T", "30.00", at),
        Notice::refunded("T", "R1", "30.00", at),
    ]
    .map(|notice| alipay.read(&notice).facts(RefundFee::Cumulative));
    let database = Database::new();
    let mut conn = database.connect();
    let mut feed = Feed::claim(&mut conn);
    for order in permutations(told.len()) {
        let tale = Tale::of(&order, "");
        // A batch each, and all of it once more.
        for place in [0, 1, 2, 0, 1, 2] {
            feed.apply(&mut conn, vec![tale.message(place, &told)]).unwrap();
        }
    }
    let trades = books::of_trades(&mut conn, "%");
    assert_eq!(trades.len(), 6);
    for (trade_no, book) in &trades {
        assert_eq!(*book, trades["012"], "{trade_no}");
        assert!(book.contains("\nrefund R1: 3000, receipt 2850"), "{book}");
        assert_eq!(book.matches("\nrefund ").count(), 1, "{book}");
    }
    books::assert_sound(&mut conn);
    books::assert_told(&mut conn);
    audit::books(&mut conn, |finding| panic!("{finding:?}")).unwrap();
}
