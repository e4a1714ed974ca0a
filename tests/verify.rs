//! `suanpan verify`: whether one raw body is genuine, by the keys of the settings.

use ::alipay::SigningKey;
use serde_json::{Value, json};

use crate::harness::alipay::APP_ID;
use crate::harness::binary::Ended;
use crate::harness::form::Form;
use crate::harness::home::{self, Home};

const BODIES: &str = include_str!("fixtures/alipay-signed-bodies.json");

const PAID: &str = "TRADE_SUCCESS";

/// Name, rule, sign_type, notify_id, trade_status.
const GENUINE: [(&str, &str, &str, &str, Option<&str>); 13] = [
    ("pay_success_plus_in_sign", "v1", "RSA2", "2024030501222090012000000000000001", Some(PAID)),
    (
        "pay_success_retry_same_notify_id",
        "v1",
        "RSA2",
        "2024030501222090012000000000000001",
        Some(PAID),
    ),
    ("partial_refund_1", "v1", "RSA2", "2024030501222103000000000000000002", Some(PAID)),
    ("partial_refund_2_cumulative", "v1", "RSA2", "2024030501222114500000000000000003", Some(PAID)),
    (
        "full_refund_closed",
        "v1",
        "RSA2",
        "2024030501222130000000000000000004",
        Some("TRADE_CLOSED"),
    ),
    ("timeout_closed", "v1", "RSA2", "2024030501222093000000000000000005", Some("TRADE_CLOSED")),
    ("finished", "v1", "RSA2", "2024060501222090012000000000000006", Some("TRADE_FINISHED")),
    ("pay_success_gbk", "v1", "RSA2", "2024030501222090012000000000000007", Some(PAID)),
    ("pay_success_sha1", "v1", "RSA", "2024030501222090012000000000000008", Some(PAID)),
    ("empty_value_skipped", "v1", "RSA2", "2024030501222090012000000000000009", Some(PAID)),
    ("empty_value_included", "v1", "RSA2", "2024030501222090012000000000000010", Some(PAID)),
    ("app_gateway_message_v1_1", "v1", "RSA2", "2024030601222100000000000000000011", None),
    ("service_market_v2", "v2", "RSA2", "2024030501222090012000000000000012", None),
];

fn bodies() -> Value {
    serde_json::from_str(BODIES).unwrap()
}

fn body(name: &str) -> String {
    let bodies = bodies();
    let mut cases = bodies["cases"].as_array().unwrap().iter();
    let case = cases.find(|case| case["name"] == name).unwrap();
    case["raw_body"].as_str().unwrap().to_owned()
}

/// Homes that believe the samples' key, as the console shows it and as PEM.
fn homes() -> [(&'static str, Home); 2] {
    let bodies = bodies();
    let key = bodies["public_key_b64_spki"].as_str().unwrap();
    [("bare.txt", key.to_owned()), ("key.pem", home::pem(key))].map(|(name, text)| {
        let home = Home::with_private_cluster();
        home.write(name, text);
        home.write("suanpan.toml", home::settings(&format!("file:{name}")));
        (name, home)
    })
}

fn verify(home: &Home, body: &[u8]) -> Ended {
    Ended::with_input(&mut home.command(&["verify", "--json", "--app", APP_ID]), body)
}

#[test]
fn every_sample_is_told_genuine_with_all_that_is_known_of_it() {
    for (key, home) in homes() {
        for (name, rule, sign_type, id, status) in GENUINE {
            let ended = verify(&home, body(name).as_bytes());
            assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
            let told = ended.json();
            let expected = json!({
                "genuine": true,
                "rule": rule,
                "sign_type": sign_type,
                "key": key,
                "notify_id": id,
                "out_trade_no": status.map(|_| "ORD20240305000101"),
                "trade_status": status,
                "total_fen": status.map(|_| 10_000),
            });
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&told[field], value, "{name}, {field}: {told}");
            }
            assert_eq!(told.get("set_aside"), None, "{name}: {told}");
        }
    }
}

#[test]
fn a_changed_amount_is_told_not_genuine_with_the_cause() {
    for (_, home) in homes() {
        let ended = verify(&home, body("tampered_amount").as_bytes());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let told = ended.json();
        assert_eq!((&told["genuine"], &told["cause"]), (&json!(false), &json!("wrong_signature")));
        assert_eq!(told.get("total_fen"), None, "nothing is told that nobody signed");
    }
}

