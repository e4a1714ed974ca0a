//! Starting, stopping, starting again, and other commands beside it.

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Up;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::{http, sql, wait};

/// Applied notifications, once all are, counted beside `up` in its private cluster.
fn applied(home: &Home) -> i64 {
    let cluster = home.open_cluster();
    home.wait_until_applied();
    let mut conn = ledger::connect(cluster.url()).unwrap();
    let applied = "SELECT count(*) AS number FROM inbox WHERE outcome = 'applied'";
    let applied = sql::number(&mut conn, applied);
    drop(conn);
    cluster.close().unwrap();
    applied
}

#[test]
fn it_stops_on_sigterm_with_its_database_and_finds_everything_when_it_starts_again() {
    let home = Home::with_private_cluster();
    for (round, trades) in [(1, ["T1", "T2"]), (2, ["T2", "T3"])] {
        let up = home.up();
        for trade in trades {
            home.tell(&up, &Form::paid(trade));
        }
        assert!(home.has_server());
        assert_eq!(applied(&home), i64::from(round) + 1, "the earlier round's, too");
        let (admin, ingress) = (up.admin, up.ingress());
        assert!(up.stop().success(), "exit 0 on SIGTERM: {}", home.stderr());
        assert!(!home.has_server(), "the private Postgres is gone");
        for closed in [admin, ingress] {
            assert!(std::net::TcpStream::connect(closed).is_err(), "{closed} is closed");
        }
    }
}

#[test]
fn other_commands_work_on_the_same_data_while_it_runs() {
    let home = Home::with_private_cluster();
    let up = home.up();
    home.tell(&up, &Form::paid("T1"));
    home.tell(&up, &Form::paid("T2").with("seller_id", "2088000000000009"));
    let listed = |home: &Home| home.run(&["quarantine", "list", "--json"]);
    wait::until("the quarantine is listed", || {
        let listed = listed(&home);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        listed.json().as_array().unwrap().len() == 1
    });
    assert_eq!(home.run(&["migrate"]).code, Some(0));
    let arguments = ["report", "--app", APP_ID, "--date", "2024-03-05"];
    home.run(&arguments).assert_refused(&["2024-03-05", "was never reconciled"]);

    // They left the database running.
    home.tell(&up, &Form::paid("T3"));
    assert_eq!(applied(&home), 2);
    assert!(up.stop().success());
    assert_eq!(listed(&home).json().as_array().unwrap().len(), 1, "and it works without `up`");
    assert!(!home.has_server());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let home = Home::new();
    let up = home.up();
    let taken = up.ingress().to_string();
    let second = Home::new().variable("SUANPAN__INGRESS__LISTEN", &taken);
    second.run(&["up"]).assert_refused(&[&taken, "[ingress] listen"]);
    let taken = up.admin.to_string();
    let second = Home::new().variable("SUANPAN__ADMIN__LISTEN", &taken);
    second.run(&["up"]).assert_refused(&[&taken, "[admin] listen"]);
}

#[test]
fn single_roles_refuse_a_database_without_their_schema_and_work_together_with_it() {
    let home = Home::new();
    let role = |name: &str| {
        let mut command = home.command(&[name]);
        command.arg("--json");
        command
    };
    crate::harness::binary::Ended::of(&mut role("ingress")).assert_refused(&["suanpan migrate"]);
    assert_eq!(home.run(&["migrate"]).code, Some(0));
    let ingress = Up::start_role("ingress", home.command(&[]), &home.path("stderr.log"));
    let _consumer = Up::start_role("consumer", home.command(&[]), &home.path("stderr.log"));
    let (status, answer) = http::post(&ingress.notify_url(APP_ID), &home.sign(&Form::paid("T1")));
    assert_eq!((status, answer.as_slice()), http::SUCCESS);
    home.wait_until_applied();
    assert_eq!(sql::count(&mut home.connect(), "trade"), 1);
    assert!(ingress.stop().success());
}

