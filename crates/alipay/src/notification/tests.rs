use std::error::Error as _;

use expect_test::{Expect, expect};

use super::*;
use crate::samples::{body, genuine, paid_trade, samples_key};
use crate::{KeyRing, Trust, UnverifiedForm, verify};

fn sample(name: &str) -> Notification {
    let keys = KeyRing::new(vec![samples_key()], Vec::new()).unwrap();
    let form = UnverifiedForm::parse(body(name).as_bytes()).unwrap();
    Notification::read(&verify(form, &keys, Trust::Active).unwrap()).unwrap()
}

fn show(facts: &[Fact]) -> String {
    let local = |at: &DateTime<Utc>| at.format("%m-%d %H:%M:%S%.fZ").to_string();
    let fen = |fen: &Option<Fen>| fen.map_or("unknown".to_owned(), |fen| fen.to_string());
    let mut lines = String::new();
    for fact in facts {
        let told = match &fact.told {
            Told::Created { total, at } => format!("created {total} at {}", local(at)),
            Told::Paid { total, receipt, at } => {
                format!("paid {total}, receipt {}, at {}", fen(receipt), local(at))
            }
            Told::Refunded { request_no, reported, receipt, at } => format!(
                "refunded {reported:?} by {request_no}, receipt {}, at {}",
                fen(receipt),
                local(at)
            ),
            Told::Closed { at } => {
                format!("closed at {}", at.as_ref().map(local).unwrap_or_default())
            }
            Told::Finished => "finished".to_owned(),
        };
        lines.push_str(&format!("{} {told}\n", fact.out_trade_no));
    }
    lines
}

fn told(name: &str, expected: Expect) {
    expected.assert_eq(&show(&sample(name).facts(RefundFee::Cumulative)));
}

fn read(changes: &[(&str, Option<&[u8]>)]) -> Result<Notification, NotificationError> {
    Notification::read(&genuine(&paid_trade(changes)))
}

/// The error and its sources, as a log would print them.
fn refused(changes: &[(&str, Option<&[u8]>)], expected: Expect) {
    let error = read(changes).unwrap_err();
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    expected.assert_eq(&format!("{error}{source}"));
}

