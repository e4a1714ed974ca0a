use std::io::Cursor;

use alipay::{Environment, Gateway, GatewayError, KeyRing, SigningKey, Timeouts, VerificationKey};
use chrono::Duration;
use payment::{BillDay, parse_local, to_local};
use serde_json::{Value, json};
use service::FixedClock;

use super::*;
use crate::form::{EmptyValues, Param, Rule, body, signed_text};
use crate::scenario::plan;
use crate::testing::{KEYS, two_days};
use crate::trade::Mishap;

const NOON: &str = "2024-03-08 12:00:00";

struct World {
    server: Server,
    scenario: Arc<Scenario>,
    clock: Arc<FixedClock>,
}

/// Three days, the last of which has no trades.
fn world() -> World {
    let scenario = Arc::new(plan(&two_days(5, 60), &KEYS).unwrap());
    let clock = Arc::new(FixedClock::new(parse_local(NOON).unwrap()));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start(listen, scenario.clone(), KEYS.clone(), clock.clone()).unwrap();
    World { server, scenario, clock }
}

fn gateway(world: &World, signed_by: &crate::SimulatorKey) -> Gateway {
    let pem = signed_by.private_key_pem().unwrap();
    let public = KEYS.alipay.public_key_base64().unwrap();
    let key = VerificationKey::read("alipay", public.as_bytes()).unwrap();
    Gateway::new(
        &world.server.gateway_url(),
        world.scenario.plan.app_id.clone(),
        Environment::Sandbox,
        SigningKey::read("app", pem.as_bytes()).unwrap(),
        KeyRing::new(vec![key], Vec::new()).unwrap(),
        Timeouts::default(),
    )
    .unwrap()
}

fn day(text: &str) -> BillDay {
    BillDay::parse(text).unwrap()
}

#[test]
fn a_merchant_asks_for_a_bill_and_fetches_it() {
    let world = world();
    let gateway = gateway(&world, &KEYS.app);
    let now = world.clock.now();
    for bill in &world.scenario.bills {
        let address = gateway.bill_download_url("trade", bill.day, now).unwrap();
        assert!(!address.empty);
        let mut zip = Vec::new();
        gateway.download(&address, &mut zip, 1 << 20).unwrap();
        assert_eq!(zip, bill.zip);
        let read =
            alipay::bill::read(Cursor::new(zip), &alipay::bill::Limits::DAILY, |_| Ok::<_, ()>(()));
        assert!(read.unwrap().rows > 0);
    }
}

#[test]
fn a_link_lives_thirty_seconds() {
    let world = world();
    let gateway = gateway(&world, &KEYS.app);
    let given_at = world.clock.now();
    let address = gateway.bill_download_url("trade", day("2024-03-05"), given_at).unwrap();
    world.clock.advance(Duration::seconds(30));
    assert!(gateway.download(&address, &mut Vec::new(), 1 << 20).is_ok());
    world.clock.advance(Duration::seconds(1));
    assert!(gateway.download(&address, &mut Vec::new(), 1 << 20).is_err());
    let url = address.url.unwrap();
    let text = ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(text, "下载超时，请重新下载");
    let forged = url.replace(&given_at.timestamp_millis().to_string(), "1709870431000");
    let text = ureq::get(&forged).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(text, "下载超时，请重新下载");
}

#[test]
fn days_without_a_bill_and_days_not_over_are_refused_in_alipays_words() {
    let world = world();
    let gateway = gateway(&world, &KEYS.app);
    let now = world.clock.now();
    let ask = |kind: &str, on: &str| gateway.bill_download_url(kind, day(on), now);
    assert!(matches!(ask("trade", "2024-03-04"), Err(GatewayError::BillNotExist { .. })));
    assert!(matches!(ask("signcustomer", "2024-03-05"), Err(GatewayError::BillNotExist { .. })));
    for (kind, on) in [("trade", "2024-03-08"), ("trade", "2024-03-09"), ("nonsense", "2024-03-05")]
    {
        match ask(kind, on) {
            Err(GatewayError::Refused { sub_code, .. }) => {
                assert_eq!(sub_code, "isv.invalid_arguments");
            }
            other => panic!("{kind} {on}: {other:?}"),
        }
    }
}

