//! `suanpan up`: what comes in by HTTP, how it is answered, and where it ends.

mod lifetime;
mod secrets;
mod trouble;

use std::collections::BTreeMap;

use ::alipay::SigningKey;
use serde_json::Value;

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Up;
use crate::harness::form::{Form, Rule, encode, gbk};
use crate::harness::home::{self, Home};
use crate::harness::{http, log, sql, wait};

const OTHER_SELLER: &str = "2088000000000009";
const OTHER_APP: &str = "2021000000000009";

/// `notify_id outcome`, in their order.
fn inbox(conn: &mut ledger::Connection) -> Vec<String> {
    sql::texts(conn, "SELECT notify_id || ' ' || outcome AS text FROM inbox ORDER BY 1")
}

fn appended(home: &Home) -> i64 {
    log::count(home.database.as_ref().unwrap())
}

/// How often notifications came to this.
fn count(up: &Up, app: &str, outcome: &str) -> Option<String> {
    up.metric(&format!(
        "suanpan_ingress_notifications_total{{app=\"{app}\",outcome=\"{outcome}\"}}"
    ))
}

#[test]
fn what_is_genuine_is_answered_success_and_is_in_the_inbox_once() {
    let home = Home::new();
    // One message as an old app gets it, signed with SHA1; its key is one of several.
    let samples: Value =
        serde_json::from_str(include_str!("fixtures/alipay-signed-bodies.json")).unwrap();
    home.write("samples.txt", samples["public_key_b64_spki"].as_str().unwrap());
    home.write("suanpan.toml", home::settings(r#"file:alipay.pem", "file:samples.txt"#));
    let cases = samples["cases"].as_array().unwrap();
    let sha1 = cases.iter().find(|case| case["name"] == "pay_success_sha1").unwrap();
    let up = home.up();
    let url = up.notify_url(APP_ID);

    let post = home.sign(&Form::paid("T1"));
    let get = home.sign(&Form::paid("T2"));
    let get_url = format!("{url}?{}", String::from_utf8(get).unwrap());
    let in_gbk = home.sign(&Form::paid("T3").in_gbk());
    let other_kind = Form::new()
        .with("app_id", APP_ID)
        .with("notify_id", "N-other")
        .with("notify_type", "servicemarket_order_notify")
        .with("charset", "utf-8");
    let other_kind = other_kind.signed(&home.key, Rule::V2).body();
    let retry = home.sign(&Form::paid("T1").with("notify_time", "2024-03-05 09:04:13"));
    for (what, (status, answer)) in [
        ("a POST", http::post(&url, &post)),
        ("a GET", http::get(&get_url)),
        ("GBK", http::post(&url, &in_gbk)),
        ("SHA1", http::post(&url, sha1["raw_body"].as_str().unwrap().as_bytes())),
        ("another kind, by rule V2", http::post(&url, &other_kind)),
        ("the same bytes again", http::post(&url, &post)),
        ("a retry with another time and signature", http::post(&url, &retry)),
        (
            "a query beside the body",
            http::post(&format!("{url}?a=1"), &home.sign(&Form::paid("T4"))),
        ),
    ] {
        assert_eq!((status, answer.as_slice()), http::SUCCESS, "{what}: {}", home.stderr());
    }

    let mut conn = home.connect();
    assert_eq!(appended(&home), 8, "what was answered is in the log");
    home.wait_until_applied();
    let expected = [
        "2024030501222090012000000000000008 applied",
        "N-other kept",
        "T1-paid applied",
        "T1-paid duplicate",
        "T1-paid duplicate",
        "T2-paid applied",
        "T3-paid applied",
        "T4-paid applied",
    ];
    assert_eq!(inbox(&mut conn), expected);
    let bodies = sql::texts(
        &mut conn,
        "SELECT convert_from(body, 'UTF8') AS text FROM inbox WHERE notify_id = 'T3-paid'",
    );
    assert_eq!(bodies, [String::from_utf8(in_gbk).unwrap()], "to the byte");
    assert_eq!(sql::count(&mut conn, "trade"), 5);
    assert_eq!(count(&up, APP_ID, "accepted").as_deref(), Some("8"));
    for (metric, value) in [
        ("suanpan_ingress_request_duration_seconds_count", "8"),
        ("suanpan_ingress_append_duration_seconds_count", "8"),
    ] {
        assert_eq!(up.metric(metric).as_deref(), Some(value), "{metric}");
    }
    wait::until("the consumer's metrics say what it did", || {
        let applied = |outcome: &str| {
            up.metric(&format!("suanpan_consumer_applied_total{{outcome=\"{outcome}\"}}")).unwrap()
        };
        [applied("applied"), applied("kept"), applied("duplicate")] == ["5", "1", "2"]
    });
    wait::until("the lag is told, and is none", || {
        let (_, metrics) = up.ask("/metrics");
        let lag = metrics.lines().filter(|line| line.starts_with("suanpan_consumer_lag_messages{"));
        let lag: Vec<bool> = lag.map(|line| line.ends_with(" 0")).collect();
        lag == [true; 8] && metrics.contains("suanpan_consumer_oldest_unapplied_age_seconds 0\n")
    });
    let accepted = format!("suanpan_ingress_last_accepted_timestamp_seconds{{app=\"{APP_ID}\"}}");
    assert_ne!(up.metric(&accepted).as_deref(), Some("0"));
    assert_eq!(up.ask("/healthz"), (200, "ok".to_owned()));
    wait::until("every room is ready", || up.ask("/readyz").0 == 200);
}

#[test]
fn what_is_not_genuine_is_answered_fail_and_nowhere_appended() {
    let home = Home::new();
    let up = home.up();
    let form = || Form::paid("T1").signed(&home.key, Rule::V1);
    let genuine = form().body();
    let sign = form().get("sign");
    let (stranger, _) = SigningKey::generate().unwrap();
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let unknown_charset = Form::paid("T1").with("charset", "klingon").signed(&stranger, Rule::V1);
    for (what, body, status, cause) in [
        ("empty", Vec::new(), 400, "empty_body"),
        ("JSON", br#"{"trade_no":"T1"}"#.to_vec(), 400, "not_a_form"),
        ("binary", vec![0xFF, 0x00, 0x9C, b'=', 0x01], 400, "control_byte"),
        ("high bytes", vec![0xFF; 300], 400, "not_a_form"),
        ("cut off in an escape", b"a=%E7%A".to_vec(), 400, "bad_escape"),
        (
            "cut off in the signature",
            form().with("sign", &sign[..200]).body(),
            403,
            "signature_length",
        ),
        ("without sign", form().without("sign").body(), 400, "missing_sign"),
        ("with an empty sign", form().with("sign", "").body(), 400, "empty_sign"),
        ("sign is not base64", form().with("sign", "not base64!").body(), 400, "bad_base64"),
        (
            "sign decoded twice",
            form().with("sign", format!(" {}", &sign[1..])).body(),
            400,
            "bad_base64",
        ),
        ("sign_type unknown", form().with("sign_type", "MD5").body(), 400, "unsupported_sign_type"),
        (
            "another's key",
            Form::paid("T1").signed(&stranger, Rule::V1).body(),
            403,
            "wrong_signature",
        ),
        ("amount changed", form().with("total_amount", "0.01").body(), 403, "wrong_signature"),
        ("a parameter added", form().with("remark", "x").body(), 403, "wrong_signature"),
        ("a parameter dropped", form().without("subject").body(), 403, "wrong_signature"),
        ("repeated", [&genuine[..], b"&total_amount=0.01"].concat(), 400, "repeated_key"),
        ("charset unknown, and forged", unknown_charset.body(), 403, "unknown_charset"),
        ("too many parameters", b"a=1&".repeat(300), 400, "too_many_parameters"),
    ] {
        let failures = format!(
            "suanpan_ingress_signature_failures_total{{app=\"{APP_ID}\",cause=\"{cause}\"}}"
        );
        let before: u32 = up.metric(&failures).map_or(0, |value| value.parse().unwrap());
        let (answered, answer) = http::post(&up.notify_url(APP_ID), &body);
        assert_eq!((answered, answer.as_slice()), (status, &b"fail"[..]), "{what}");
        let after = up.metric(&failures).map(|value| value.parse().unwrap());
        assert_eq!(after, Some(before + 1), "{what} is counted as {cause}");
    }
    assert_eq!(count(&up, APP_ID, "refused").as_deref(), Some("18"));

    let (status, answer) = http::post(&up.notify_url(OTHER_APP), &genuine);
    assert_eq!((status, answer.as_slice()), (404, &b"fail"[..]));
    assert_eq!(count(&up, "unknown", "refused").as_deref(), Some("1"));
    assert_eq!(count(&up, OTHER_APP, "refused"), None, "nobody can make up labels");
    let query = format!("{}?{}", up.notify_url(APP_ID), text(form().with("subject", "x").body()));
    assert_eq!(http::get(&query), (403, b"fail".to_vec()));

    for length in (1..genuine.len()).step_by(29) {
        let (status, answer) = http::post(&up.notify_url(APP_ID), &genuine[..length]);
        assert!([400, 403].contains(&status), "{status} for the first {length} bytes");
        assert_eq!(answer, b"fail");
    }

    let mut long = genuine.clone();
    long.extend(format!("&padding={}", "x".repeat(70_000)).bytes());
    assert_eq!(http::post(&up.notify_url(APP_ID), &long), (413, b"fail".to_vec()));
    assert_eq!(count(&up, APP_ID, "too_large").as_deref(), Some("1"));

    assert_eq!(appended(&home), 0);
    home.tell(&up, &Form::paid("T1"));
    assert_eq!(appended(&home), 1, "and the genuine one still goes in");
}

#[test]
fn what_is_genuine_and_cannot_be_applied_is_answered_success_and_kept_aside() {
    let home = Home::new();
    let up = home.up();
    let mut expected = BTreeMap::new();
    for (what, form, reason) in [
        ("other seller", Form::paid("T1").with("seller_id", OTHER_SELLER), "other_seller: "),
        ("no seller", Form::paid("T2").without("seller_id"), "missing_seller: "),
        ("other app", Form::paid("T3").with("app_id", OTHER_APP), "other_app: "),
        ("unknown charset", Form::paid("T4").with("charset", "klingon"), "unreadable: "),
        ("1e3", Form::paid("T5").with("total_amount", "1e3"), "unreadable: "),
        ("88.888", Form::paid("T6").with("total_amount", "88.888"), "unreadable: "),
        ("-1", Form::paid("T7").with("total_amount", "-1.00"), "unreadable: "),
        ("not UTF-8", Form::paid("T8").with("subject", gbk("测试")), "unreadable: "),
        ("not GBK", Form::paid("T9").in_gbk().with("subject", [0x81, 0x20]), "unreadable: "),
        ("unknown status", Form::paid("TA").with("trade_status", "TRADE_LOST"), "unreadable: "),
        ("no time", Form::paid("TB").with("gmt_payment", "yesterday"), "unreadable: "),
    ] {
        home.tell(&up, &form);
        expected.insert(encode(&home.sign(&form)), (what, reason));
    }
    home.wait_until_applied();

    let mut conn = home.connect();
    let kept = ledger::quarantine::list(&mut conn, 100).unwrap();
    assert_eq!(kept.len(), expected.len());
    for message in &kept {
        let (what, reason) =
            expected.remove(&encode(&message.body)).expect("the bytes as they came");
        assert!(message.reason.starts_with(reason), "{what}: {}", message.reason);
    }
    for table in ["trade", "fact", "inbox", "dead_letter", "journal_entry"] {
        assert_eq!(sql::count(&mut conn, table), 0, "{table}");
    }
    assert_eq!(count(&up, APP_ID, "quarantined").as_deref(), Some("11"));
    wait::until("the number in quarantine is told", || {
        up.metric("suanpan_quarantine_messages").as_deref() == Some("11")
    });

    let listed = home.run(&["quarantine", "list", "--json"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert_eq!(listed.json().as_array().unwrap().len(), 11);
    assert!(!listed.stdout.contains("138****01"), "bodies are not listed");
    assert_eq!(home.run(&["dead-letters", "list", "--json"]).stdout, "[]\n");
}
