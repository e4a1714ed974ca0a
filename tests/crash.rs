//! `kill -9` and its relatives at the worst moments. What was answered `success` is never lost, and has its
//! effect once. `README.md` numbers the cases.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Up;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::{books, http, log, sql, wait};

/// Merchants' customers who go on paying, whatever happens to the door.
#[derive(Default)]
struct Crowd {
    next: AtomicU32,
    /// Trades whose notification went out, whether or not an answer came.
    sent: Mutex<BTreeSet<String>>,
    /// Trades whose notification was answered `success`.
    answered: Mutex<BTreeSet<String>>,
}

impl Crowd {
    fn answered(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    /// Posts from six sides until `act` has returned and the door is shut.
    fn while_paying<T>(&self, home: &Home, up: &Up, act: impl FnOnce() -> T) -> T {
        let url = up.notify_url(APP_ID);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        self.pay(home, &url);
                    }
                });
            }
            let outcome = act();
            over.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// One trade, told twice now and then.
    fn pay(&self, home: &Home, url: &str) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let trade_no = format!("T{number}");
        let body = home.sign(&Form::paid(&trade_no));
        self.sent.lock().unwrap().insert(trade_no.clone());
        for _ in 0..=u32::from(number.is_multiple_of(5)) {
            let answer = http::try_post(url, &body);
            if answer.is_some_and(|answer| answer == (200, b"success".to_vec())) {
                self.answered.lock().unwrap().insert(trade_no.clone());
            }
        }
    }

    /// The ledger holds what was answered, at most what was sent, and each of them once.
    fn assert_kept(&self, log: &stream::Log, database_url: &str) {
        log::wait_until_applied(log, database_url);
        let mut conn = ledger::connect(database_url).unwrap();
        let applied = "SELECT trade_no AS text FROM inbox WHERE outcome = 'applied'";
        let applied = sql::texts(&mut conn, applied);
        let kept: BTreeSet<String> = applied.iter().cloned().collect();
        assert_eq!(kept.len(), applied.len(), "applied once each");
        let (answered, sent) = (self.answered.lock().unwrap(), self.sent.lock().unwrap());
        let lost: Vec<_> = answered.difference(&kept).collect();
        assert!(lost.is_empty(), "answered success and lost: {lost:?}");
        let made_up: Vec<_> = kept.difference(&sent).collect();
        assert!(made_up.is_empty(), "never sent: {made_up:?}");

        let trades = "SELECT trade_no AS text FROM trade
                       WHERE state = 'paid' AND total_fen = 10000 AND receipt_fen = 10000";
        let trades: BTreeSet<String> = sql::texts(&mut conn, trades).into_iter().collect();
        assert_eq!(trades, kept, "each applied notification is a paid trade");
        books::assert_sound(&mut conn);
        let sales = "SELECT coalesce(sum(amount_fen), 0)::bigint AS number FROM journal_line WHERE account = 'sales'";
        assert_eq!(sql::number(&mut conn, sales), -10_000 * i64::try_from(kept.len()).unwrap());
        for table in ["dead_letter", "quarantine", "conflict"] {
            assert_eq!(sql::count(&mut conn, table), 0, "{table}");
        }
    }
}

#[test]
fn case_1_killed_three_times_in_a_stream_of_posts_it_has_lost_nothing_it_answered() {
    let home = Home::with_private_cluster();
    let crowd = Crowd::default();
    for round in 1..=3 {
        let up = home.up();
        let enough = crowd.answered() + 100;
        // The kill comes while six posts are under way.
        crowd.while_paying(&home, &up, || {
            wait::until("enough was answered", || crowd.answered() >= enough);
            up.kill();
        });
        drop(up);
        assert!(home.has_server(), "round {round}: the database outlives its parent");
    }
    let up = home.up();
    let cluster = home.open_cluster();
    crowd.assert_kept(&home.log(), cluster.url());
    home.tell(&up, &Form::paid("T-after"));
    cluster.close().unwrap();
    assert!(up.stop().success());
    assert!(!home.has_server(), "the database that was taken over is stopped, too");
}

