//! `audit parity`: what is equal is told to be, and each way to be unequal is found and named.

use serde_json::{Value, json};

use crate::harness::alipay::APP_ID;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::sql;

/// A house that was told of three payments and has applied them.
fn told() -> Home {
    let home = Home::new();
    let up = home.up();
    for trade in ["T1", "T2", "T3"] {
        home.tell(&up, &Form::paid(trade));
    }
    home.tell(&up, &Form::paid("T3"));
    home.wait_until_applied();
    assert!(up.stop().success(), "{}", home.stderr());
    home
}

#[track_caller]
fn parity(home: &Home, code: i32, arguments: &[&str]) -> Value {
    let ended = home.run(&[&["audit", "parity", "--json"], arguments].concat());
    assert_eq!(ended.code, Some(code), "{ended:?}");
    ended.json()
}

/// The sum of a number, or of the lengths of a list, over all partitions.
fn sum(parity: &Value, name: &str) -> i64 {
    let of = |partition: &Value| {
        let value = &partition[name];
        value
            .as_array()
            .map_or_else(|| value.as_i64().unwrap(), |of| i64::try_from(of.len()).unwrap())
    };
    parity["partitions"].as_array().unwrap().iter().map(of).sum()
}

#[test]
fn a_house_that_applied_everything_is_in_parity_with_its_log_and_its_senders() {
    let home = told();
    home.write("answered", format!("T1-paid\n\n{APP_ID} T2-paid\n  T3-paid \n"));
    let answered = home.path("answered");
    for _ in 0..2 {
        let found = parity(&home, 0, &["--answered", answered.to_str().unwrap()]);
        assert_eq!(found["parity"], true);
        assert_eq!((sum(&found, "records"), sum(&found, "kept")), (4, 4));
        assert_eq!((sum(&found, "missing"), sum(&found, "unapplied")), (0, 0));
        assert_eq!(
            (&found["books"]["trades"], &found["books"]["paid_fen"]),
            (&json!(3), &json!(30000))
        );
        assert_eq!(found["books"]["clearing_fen"], 30000);
        assert_eq!(found["answered"], json!({ "given": 3, "missing": [] }));
    }
    let printed = home.run(&["audit", "parity"]);
    assert_eq!(printed.code, Some(0));
    assert!(printed.stdout.ends_with("\nparity\n"), "{}", printed.stdout);
    assert!(printed.stdout.contains("paid 300.00 "), "{}", printed.stdout);
}

#[test]
fn what_was_answered_and_is_not_in_the_inbox_is_named() {
    let home = told();
    let file = home.write("answered", "T1-paid\nT9-paid\n");
    let found = parity(&home, 1, &["--answered", file.to_str().unwrap()]);
    assert_eq!(found["parity"], false);
    let missing = json!([{ "app_id": APP_ID, "notify_id": "T9-paid" }]);
    assert_eq!(found["answered"], json!({ "given": 2, "missing": missing }));
    for bad in ["a b c", "T1-paid 2021000000000001"] {
        home.write("answered", format!("T1-paid\n{bad}\n"));
        let refused = home.run(&["audit", "parity", "--answered", file.to_str().unwrap()]);
        refused.assert_refused(&["answered, line 2", "notify_id"]);
    }
    home.run(&["audit", "parity", "--answered", "/nowhere"]).assert_refused(&["/nowhere"]);
}

#[test]
fn rows_changed_behind_the_ledgers_back_are_found() {
    let home = told();
    let mut conn = home.connect();
    // What only a test, or somebody who must not, may do: past the triggers that forbid it.
    sql::run(&mut conn, "SET session_replication_role = replica");
    sql::run(&mut conn, "DELETE FROM inbox WHERE notify_id = 'T1-paid'");
    sql::run(&mut conn, "UPDATE inbox SET body = 'x' WHERE notify_id = 'T2-paid'");
    sql::run(&mut conn, "UPDATE trade SET total_fen = total_fen + 1 WHERE trade_no = 'T3'");
    let found = parity(&home, 1, &[]);
    assert_eq!((sum(&found, "missing"), sum(&found, "altered")), (1, 1));
    assert_eq!((sum(&found, "repeated"), sum(&found, "made_up")), (0, 0));
    let findings = found["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["trade_no"] == "T3"), "{findings:?}");
    let printed = home.run(&["audit", "parity"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stdout.ends_with("\nNO PARITY\n"), "{}", printed.stdout);
    assert!(printed.stdout.contains("1 in the ledger with other bytes"), "{}", printed.stdout);
}
