use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::samples::{PRIVATE_1024, PRIVATE_2048, PUBLIC_2048, ring, sign};

const METHOD: &str = "alipay.trade.query";

fn node_of(body: &str) -> String {
    let members = members(body.as_bytes()).unwrap();
    let node = members.iter().find(|member| member.name == b"alipay_trade_query_response").unwrap();
    String::from_utf8(node.value.to_vec()).unwrap()
}

/// An answer with `sent` as its node and the signature of `signed`.
fn answer(name: &str, sent: &str, private_pem: &str, signed: &str) -> String {
    let signature = STANDARD.encode(sign(private_pem, SignType::Rsa2, signed.as_bytes()));
    format!(r#"{{"{name}":{sent},"sign":"{signature}"}}"#)
}

fn open(body: &str) -> Result<Answer, ResponseError> {
    Answer::open(body.as_bytes(), METHOD, &ring(&[("own", PUBLIC_2048)]))
}

#[test]
fn the_node_is_cut_out_as_it_came() {
    for node in [
        r#"{}"#,
        r#"{"code":"10000","msg":"Success"}"#,
        r#"{"list":[{"a":[1,2]},{"b":null}],"n":-1.5e3}"#,
        r#"{"cl}ose":"}{","o{pen":["{","]"]}"#,
        r#"{"quote":"\"}","two":"\\","four\\":"\\\\"}"#,
        "{ \"blanks\" :\t\"kept\"  ,\r\n \"x\": 1 }",
        r#"{"link":"http:\/\/example.com\/a","u":"\u4e0b\""}"#,
        r#""bm90IGFuIG9iamVjdA==""#,
    ] {
        for body in [
            format!(r#"{{"alipay_trade_query_response":{node},"sign":"AAAA"}}"#),
            format!(r#"{{"sign":"AAAA","alipay_trade_query_response":{node}}}"#),
            format!("\n{{ \"alipay_trade_query_response\"  :  {node} , \"sign\" : \"A\" }}\n"),
        ] {
            assert_eq!(node_of(&body), node, "{body}");
        }
    }
}

#[test]
fn what_is_no_answer_is_refused_with_its_place() {
    let refused = |body: &str| members(body.as_bytes()).unwrap_err().to_string();
    let at = |offset, what| {
        format!("the answer is not the JSON of the open API: byte {offset} should be {what}")
    };
    assert_eq!(refused(""), at(0, "the `{` of the outer object"));
    assert_eq!(refused("<html>"), at(0, "the `{` of the outer object"));
    assert_eq!(refused(r#"{"a""#), at(4, "a `:`"));
    assert_eq!(refused(r#"{"a":}"#), at(5, "a value"));
    assert_eq!(refused(r#"{"a":{"b":"#), at(10, "the bracket that closes the node"));
    assert_eq!(refused(r#"{"a":"\"#), at(7, "the `\"` that ends the string"));
    assert_eq!(refused(r#"{"a":1 "b":2}"#), at(7, "a `,` or the `}` of the outer object"));
    assert_eq!(refused(r#"{"a":1}{"b":2}"#), at(7, "the end"));
    assert_eq!(refused(r#"{"a":1,"a":2}"#), "the answer names a member of its outer object twice");
}

#[test]
fn every_cut_of_an_answer_is_refused() {
    let node = r#"{"code":"10000","list":["\"{"]}"#;
    let body = answer("alipay_trade_query_response", node, PRIVATE_2048, node);
    assert!(open(&body).is_ok());
    for length in 0..body.len() {
        assert!(open(&body[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_success_must_be_signed_by_a_known_key_over_the_text_as_it_came() {
    let name = "alipay_trade_query_response";
    let node = r#"{"code":"10000","trade_no":"1"}"#;
    let genuine = open(&answer(name, node, PRIVATE_2048, node)).unwrap();
    assert!(genuine.success && genuine.signed);
    assert_eq!(genuine.text("trade_no"), Some("1"));

    let changed = node.replace(r#""1""#, r#""2""#);
    let wrong = [
        answer(name, &changed, PRIVATE_2048, node),
        answer(name, &node.replace(',', ", "), PRIVATE_2048, node),
        answer(name, node, PRIVATE_1024, node),
    ];
    for body in wrong {
        assert_eq!(open(&body).unwrap_err(), ResponseError::WrongSignature, "{body}");
    }
    for body in [format!(r#"{{"{name}":{node}}}"#), format!(r#"{{"{name}":{node},"sign":""}}"#)] {
        assert_eq!(open(&body).unwrap_err(), ResponseError::UnsignedSuccess, "{body}");
    }
    let no_base64 = format!(r#"{{"{name}":{node},"sign":"*"}}"#);
    assert_eq!(open(&no_base64).unwrap_err(), ResponseError::BadSign);
}

#[test]
fn slashes_may_be_escaped_after_signing() {
    let name = "alipay_trade_query_response";
    let sent = r#"{"code":"10000","bill_download_url":"http:\/\/example.com\/a?b=c"}"#;
    let signed = sent.replace(r"\/", "/");
    for signed in [sent, &signed] {
        let answer = open(&answer(name, sent, PRIVATE_2048, signed)).unwrap();
        assert_eq!(answer.text("bill_download_url"), Some("http://example.com/a?b=c"));
    }
    // The signature's own slashes as well.
    let body = answer(name, sent, PRIVATE_2048, sent);
    let (node, sign) = body.split_once(r#","sign":"#).unwrap();
    let body = format!(r#"{node},"sign":{}"#, sign.replace('/', r"\/"));
    assert!(open(&body).is_ok());
}

#[test]
fn an_error_may_come_unsigned_and_says_so() {
    let node = r#"{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-signature"}"#;
    let unsigned = open(&format!(r#"{{"error_response":{node}}}"#)).unwrap();
    assert!(!unsigned.success && !unsigned.signed);
    let signed = open(&answer("error_response", node, PRIVATE_2048, node)).unwrap();
    assert!(!signed.success && signed.signed);
    let wrong = answer("error_response", node, PRIVATE_1024, node);
    assert_eq!(open(&wrong).unwrap_err(), ResponseError::WrongSignature);
    let claims_success = r#"{"code":"10000"}"#;
    let body = answer("error_response", claims_success, PRIVATE_2048, claims_success);
    assert!(!open(&body).unwrap().success);
}

#[test]
fn an_answer_to_something_else_or_an_encrypted_one_is_refused() {
    let node = r#"{"code":"10000"}"#;
    let other = answer("alipay_trade_refund_response", node, PRIVATE_2048, node);
    let expected = "alipay_trade_query_response".to_owned();
    assert_eq!(open(&other).unwrap_err(), ResponseError::NoNode { node: expected });
    let cipher = r#""bm90IGFuIG9iamVjdA==""#;
    let encrypted = answer("alipay_trade_query_response", cipher, PRIVATE_2048, cipher);
    assert_eq!(open(&encrypted).unwrap_err(), ResponseError::Encrypted);
    for node in ["[]", "{}", r#"{"code":10000}"#, "1"] {
        let body = answer("alipay_trade_query_response", node, PRIVATE_2048, node);
        assert_eq!(open(&body).unwrap_err(), ResponseError::NotAnObject, "{node}");
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_the_scanner_down(body in r#"[{}\[\]":,\\ a1]{0,40}"#) {
        for member in members(body.as_bytes()).unwrap_or_default() {
            prop_assert!(!member.value.is_empty());
        }
    }
}
