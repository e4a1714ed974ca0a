//! Slow senders, and a database that is away.

use crate::harness::alipay::APP_ID;
use crate::harness::form::Form;
use crate::harness::home::Home;
use crate::harness::http::{self, Then};
use crate::harness::{sql, wait};

use super::{appended, count, inbox};

#[test]
fn a_sender_who_does_not_go_on_is_cut_off() {
    let home = Home::new().variable("SUANPAN__INGRESS__READ_TIMEOUT_MS", "1000");
    let up = home.up();
    let head =
        format!("POST /notify/alipay/{APP_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n");
    let half = format!("{head}\r\na=1&b=2");
    let answer = http::send_raw(up.ingress(), half.as_bytes(), Then::Wait);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfail"), "{answer}");
    assert_eq!(count(&up, APP_ID, "timed_out").as_deref(), Some("1"));

    let answer = http::send_raw(up.ingress(), head.as_bytes(), Then::Wait);
    assert!(!answer.contains("200 OK"), "half a request: {answer}");
    let answer = http::send_raw(up.ingress(), half.as_bytes(), Then::Leave);
    assert!(!answer.contains("200 OK"), "a sender who left: {answer}");

    home.tell(&up, &Form::paid("T1"));
    assert_eq!(appended(&home), 1);
}

#[test]
fn without_its_postgres_it_answers_503_is_not_ready_and_goes_on_when_it_is_back() {
    let home = Home::new();
    let up = home.up();
    let url = up.notify_url(APP_ID);
    let database = home.database.as_ref().unwrap();
    home.tell(&up, &Form::paid("T1"));
    home.wait_until_applied();
    wait::until("every room is ready", || up.ask("/readyz").0 == 200);

    for round in ["T2", "T3"] {
        database.go_away();
        let body = home.sign(&Form::paid(round));
        assert_eq!(http::post(&url, &body), (503, b"fail".to_vec()));
        assert_eq!(http::post(&url, b"a=1").0, 400, "a forgery is told from bad luck all the same");
        wait::until("it says that it is not ready", || {
            let (status, report) = up.ask("/readyz");
            status == 503 && report.contains("log")
        });
        assert_eq!(up.ask("/healthz").0, 200, "alive all the same");

        database.come_back();
        wait::until("every room is ready again", || up.ask("/readyz").0 == 200);
        assert_eq!(http::post(&url, &body), (200, b"success".to_vec()));
        home.wait_until_applied();
    }
    let unavailable = count(&up, APP_ID, "unavailable");
    assert_eq!(unavailable.as_deref(), Some("2"));
    assert_eq!(
        inbox(&mut home.connect()),
        ["T1-paid applied", "T2-paid applied", "T3-paid applied"]
    );
}

#[test]
fn a_postgres_that_does_not_answer_is_not_waited_for_and_a_retry_has_its_effect_once() {
    let home = Home::new().variable("SUANPAN__INGRESS__APPEND_TIMEOUT_MS", "200");
    let up = home.up();
    let body = home.sign(&Form::paid("T1"));
    let mut conn = home.connect();
    sql::run(&mut conn, "BEGIN; LOCK TABLE log_record IN ACCESS EXCLUSIVE MODE");
    for _ in 0..3 {
        assert_eq!(http::post(&up.notify_url(APP_ID), &body), (503, b"fail".to_vec()));
    }
    assert_eq!(up.ask("/readyz").0, 503);
    sql::run(&mut conn, "COMMIT");
    wait::until("it takes what it is sent", || http::post(&up.notify_url(APP_ID), &body).0 == 200);
    wait::until("every room is ready again", || up.ask("/readyz").0 == 200);
    home.wait_until_applied();
    let applied: Vec<String> =
        inbox(&mut conn).into_iter().filter(|line| !line.ends_with("duplicate")).collect();
    assert_eq!(applied, ["T1-paid applied"]);
    assert_eq!(sql::count(&mut conn, "trade"), 1);
}