/// Whether the process says that it is stopping, and therefore not ready.
fn says_that_it_stops(up: &Up) -> bool {
    let (status, report) = up.ask("/readyz");
    status == 503 && report.contains(r#""draining":true"#)
}

#[test]
fn told_to_stop_it_is_not_ready_closes_the_door_and_answers_what_is_on_its_way_to_postgres() {
    let home = Home::new()
        .variable("SUANPAN__INGRESS__APPEND_TIMEOUT_MS", "60000")
        .variable("SUANPAN__STOP__LIMIT_MS", "120000");
    let up = home.up();
    let (mut holder, mut looker) = (home.connect(), home.connect());
    sql::run(&mut holder, "BEGIN; LOCK TABLE log_record IN ACCESS EXCLUSIVE MODE");
    let (notify, body) = (up.notify_url(APP_ID), home.sign(&Form::paid("T1")));
    let answer = std::thread::scope(|scope| {
        let posted = scope.spawn(|| http::post(&notify, &body));
        wait::until("the append waits", || appends_wait(&mut looker));
        up.terminate();
        wait::until("it says that it stops", || says_that_it_stops(&up));
        let closed = || std::net::TcpStream::connect(up.ingress()).is_err();
        wait::until("the door is closed", closed);
        assert!(says_that_it_stops(&up), "it can be watched while it drains");
        assert_eq!(up.ask("/healthz").0, 200);
        assert!(up.metric("suanpan_ingress_append_duration_seconds_count").is_some());
        assert!(!posted.is_finished(), "what is in flight is neither lost nor answered yet");
        sql::run(&mut holder, "COMMIT");
        posted.join().unwrap()
    });
    assert_eq!((answer.0, answer.1.as_slice()), http::SUCCESS);
    assert!(up.wait().success(), "{}", home.stderr());
    let _up = home.up();
    home.wait_until_applied();
    assert_eq!(sql::count(&mut looker, "trade"), 1);
}

#[test]
fn during_the_delay_the_door_is_open_and_a_second_signal_ends_everything_at_once() {
    let home = Home::new()
        .variable("SUANPAN__STOP__DELAY_MS", "60000")
        .variable("SUANPAN__STOP__LIMIT_MS", "600000");
    let up = home.up();
    let path = format!("GET /notify/alipay/{APP_ID} HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = http::send_raw(up.ingress(), path.as_bytes(), http::Then::Leave);
    assert!(!said.contains("connection: close"), "senders may keep their connections: {said}");
    up.terminate();
    wait::until("it says that it stops", || says_that_it_stops(&up));
    home.tell(&up, &Form::paid("T1"));
    let said = http::send_raw(up.ingress(), path.as_bytes(), http::Then::Leave);
    assert!(said.contains("connection: close"), "senders are told to go elsewhere: {said}");
    up.terminate();
    assert_eq!(up.wait().code(), Some(143), "{}", home.stderr());
    assert!(home.stderr().contains("ending at once on a second signal"), "{}", home.stderr());
    let _up = home.up();
    home.wait_until_applied();
    assert_eq!(sql::count(&mut home.connect(), "trade"), 1, "what was answered is kept");
}

#[test]
fn a_stop_that_hangs_on_postgres_is_cut_short_at_its_limit_and_says_what_did_not_end() {
    let home = Home::new()
        .variable("SUANPAN__INGRESS__APPEND_TIMEOUT_MS", "60000")
        .variable("SUANPAN__STOP__LIMIT_MS", "500");
    let up = home.up();
    let (mut holder, mut looker) = (home.connect(), home.connect());
    sql::run(&mut holder, "BEGIN; LOCK TABLE log_record IN ACCESS EXCLUSIVE MODE");
    let (notify, body) = (up.notify_url(APP_ID), home.sign(&Form::paid("T1")));
    let (answer, status) = std::thread::scope(|scope| {
        let posted = scope.spawn(|| http::try_post(&notify, &body));
        wait::until("the append waits", || appends_wait(&mut looker));
        up.terminate();
        let status = up.wait();
        (posted.join().unwrap(), status)
    });
    assert_eq!(status.code(), Some(3), "{}", home.stderr());
    let said = home.stderr();
    assert!(said.contains("longer than 500 ms ([stop] limit_ms)"), "{said}");
    assert!(said.contains("log, ingress"), "{said}");
    assert_eq!(answer, None, "no success for what is not committed");
    sql::run(&mut holder, "COMMIT");
    let up = home.up();
    home.tell(&up, &Form::paid("T1"));
    home.wait_until_applied();
    assert_eq!(sql::count(&mut looker, "trade"), 1);
}

/// Whether an append waits for a lock; what else waits is a reader of the log.
fn appends_wait(conn: &mut ledger::Connection) -> bool {
    let waiting = "SELECT count(*) AS number FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                      AND query LIKE '%INSERT INTO log_record%'";
    sql::number(conn, waiting) > 0
}