#[test]
fn case_2_stopped_in_a_stream_of_posts_it_answers_what_it_took_and_has_kept_it() {
    let home = Home::new();
    let crowd = Crowd::default();
    let up = home.up();
    crowd.while_paying(&home, &up, || {
        wait::until("enough was answered", || crowd.answered() >= 100);
        up.terminate();
        wait::until("the door is shut", || std::net::TcpStream::connect(up.ingress()).is_err());
    });
    assert!(up.wait().success(), "{}", home.stderr());
    let _up = home.up();
    crowd.assert_kept(&home.log(), &home.database.as_ref().unwrap().url);
}

#[test]
fn case_3_its_database_killed_in_a_stream_of_posts_it_has_lost_nothing_it_answered() {
    let home = Home::with_private_cluster();
    let crowd = Crowd::default();
    let up = home.up();
    crowd.while_paying(&home, &up, || {
        wait::until("enough was answered", || crowd.answered() >= 100);
        let file =
            std::fs::read_to_string(home.data_dir().join("postgres/postmaster.pid")).unwrap();
        let server = Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap();
        kill_process(server, Signal::KILL).unwrap();
        // It is started again, by itself, and posts are answered again.
        let before = crowd.answered();
        wait::until("posts are answered again", || crowd.answered() >= before + 100);
    });
    wait::until("it is ready again", || up.ask("/readyz").0 == 200);
    let cluster = home.open_cluster();
    crowd.assert_kept(&home.log(), cluster.url());
    cluster.close().unwrap();
    assert!(up.stop().success());
}

#[test]
fn case_4_killed_while_it_applies_it_has_applied_nothing_by_half() {
    let home = Home::new();
    let url = home.database.as_ref().unwrap().url.clone();
    let up = home.up();
    home.tell(&up, &Form::paid("T0"));
    home.wait_until_applied();
    let (mut holder, mut looker) = (home.connect(), home.connect());
    // The inbox and the position can be written, the journal cannot.
    sql::run(&mut holder, "BEGIN; LOCK TABLE journal_line IN ACCESS EXCLUSIVE MODE");
    let crowd = Crowd::default();
    crowd.while_paying(&home, &up, || {
        wait::until("the consumer waits, and more comes in", || {
            sql::blocked(&mut looker) > 0 && crowd.answered() >= 50
        });
        up.kill();
    });
    drop(up);
    let journal = "SELECT count(*) AS number FROM inbox WHERE outcome = 'applied'";
    assert_eq!(sql::number(&mut looker, journal), 1, "nothing of it is to be seen");
    sql::run(&mut holder, "COMMIT");

    let _up = home.up();
    crowd.sent.lock().unwrap().insert("T0".to_owned());
    crowd.assert_kept(&home.log(), &url);
}

#[test]
fn case_5_killed_while_it_appends_to_postgres_a_retry_has_its_effect_once() {
    let home = Home::new();
    let url = home.database.as_ref().unwrap().url.clone();
    let up = home.up();
    let (mut holder, mut looker) = (home.connect(), home.connect());
    sql::run(&mut holder, "BEGIN; LOCK TABLE log_record IN ACCESS EXCLUSIVE MODE");
    let body = home.sign(&Form::paid("T1"));
    let notify = up.notify_url(APP_ID);
    let answer = thread::scope(|scope| {
        let posted = scope.spawn(|| http::try_post(&notify, &body));
        wait::until("the append waits", || sql::blocked(&mut looker) > 0);
        up.kill();
        posted.join().unwrap()
    });
    assert_ne!(answer, Some((200, b"success".to_vec())), "no success for what is not committed");
    drop(up);
    sql::run(&mut holder, "COMMIT");

    let up = home.up();
    home.tell(&up, &Form::paid("T1"));
    let crowd = Crowd::default();
    crowd.sent.lock().unwrap().insert("T1".to_owned());
    crowd.answered.lock().unwrap().insert("T1".to_owned());
    crowd.assert_kept(&home.log(), &url);
}
