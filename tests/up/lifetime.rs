//! Starting, stopping, starting again, and other commands beside it.

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Up;
use crate::harness::form::Form;
use crate::harness::home::{Home, wait_until_applied};
use crate::harness::{http, sql};

/// Applied notifications, once all are, counted beside `up` in its private cluster.
fn applied(home: &Home) -> i64 {
    let cluster = home.open_cluster();
    wait_until_applied(cluster.url());
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
    crate::harness::wait::until("the quarantine is listed", || {
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
    super::wait_until_applied(&home);
    assert_eq!(sql::count(&mut home.connect(), "trade"), 1);
    assert!(ingress.stop().success());
}