#[test]
fn a_request_that_the_app_did_not_sign_is_turned_away() {
    let world = world();
    let gateway = gateway(&world, &KEYS.stranger);
    match gateway.bill_download_url("trade", day("2024-03-05"), world.clock.now()) {
        Err(GatewayError::Refused { code, sub_code, .. }) => {
            assert_eq!((code.as_str(), sub_code.as_str()), ("40002", "isv.invalid-signature"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_day_without_rows_is_said_to_be_empty() {
    let scenario = Arc::new(plan(&two_days(5, 0), &KEYS).unwrap());
    let clock = Arc::new(FixedClock::new(parse_local(NOON).unwrap()));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start(listen, scenario.clone(), KEYS.clone(), clock.clone()).unwrap();
    let world = World { server, scenario, clock };
    let gateway = gateway(&world, &KEYS.app);
    let address = gateway.bill_download_url("trade", day("2024-03-05"), world.clock.now()).unwrap();
    assert!(address.empty);
}

/// Calls by hand and gives back the node, after checking the signature over its raw text.
fn call(world: &World, change: impl FnOnce(&mut Vec<Param>)) -> Value {
    let mut params = vec![
        Param::new("app_id", world.scenario.plan.app_id.as_str()),
        Param::new("charset", "utf-8"),
        Param::new("sign_type", "RSA2"),
        Param::new("timestamp", to_local(world.clock.now())),
        Param::new("version", "1.0"),
    ];
    change(&mut params);
    let sign = KEYS.app.sign(&signed_text(&params, Rule::V2, EmptyValues::Skipped)).unwrap();
    params.push(Param::new("sign", sign));
    let text = ureq::post(format!("{}?charset=utf-8", world.server.gateway_url()))
        .content_type("application/x-www-form-urlencoded;charset=utf-8")
        .send(body(&params))
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let (name, node) =
        answer.as_object().unwrap().iter().find(|(name, _)| *name != "sign").unwrap();
    if let Some(sign) = answer.get("sign") {
        let from = format!("{{\"{name}\":").len();
        let to = text.rfind(",\"sign\":").unwrap();
        assert!(
            KEYS.alipay.verifies(&text.as_bytes()[from..to], sign.as_str().unwrap().as_bytes())
        );
    } else {
        assert_eq!(name, "error_response");
    }
    node.clone()
}

fn query(world: &World, method: &str, content: &Value) -> Value {
    call(world, |params| {
        params.push(Param::new("method", method));
        params.push(Param::new("biz_content", content.to_string()));
    })
}

#[test]
fn trades_and_refunds_are_told_as_they_truly_are() {
    let world = world();
    let lost =
        world.scenario.trades.iter().find(|one| one.mishap == Some(Mishap::PaymentLost)).unwrap();
    let told = query(&world, "alipay.trade.query", &json!({"out_trade_no": lost.out_trade_no}));
    assert_eq!(told["code"], "10000");
    assert_eq!(told["trade_no"], lost.trade_no.as_str());
    assert_eq!(told["trade_status"], "TRADE_SUCCESS");
    assert_eq!(told["total_amount"], crate::notice::yuan(lost.price.total_fen));
    assert_eq!(told["send_pay_date"], to_local(lost.payment.unwrap().at));

    let lost =
        world.scenario.trades.iter().find(|one| one.mishap == Some(Mishap::RefundLost)).unwrap();
    let refund = &lost.refunds[0];
    let ask = json!({"trade_no": lost.trade_no, "out_request_no": refund.request_no});
    let told = query(&world, "alipay.trade.fastpay.refund.query", &ask);
    assert_eq!(told["refund_status"], "REFUND_SUCCESS");
    assert_eq!(told["refund_amount"], crate::notice::yuan(refund.amount_fen));

    let unknown = query(&world, "alipay.trade.query", &json!({"out_trade_no": "NOBODY"}));
    assert_eq!(unknown["sub_code"], "ACQ.TRADE_NOT_EXIST");
    let ask = json!({"trade_no": lost.trade_no, "out_request_no": "NONE"});
    let unknown = query(&world, "alipay.trade.fastpay.refund.query", &ask);
    assert_eq!((&unknown["code"], &unknown["refund_status"]), (&json!("10000"), &Value::Null));
}

#[test]
fn a_request_in_gbk_is_answered_and_signed_in_gbk() {
    let world = world();
    let mut params = vec![
        Param::new("app_id", world.scenario.plan.app_id.as_str()),
        Param::new("charset", "GBK"),
        Param::new("sign_type", "RSA2"),
        Param::new("timestamp", to_local(world.clock.now())),
        Param::new("method", "alipay.trade.query"),
        Param::new("biz_content", "{}"),
    ];
    let sign = KEYS.app.sign(&signed_text(&params, Rule::V2, EmptyValues::Skipped)).unwrap();
    params.push(Param::new("sign", sign));
    let mut answer = ureq::post(world.server.gateway_url()).send(body(&params)).unwrap();
    let bytes = answer.body_mut().read_to_vec().unwrap();
    let (text, _, broken) = encoding_rs::GBK.decode(&bytes);
    assert!(!broken && text.contains("交易不存在"), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let node = answer["alipay_trade_query_response"].to_string();
    let (signed, _, _) = encoding_rs::GBK.encode(&node);
    assert!(KEYS.alipay.verifies(&signed, answer["sign"].as_str().unwrap().as_bytes()));
}

#[test]
fn what_a_request_lacks_is_named() {
    let world = world();
    let refused = |change: fn(&mut Vec<Param>)| call(&world, change)["sub_code"].clone();
    assert_eq!(refused(|_| ()), "isv.missing-method");
    assert_eq!(
        refused(|params| params.push(Param::new("method", "alipay.nothing"))),
        "isv.invalid-method"
    );
    assert_eq!(refused(|params| params.retain(|one| one.name != "app_id")), "isv.missing-app-id");
    assert_eq!(
        refused(|params| params.retain(|one| one.name != "timestamp")),
        "isv.missing-timestamp"
    );
    assert_eq!(
        refused(|params| params[2] = Param::new("sign_type", "RSA")),
        "isv.invalid-signature-type"
    );
    assert_eq!(
        refused(|params| params[0] = Param::new("app_id", "2021000000000099")),
        "isv.invalid-app-id"
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let world = world();
    let listen = world.server.addr();
    let again = start(listen, world.scenario.clone(), KEYS.clone(), world.clock.clone());
    let said = again.unwrap_err().to_string();
    assert_eq!(
        said,
        format!("the simulator cannot listen on {listen}; free the port, or give another")
    );
}