#[test]
fn a_body_may_come_from_a_file_and_end_with_a_newline() {
    let [(_, home), _] = homes();
    let body = body("pay_success_plus_in_sign");
    for (end, code) in [("", 0), ("\n", 0), ("\r\n", 0), ("\n\n", 1), (" ", 1)] {
        let text = format!("{body}{end}");
        assert_eq!(verify(&home, text.as_bytes()).code, Some(code), "{end:?} on standard input");
        let file = home.write("body.txt", text);
        let arguments = ["verify", "--json", "--app", APP_ID, "--body", file.to_str().unwrap()];
        assert_eq!(home.run(&arguments).code, Some(code), "{end:?} in a file");
    }
    let arguments = ["verify", "--app", APP_ID, "--body", "/nowhere/body.txt"];
    home.run(&arguments).assert_refused(&["/nowhere/body.txt"]);
}

#[test]
fn a_genuine_message_for_somebody_else_is_told_so() {
    let home = Home::with_private_cluster();
    let form = Form::paid("T1");
    for (name, value, code) in [
        ("seller_id", "2088000000000009", "other_seller"),
        ("app_id", "2021000000000009", "other_app"),
    ] {
        let ended = verify(&home, &home.sign(&form.clone().with(name, value)));
        assert_eq!(ended.code, Some(0), "the signature is genuine: {ended:?}");
        assert_eq!(ended.json()["set_aside"], code);
    }
}

#[test]
fn an_app_that_is_not_in_the_settings_is_refused() {
    let home = Home::with_private_cluster();
    home.run(&["verify", "--app", "2021000000000009"])
        .assert_refused(&["2021000000000009", "[[app]]"]);
}

#[test]
fn a_key_that_cannot_verify_is_refused_by_name_and_without_its_text() {
    let (signing_key, private) = SigningKey::generate().unwrap();
    let public = signing_key.public_key_base64();
    let short = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL+a9HvIgz7Oc3QOztasADtS2oChtIStWAMHdEMZqruf9ZwBJ7iWLKy2RC1i\
                 I8Bn61cZr5GBYOjSL2NeGkCo9pMCAwEAAQ==";
    let ec = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvLQv88VNOW6NN6h/xGXINhLmC2O4sJMbR4XCmK7nDiyG5kxhMN9tIxcLYTZQ\
              uVv+acV/F3ZbjdGEO6NqsEk5KQ==";
    let cut_off = &public[..public.len() - 40];
    for (name, text, words) in [
        ("no-key.txt", "correct horse battery staple!".to_owned(), "neither PEM nor base64"),
        ("cut-off.txt", cut_off.to_owned(), "not an RSA key"),
        ("empty.txt", String::new(), "is empty"),
        ("ec.pem", home::pem(ec), "only RSA keys are supported"),
        ("short.txt", short.to_owned(), "has 512 bits; at least 1024 are needed"),
        ("short.pem", home::pem(short), "has 512 bits; at least 1024 are needed"),
        ("private.pem", private, "is a private key"),
    ] {
        let home = Home::with_private_cluster();
        home.write(name, &text);
        home.write("suanpan.toml", home::settings(&format!("file:{name}")));
        let ended = verify(&home, b"a=1");
        ended.assert_refused(&[name, words, APP_ID]);
        assert_no_material(&ended, &text);
    }
}

#[test]
fn a_key_that_is_listed_twice_is_refused_with_both_its_names() {
    let home = Home::with_private_cluster();
    let public = home.key.public_key_base64();
    home.write("again.txt", &public);
    home.write("suanpan.toml", home::settings(r#"file:alipay.pem", "file:again.txt"#));
    let ended = verify(&home, b"a=1");
    ended.assert_refused(&["alipay.pem", "again.txt", "the same key"]);
    assert_no_material(&ended, &public);
    home.write("suanpan.toml", home::settings(r#"file:alipay.pem", "file:gone.txt"#));
    verify(&home, b"a=1").assert_refused(&["gone.txt"]);
}

/// No piece of the key's text stands in what was said.
#[track_caller]
fn assert_no_material(ended: &Ended, key: &str) {
    let text: Vec<char> = key.chars().filter(|char| !char.is_whitespace()).collect();
    for piece in text.chunks(12).filter(|piece| piece.len() == 12) {
        let piece: String = piece.iter().collect();
        let marker = piece.contains("---");
        assert!(marker || !ended.stderr.contains(&piece), "`{piece}` of the key: {}", ended.stderr);
        assert!(marker || !ended.stdout.contains(&piece), "`{piece}` of the key: {}", ended.stdout);
    }
}
