//! Senders who behave as Alipay does: out of order, now and then twice, and again until the answer is `success`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use alipay::SigningKey;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::harness::form::{Form, Rule};
use crate::harness::{http, wait};

/// How many post at once.
const SENDERS: usize = 4;
/// A notification's siblings and rivals: so many wait, and any of them is sent next.
const WAITING: usize = 100;
/// What comes again is sent by Alipay after minutes. Here it leaves the machine to those who start again.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Crowd<'k> {
    key: &'k SigningKey,
    url: String,
    seed: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    random: ChaCha8Rng,
    next_trade: u32,
    phase: Phase,
    waiting: Vec<Post>,
    under_way: usize,
    /// By trade, what its notifications amount to.
    told: BTreeMap<String, Told>,
    /// By notification, how often it was answered `success`.
    answered: BTreeMap<String, u32>,
    /// How many different notifications there are.
    made: usize,
    answers: usize,
    refusals: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// New trades all the time.
    Buying,
    /// No new ones; what was not answered `success` comes again.
    Insisting,
    Gone,
}

/// One notification to be posted, the same bytes every time.
#[derive(Clone)]
struct Post {
    notify_id: String,
    body: Vec<u8>,
}

/// What one trade's notifications say, all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) is_paid: bool,
    /// Both 0 for an order that was closed unpaid.
    pub(crate) total_fen: i64,
    pub(crate) receipt_fen: i64,
    /// By request number, each by itself.
    pub(crate) refunds_fen: BTreeMap<String, i64>,
}

impl Told {
    pub(crate) fn refunded_fen(&self) -> i64 {
        self.refunds_fen.values().sum()
    }
}

impl<'k> Crowd<'k> {
    pub(super) fn new(key: &'k SigningKey, url: String, seed: u64) -> Crowd<'k> {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            next_trade: 0,
            phase: Phase::Buying,
            waiting: Vec::new(),
            under_way: 0,
            told: BTreeMap::new(),
            answered: BTreeMap::new(),
            made: 0,
            answers: 0,
            refusals: 0,
        };
        Crowd { key, url, seed, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Posts while `act` runs, and then on until all that was sent has been answered `success`.
    pub(crate) fn while_buying<T>(&self, act: impl FnOnce() -> T) -> T {
        self.enter(Phase::Buying);
        thread::scope(|scope| {
            // Also where `act` fails: senders who went on would keep the test from ending.
            let _gone = Gone(self);
            for _ in 0..SENDERS {
                scope.spawn(|| while self.send_one() {});
            }
            let outcome = act();
            self.enter(Phase::Insisting);
            self.wait("all that was sent is answered `success`", |state| {
                state.waiting.is_empty() && state.under_way == 0
            });
            outcome
        })
    }

    /// Waits until so many more posts are answered `success`.
    pub(crate) fn wait_for_answers(&self, more: usize) {
        let enough = self.lock().answers + more;
        self.wait("posts are answered `success`", |state| state.answers >= enough);
    }

    /// Waits until so many more posts are not.
    pub(crate) fn wait_for_refusals(&self, more: usize) {
        let enough = self.lock().refusals + more;
        self.wait("posts are not answered `success`", |state| state.refusals >= enough);
    }

    /// Posts answered `success` so far.
    pub(crate) fn answers(&self) -> usize {
        self.lock().answers
    }

    /// Posts not answered `success` so far.
    pub(crate) fn refusals(&self) -> usize {
        self.lock().refusals
    }

    /// Different notifications made so far, sent or soon to be.
    pub(crate) fn made(&self) -> usize {
        self.lock().made
    }

    pub(crate) fn answered(&self) -> BTreeMap<String, u32> {
        self.lock().answered.clone()
    }

    pub(crate) fn told(&self) -> BTreeMap<String, Told> {
        self.lock().told.clone()
    }

    pub(crate) fn paid_fen(&self) -> i64 {
        self.lock().told.values().map(|told| told.total_fen).sum()
    }

    pub(crate) fn refunded_fen(&self) -> i64 {
        self.lock().told.values().map(Told::refunded_fen).sum()
    }

    /// Whether there may be more to send.
    fn send_one(&self) -> bool {
        let Some(post) = self.take() else { return false };
        let is_success = http::try_post(&self.url, &post.body)
            .is_some_and(|(status, body)| (status, body.as_slice()) == http::SUCCESS);
        let mut state = self.lock();
        state.under_way -= 1;
        if is_success {
            state.answers += 1;
            *state.answered.entry(post.notify_id).or_default() += 1;
        } else {
            state.refusals += 1;
            state.waiting.push(post);
        }
        self.changed.notify_all();
        drop(state);
        if !is_success {
            thread::park_timeout(PAUSE);
        }
        true
    }

    /// Any of those that wait; `None` when nobody sends any more.
    fn take(&self) -> Option<Post> {
        let mut state = self.lock();
        loop {
            let is_short = match state.phase {
                Phase::Buying => state.waiting.len() < WAITING,
                Phase::Insisting => false,
                Phase::Gone => return None,
            };
            if is_short {
                let number = state.next_trade;
                state.next_trade += 1;
                drop(state);
                let (trade_no, told, posts) = self.trade(number);
                let notify_ids: BTreeSet<&str> =
                    posts.iter().map(|post| post.notify_id.as_str()).collect();
                let made = notify_ids.len();
                state = self.lock();
                state.made += made;
                state.told.insert(trade_no, told);
                state.waiting.extend(posts);
            } else if state.waiting.is_empty() {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            } else {
                let count = state.waiting.len();
                let any = state.random.random_range(0..count);
                state.under_way += 1;
                return Some(state.waiting.swap_remove(any));
            }
        }
    }

    /// The trade of this number: the same for the same seed.
    fn trade(&self, number: u32) -> (String, Told, Vec<Post>) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(u64::from(number) + 1);
        let (trade_no, told, forms) = story(number, &mut random);
        let mut posts = Vec::new();
        for form in forms {
            let notify_id = form.get("notify_id");
            let form = if random.random_ratio(1, 4) { form.in_gbk() } else { form };
            let rule = if random.random_ratio(1, 4) { Rule::V2 } else { Rule::V1 };
            let post = Post { notify_id, body: form.signed(self.key, rule).body() };
            if random.random_ratio(1, 5) {
                posts.push(post.clone());
            }
            posts.push(post);
        }
        (trade_no, told, posts)
    }

    fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), wait::DEADLINE, |state| !is_so(state))
            .unwrap_or_else(PoisonError::into_inner);
        let State { answers, refusals, under_way, .. } = &*state;
        assert!(
            !waited.timed_out(),
            "waited in vain until {what}: {answers} were so far, {refusals} were not, {} wait, {under_way} under way",
            state.waiting.len()
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Gone<'c, 'k>(&'c Crowd<'k>);

impl Drop for Gone<'_, '_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Gone);
    }
}

