use super::*;
use crate::samples::{PUBLIC_2048, body, paid_trade, ring, samples_key, signed_body};
use crate::{Kind, Rule, SignType, TradeState};

fn app(keys: KeyRing) -> App {
    App {
        app_id: AppId::parse("2021000000000001").unwrap(),
        seller_id: SellerId::parse("2088000000000001").unwrap(),
        keys,
        refund_fee: RefundFee::default(),
    }
}

fn receive_trade(changes: &[(&str, Option<&[u8]>)]) -> Verdict {
    let app = app(ring(&[("own", PUBLIC_2048)]));
    receive(&app, signed_body(&paid_trade(changes)).as_bytes(), Trust::Active)
}

fn set_aside(changes: &[(&str, Option<&[u8]>)]) -> (&'static str, String, String) {
    match receive_trade(changes) {
        Verdict::SetAside { reason, proof, key } => {
            assert_eq!(proof.key, "own");
            (reason.code(), reason.to_string(), key)
        }
        other @ (Verdict::Genuine { .. } | Verdict::Refused(_)) => panic!("{other:?}"),
    }
}

#[test]
fn a_genuine_payment_comes_out_read_with_its_proof() {
    let app = app(KeyRing::new(vec![samples_key()], Vec::new()).unwrap());
    let body = body("pay_success_plus_in_sign");
    let Verdict::Genuine { notification, proof } = receive(&app, body.as_bytes(), Trust::Active)
    else {
        panic!()
    };
    let Kind::Trade(trade) = &notification.kind else { panic!() };
    assert_eq!((trade.status, trade.total.get()), (TradeState::Success, 10_000));
    assert_eq!(notification.key, "2021000000000001/ORD20240305000101");
    assert_eq!((proof.rule, proof.sign_type), (Rule::V1, SignType::Rsa2));
}

#[test]
fn what_is_no_form_is_refused_with_its_cause() {
    let app = app(ring(&[("own", PUBLIC_2048)]));
    let verdict = receive(&app, b"{}", Trust::Active);
    let Verdict::Refused(refusal) = verdict else { panic!() };
    assert_eq!(refusal.cause(), "not_a_form");
}

#[test]
fn a_message_for_somebody_else_is_set_aside() {
    let order = "2021000000000001/ORD20240305000101".to_owned();
    assert_eq!(
        set_aside(&[("app_id", Some(b"2021000000000002"))]),
        (
            "other_app",
            "the message is for app `2021000000000002`, not for `2021000000000001`".to_owned(),
            order.clone()
        )
    );
    assert_eq!(
        set_aside(&[("seller_id", Some(b"2088000000000009"))]),
        (
            "other_seller",
            "the payment went to seller `2088000000000009`, not to `2088000000000001`".to_owned(),
            order
        )
    );
    assert_eq!(set_aside(&[("app_id", None)]).0, "missing_app_id");
    assert_eq!(set_aside(&[("seller_id", Some(b""))]).0, "missing_seller");
}

#[test]
fn a_genuine_message_that_cannot_be_read_is_set_aside() {
    assert_eq!(set_aside(&[("charset", Some(b"big5"))]).0, "unreadable");
    assert_eq!(set_aside(&[("total_amount", Some(b"1e3"))]).0, "unreadable");
    let without_order = set_aside(&[("out_trade_no", None)]);
    assert_eq!(without_order.2, "2021000000000001/2024030501222090012000000000000001");
    let without_names = set_aside(&[("out_trade_no", None), ("notify_id", None)]);
    assert_eq!(without_names.2, "2021000000000001");
}

#[test]
fn other_kinds_need_the_app_and_no_seller() {
    let agreement: [(&str, Option<&[u8]>); 2] =
        [("notify_type", Some(b"dut_user_sign")), ("seller_id", None)];
    assert!(matches!(receive_trade(&agreement), Verdict::Genuine { .. }));
    let [kind, _] = agreement;
    assert_eq!(set_aside(&[kind, ("app_id", Some(b"1"))]).0, "other_app");
}