#[test]
fn the_samples_tell_their_facts() {
    told(
        "pay_success_plus_in_sign",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt 100.00, at 03-05 01:00:12Z
    "#]],
    );
    told(
        "partial_refund_1",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt unknown, at 03-05 01:00:12Z
        ORD20240305000101 refunded Cumulative(Fen(3000)) by RF20240305000001, receipt unknown, at 03-05 02:30:00.631Z
    "#]],
    );
    told(
        "partial_refund_2_cumulative",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt unknown, at 03-05 01:00:12Z
        ORD20240305000101 refunded Cumulative(Fen(5000)) by RF20240305000002, receipt unknown, at 03-05 03:45:00.102Z
    "#]],
    );
    told(
        "full_refund_closed",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt unknown, at 03-05 01:00:12Z
        ORD20240305000101 closed at 03-05 05:00:00Z
        ORD20240305000101 refunded Cumulative(Fen(10000)) by RF20240305000003, receipt unknown, at 03-05 05:00:00.007Z
    "#]],
    );
    told(
        "timeout_closed",
        expect![[r#"
        ORD20240305000101 closed at 03-05 01:30:00Z
    "#]],
    );
    told(
        "finished",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt 100.00, at 03-05 01:00:12Z
        ORD20240305000101 finished
    "#]],
    );
    told(
        "pay_success_gbk",
        expect![[r#"
        ORD20240305000101 paid 100.00, receipt 100.00, at 03-05 01:00:12Z
    "#]],
    );
    told("app_gateway_message_v1_1", expect![[""]]);
    told("service_market_v2", expect![[""]]);
}

#[test]
fn a_waiting_trade_was_created() {
    let changes: [(&str, Option<&[u8]>); 3] = [
        ("trade_status", Some(b"WAIT_BUYER_PAY")),
        ("gmt_payment", None),
        ("receipt_amount", None),
    ];
    let notification = read(&changes).unwrap();
    expect![[r#"
        ORD20240305000101 created 100.00 at 03-05 01:00:00Z
    "#]]
    .assert_eq(&show(&notification.facts(RefundFee::Cumulative)));
}

#[test]
fn a_trade_that_went_straight_to_finished_is_paid_and_finished() {
    let notification = read(&[("trade_status", Some(b"TRADE_FINISHED"))]).unwrap();
    expect![[r#"
        ORD20240305000101 paid 100.00, receipt 100.00, at 03-05 01:00:12Z
        ORD20240305000101 finished
    "#]]
    .assert_eq(&show(&notification.facts(RefundFee::Cumulative)));
}

#[test]
fn how_a_refund_fee_is_read_is_a_setting() {
    let refund = sample("partial_refund_2_cumulative");
    let reported = |refund_fee| {
        let facts = refund.facts(refund_fee);
        facts.into_iter().find_map(|fact| match fact.told {
            Told::Refunded { reported, .. } => Some(reported),
            Told::Created { .. } | Told::Paid { .. } | Told::Closed { .. } | Told::Finished => None,
        })
    };
    assert_eq!(reported(RefundFee::Cumulative), Some(Reported::Cumulative(Fen::new(5000))));
    assert_eq!(reported(RefundFee::Single), Some(Reported::Single(Fen::new(5000))));
}

#[test]
fn a_retry_tells_the_same_as_the_first_message() {
    assert_eq!(sample("pay_success_plus_in_sign"), sample("pay_success_retry_same_notify_id"));
}

#[test]
fn a_message_in_gbk_reads_as_the_same_trade() {
    let (gbk, utf8) = (sample("pay_success_gbk"), sample("pay_success_plus_in_sign"));
    assert_eq!((gbk.kind, gbk.key), (utf8.kind, utf8.key));
}

#[test]
fn messages_that_are_no_trades_are_kept_by_name() {
    let message = sample("app_gateway_message_v1_1");
    let name = "alipay.trade.refund.depositback.completed".to_owned();
    assert_eq!(message.kind, Kind::Other { name });
    assert_eq!(message.key, "2021000000000001/2024030601222100000000000000000011");
    let message = sample("service_market_v2");
    assert_eq!(message.kind, Kind::Other { name: "servicemarket_order_notify".to_owned() });

    let bare: [(&str, &[u8]); 2] = [("app_id", b"2021000000000001"), ("status", b"NORMAL")];
    let message = Notification::read(&genuine(&bare)).unwrap();
    assert_eq!(message.kind, Kind::Other { name: "unnamed".to_owned() });
    assert_eq!(message.key, "2021000000000001/unnamed");
}

#[test]
fn a_refund_without_a_request_number_goes_by_the_trade_number() {
    let changes: [(&str, Option<&[u8]>); 2] =
        [("refund_fee", Some(b"1.00")), ("gmt_refund", Some(b"2024-03-05 10:30:00.631"))];
    let notification = read(&changes).unwrap();
    let Kind::Trade(trade) = notification.kind else { panic!() };
    let refund = trade.refund.unwrap();
    assert_eq!(refund.request_no.as_str(), trade.trade_no.as_str());
    assert_eq!(refund.at.timestamp_subsec_millis(), 631);
}

#[test]
fn a_refund_of_nothing_is_no_refund() {
    let notification = read(&[("refund_fee", Some(b"0.00"))]).unwrap();
    let Kind::Trade(trade) = notification.kind else { panic!() };
    assert_eq!(trade.refund, None);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_the_parameter() {
    refused(
        &[("total_amount", Some(b"1e3"))],
        expect![
            "cannot read the amount `1e3` of parameter `total_amount`: is not an amount in yuan; it looks like `88.88`: digits, at most two after the point"
        ],
    );
    refused(
        &[("total_amount", Some(b"88.888"))],
        expect![
            "cannot read the amount `88.888` of parameter `total_amount`: is not an amount in yuan; it looks like `88.88`: digits, at most two after the point"
        ],
    );
    refused(&[("total_amount", Some(b""))], expect!["parameter `total_amount` is missing"]);
    refused(
        &[("total_amount", Some(b"-1.00"))],
        expect!["parameter `total_amount` is -1.00; it cannot be negative"],
    );
    refused(
        &[("total_amount", Some("9".repeat(100).as_bytes()))],
        expect![
            "cannot read the amount `9999999999999999999999999999999999999999…` of parameter `total_amount`: is larger than this system can hold"
        ],
    );
    refused(
        &[("receipt_amount", Some(b"100.01"))],
        expect!["parameter `receipt_amount` is 100.01, more than the order's total of 100.00"],
    );
    refused(&[("trade_no", None)], expect!["parameter `trade_no` is missing"]);
    refused(
        &[("trade_no", Some(b"1".repeat(65).as_slice()))],
        expect!["cannot use parameter `trade_no` as an id: is longer than 64 characters"],
    );
    refused(
        &[("out_trade_no", Some(b"a\0b"))],
        expect![
            "cannot use parameter `out_trade_no` as an id: has a control character or a blank at its edge"
        ],
    );
    refused(&[("seller_id", None)], expect!["parameter `seller_id` is missing"]);
    refused(
        &[("trade_status", Some(b"TRADE_PENDING"))],
        expect![
            "parameter `trade_status` is `TRADE_PENDING`; known are WAIT_BUYER_PAY, TRADE_SUCCESS, TRADE_FINISHED and TRADE_CLOSED"
        ],
    );
    refused(&[("trade_status", None)], expect!["parameter `trade_status` is missing"]);
    refused(&[("gmt_payment", None)], expect!["parameter `gmt_payment` is missing"]);
    refused(
        &[("gmt_payment", Some(b"2024-03-05T09:00:12Z"))],
        expect![
            "cannot read the time `2024-03-05T09:00:12Z` of parameter `gmt_payment`: is not a time in Beijing; it looks like `2024-03-05 09:00:12`"
        ],
    );
    refused(
        &[("trade_status", Some(b"WAIT_BUYER_PAY")), ("gmt_create", None)],
        expect!["parameter `gmt_create` is missing"],
    );
    refused(
        &[("refund_fee", Some(b"1.00"))],
        expect!["parameter `refund_fee` tells of a refund and parameter `gmt_refund` is missing"],
    );
    refused(
        &[("gmt_refund", Some(b"2024-03-05 10:30:00.631"))],
        expect!["parameter `gmt_refund` tells of a refund and parameter `refund_fee` is missing"],
    );
    refused(
        &[("version", Some(b"1.1"))],
        expect!["its version is `1.1`; a trade_status_sync has version 1.0"],
    );
    refused(
        &[("charset", Some(b"big5"))],
        expect!["its charset is `big5`; known are utf-8, gbk, gb2312 and gb18030"],
    );
    refused(
        &[("subject", Some(b"\xB2\xE2\xCA\xD4"))],
        expect![
            "parameter `subject` has bytes that are not utf-8, the charset the message declares"
        ],
    );
    refused(
        &[("charset", Some(b"GBK")), ("subject", Some(b"\xB2"))],
        expect![
            "parameter `subject` has bytes that are not gb18030, the charset the message declares"
        ],
    );
}

#[test]
fn a_message_without_charset_is_utf_8_and_an_empty_version_is_one_point_zero() {
    assert!(read(&[("charset", None), ("version", Some(b""))]).is_ok());
}
