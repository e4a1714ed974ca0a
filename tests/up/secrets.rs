//! Buyers' data, signatures and keys stay where they belong.

use ::alipay::SigningKey;

use crate::harness::alipay::APP_ID;
use crate::harness::form::{Form, Rule, encode};
use crate::harness::home::Home;
use crate::harness::{http, sql};

#[test]
fn nothing_of_a_message_reaches_logs_metrics_or_lists() {
    let home = Home::with_private_cluster().variable("SUANPAN_LOG", "debug");
    let up = home.up();
    let url = up.notify_url(APP_ID);
    let cluster = home.open_cluster();
    let mut conn = ledger::connect(cluster.url()).unwrap();
    // The database refuses one trade, wherever the ledger would write it.
    for table in ["trade", "fact"] {
        sql::run(&mut conn, &format!("ALTER TABLE {table} ADD CHECK (trade_no <> 'T-poison')"));
    }

    let planted = |trade_no: &str| {
        Form::paid(trade_no)
            .with("buyer_logon_id", "planted-buyer@example.com")
            .with("subject", "planted subject")
            .with("passback_params", "planted-params")
    };
    let mut bodies = Vec::new();
    for form in [
        planted("T-applied"),
        planted("T-poison"),
        planted("T-aside").with("seller_id", "2088000000000009"),
        planted("T-unreadable").with("total_amount", "1e3"),
    ] {
        home.tell(&up, &form);
        bodies.push(home.sign(&form));
    }
    let (stranger, _) = SigningKey::generate().unwrap();
    for form in [
        planted("T-forged").signed(&stranger, Rule::V1),
        planted("T-charset").with("charset", "planted-charset").signed(&stranger, Rule::V1),
        planted("T-sign").with("sign", "planted-sign!"),
        planted("T-twice").signed(&home.key, Rule::V1).with("total_amount", "0.01"),
    ] {
        let mut body = form.body();
        if form.get("trade_no") == "T-twice" {
            body.extend(b"&subject=planted-again");
        }
        assert!((400..500).contains(&http::post(&url, &body).0));
        bodies.push(body);
    }
    home.wait_until_applied();
    sql::refusal(&mut conn, "INSERT INTO fact SELECT * FROM fact");
    assert_eq!(sql::count(&mut conn, "dead_letter"), 1, "the ledger refused one");
    let refused = up.metric("suanpan_dead_letters_total{reason=\"refused_by_ledger\"}");
    assert_eq!(refused.as_deref(), Some("1"));

    let (_, metrics) = up.ask("/metrics");
    let (_, ready) = up.ask("/readyz");
    let lists = ["quarantine", "dead-letters"].map(|list| home.run(&[list, "list"]));
    assert!(
        lists[0].stdout.contains("2 listed") && lists[1].stdout.contains("1 listed"),
        "{lists:?}"
    );
    assert!(up.stop().success());
    drop(conn);
    cluster.close().unwrap();
    let postgres = std::fs::read_to_string(home.data_dir().join("postgres.log")).unwrap();
    let stderr = home.stderr();
    assert!(stderr.contains("refused a notification"), "the logs were kept: {stderr}");
    assert!(postgres.contains("ERROR"), "the refusal was logged: {postgres}");

    let mut forbidden: Vec<String> =
        ["planted", "138****01", "PRIVATE", "BEGIN PUBLIC"].map(str::to_owned).into();
    forbidden.push(home.key.public_key_base64()[40..80].to_owned());
    for body in &bodies {
        let text = String::from_utf8(body.clone()).unwrap();
        let sign = text.rsplit_once("&sign=").map_or("", |(_, sign)| sign);
        forbidden.extend(sign.get(..30).map(str::to_owned));
        forbidden.push(text[..60].to_owned());
        forbidden.push(body[..30].iter().map(|byte| format!("{byte:02x}")).collect());
    }
    forbidden.push(encode("planted-buyer@example.com".as_bytes()));
    let said = [
        ("stderr", stderr),
        ("/metrics", metrics),
        ("/readyz", ready),
        ("postgres.log", postgres),
        ("lists", format!("{lists:?}")),
    ];
    for (place, text) in said {
        for word in &forbidden {
            assert!(!text.contains(word), "`{word}` stands in {place}: {text}");
        }
    }
}