/// One trade, what all is told of it, and the notifications that tell it, in the order in which things happened.
fn story(number: u32, random: &mut ChaCha8Rng) -> (String, Told, Vec<Form>) {
    let trade_no = format!("T{number}");
    let total_fen = random.random_range(101..1_000_000);
    let discount_fen = if random.random_ratio(1, 3) { random.random_range(1..100) } else { 0 };
    let receipt_fen = total_fen - discount_fen;
    let of = |status: &str, what: &str| {
        let form = Form::of_trade(&trade_no, status, &format!("{trade_no}-{what}"));
        form.with("total_amount", yuan(total_fen))
    };
    let paid = |status: &str, what: &str| {
        let form = of(status, what).with("gmt_payment", "2024-03-05 09:00:12");
        form.with("receipt_amount", yuan(receipt_fen))
    };
    let mut told = Told { is_paid: true, total_fen, receipt_fen, refunds_fen: BTreeMap::new() };
    let mut forms = Vec::new();
    if random.random_ratio(1, 2) {
        forms.push(of("WAIT_BUYER_PAY", "waiting"));
    }
    if random.random_ratio(1, 10) {
        forms.push(of("TRADE_CLOSED", "closed").with("gmt_close", "2024-03-05 09:30:00"));
        told = Told { is_paid: false, total_fen: 0, receipt_fen: 0, ..told };
        return (trade_no, told, forms);
    }
    forms.push(paid("TRADE_SUCCESS", "paid"));
    let refunds: u32 = if random.random_ratio(1, 3) { random.random_range(1..=3) } else { 0 };
    let mut refunded_fen = 0;
    for refund in 1..=refunds {
        let left_fen = total_fen - refunded_fen;
        // Of the first ones something is left for the last one.
        let most_fen = (left_fen / 2).max(1);
        let is_rest = refund == refunds && random.random_ratio(1, 2);
        let amount_fen = if is_rest { left_fen } else { random.random_range(1..=most_fen) };
        refunded_fen += amount_fen;
        let request_no = format!("R{refund}");
        let status = if is_rest { "TRADE_CLOSED" } else { "TRADE_SUCCESS" };
        let form = of(status, &request_no)
            .with("gmt_payment", "2024-03-05 09:00:12")
            .with("out_biz_no", request_no.as_str())
            .with("refund_fee", yuan(refunded_fen))
            .with("gmt_refund", format!("2024-03-0{} 10:00:00.123", 5 + refund));
        forms.push(if is_rest { form.with("gmt_close", "2024-03-09 10:00:00") } else { form });
        told.refunds_fen.insert(request_no, amount_fen);
    }
    if refunded_fen < total_fen && random.random_ratio(1, 5) {
        forms.push(paid("TRADE_FINISHED", "finished"));
    }
    (trade_no, told, forms)
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}
