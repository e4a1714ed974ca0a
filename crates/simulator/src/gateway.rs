//! What the open API answers, as a function of the request and the time.

use std::collections::HashMap;
use std::sync::Arc;

use payment::{BillDay, OutTradeNo, TradeNo, parse_local, to_local};
use serde_json::{Value, json};
use service::Clock;

use crate::form::{self, EmptyValues, Param, Rule};
use crate::key::{KeyError, Keys};
use crate::link;
use crate::notice::yuan;
use crate::scenario::Scenario;
use crate::trade::{Charset, Ending, Trade};

/// The pretend Alipay behind its gateway: what it knows, and with which keys it speaks.
pub(crate) struct Desk {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    by_trade_no: HashMap<TradeNo, usize>,
    by_out_trade_no: HashMap<OutTradeNo, usize>,
}

impl Desk {
    pub(crate) fn new(scenario: Arc<Scenario>, keys: Arc<Keys>, clock: Arc<dyn Clock>) -> Self {
        let numbered = || scenario.trades.iter().enumerate();
        let by_trade_no =
            numbered().map(|(index, trade)| (trade.trade_no.clone(), index)).collect();
        let by_out_trade_no =
            numbered().map(|(index, trade)| (trade.out_trade_no.clone(), index)).collect();
        Desk { scenario, keys, clock, by_trade_no, by_out_trade_no }
    }

    /// By `trade_no`, which wins, or by `out_trade_no`. A trade exists once the buyer has opened
    /// it.
    fn trade(&self, content: &Value) -> Option<&Trade> {
        let text = |name: &str| content.get(name).and_then(Value::as_str);
        let index = match (text("trade_no"), text("out_trade_no")) {
            (Some(trade_no), _) => self.by_trade_no.get(&TradeNo::parse(trade_no).ok()?)?,
            (None, Some(out_trade_no)) => {
                self.by_out_trade_no.get(&OutTradeNo::parse(out_trade_no).ok()?)?
            }
            (None, None) => return None,
        };
        self.scenario.trades.get(*index)
    }
}

const BILL: &str = "alipay.data.dataservice.bill.downloadurl.query";
const TRADE: &str = "alipay.trade.query";
const REFUND: &str = "alipay.trade.fastpay.refund.query";

/// Answers one call. `host` is where the caller found us, and so where links lead.
pub(crate) fn answer(
    desk: &Desk,
    query: &[u8],
    body: &[u8],
    host: &str,
) -> Result<Vec<u8>, KeyError> {
    let request = match Request::check(desk, query, body) {
        Ok(request) => request,
        Err(refused) => return Ok(refused.unsigned()),
    };
    let content: Value =
        serde_json::from_slice(request.get("biz_content").unwrap_or_default()).unwrap_or_default();
    let (method, node) = match request.get("method") {
        Some(method) if method == BILL.as_bytes() => (BILL, bill(desk, &content, host)?),
        Some(method) if method == TRADE.as_bytes() => (TRADE, trade(desk, &content)),
        Some(method) if method == REFUND.as_bytes() => (REFUND, refund(desk, &content)),
        Some(_) => return Ok(Refused::INVALID_METHOD.unsigned()),
        None => return Ok(Refused::MISSING_METHOD.unsigned()),
    };
    signed(desk, method, request.charset(), &node)
}

/// `{"…_response":{…},"sign":"…"}`: the signature covers the node's text as it stands there.
fn signed(desk: &Desk, method: &str, charset: Charset, node: &Value) -> Result<Vec<u8>, KeyError> {
    let node = charset.encode(&node.to_string());
    let sign = desk.keys.alipay.sign(&node)?;
    let name = method.replace('.', "_");
    let mut text = format!("{{\"{name}_response\":").into_bytes();
    text.extend_from_slice(&node);
    text.extend_from_slice(format!(",\"sign\":\"{sign}\"}}").as_bytes());
    Ok(text)
}

struct Request(Vec<Param>);

impl Request {
    /// The parameters of query and body together, signed by the app that they name.
    fn check(desk: &Desk, query: &[u8], body: &[u8]) -> Result<Self, Refused> {
        let mut params = form::read(body).ok_or(Refused::INVALID_ENCODING)?;
        for param in form::read(query).ok_or(Refused::INVALID_ENCODING)? {
            if !params.iter().any(|ours| ours.name == param.name) {
                params.push(param);
            }
        }
        let request = Request(params);
        match request.get("app_id") {
            None => return Err(Refused::MISSING_APP_ID),
            Some(app_id) if app_id != desk.scenario.plan.app_id.as_str().as_bytes() => {
                return Err(Refused::INVALID_APP_ID);
            }
            Some(_) => {}
        }
        let sign = request.get("sign").ok_or(Refused::MISSING_SIGNATURE)?;
        if request.get("sign_type") != Some(b"RSA2") {
            return Err(Refused::INVALID_SIGNATURE_TYPE);
        }
        let text = form::signed_text(&request.0, Rule::V2, EmptyValues::Skipped);
        if !desk.keys.app.verifies(&text, sign) {
            return Err(Refused::INVALID_SIGNATURE);
        }
        let timestamp = request.get("timestamp").ok_or(Refused::MISSING_TIMESTAMP)?;
        std::str::from_utf8(timestamp)
            .ok()
            .and_then(|text| parse_local(text).ok())
            .ok_or(Refused::INVALID_TIMESTAMP)?;
        Ok(request)
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|param| param.name == name).map(|param| param.value.as_slice())
    }

    fn charset(&self) -> Charset {
        Charset::named(self.get("charset").unwrap_or_default())
    }
}

/// A call that is turned away at the door, before it reaches a service: the answer is not signed.
struct Refused {
    code: &'static str,
    msg: &'static str,
    sub_code: &'static str,
    sub_msg: &'static str,
}

impl Refused {
    const INVALID_ENCODING: Refused = Refused::invalid("isv.invalid-encoding", "字符集错误");
    const INVALID_APP_ID: Refused = Refused::invalid("isv.invalid-app-id", "无效的AppID参数");
    const INVALID_METHOD: Refused = Refused::invalid("isv.invalid-method", "不存在的方法名");
    const INVALID_SIGNATURE: Refused =
        Refused::invalid("isv.invalid-signature", "验签出错，请检查签名与公钥");
    const INVALID_SIGNATURE_TYPE: Refused =
        Refused::invalid("isv.invalid-signature-type", "无效签名类型");
    const INVALID_TIMESTAMP: Refused =
        Refused::invalid("isv.invalid-timestamp", "非法的时间戳参数");
    const MISSING_APP_ID: Refused = Refused::missing("isv.missing-app-id", "缺少AppID参数");
    const MISSING_METHOD: Refused = Refused::missing("isv.missing-method", "缺少方法名参数");
    const MISSING_SIGNATURE: Refused = Refused::missing("isv.missing-signature", "缺少签名参数");
    const MISSING_TIMESTAMP: Refused = Refused::missing("isv.missing-timestamp", "缺少时间戳参数");

    const fn missing(sub_code: &'static str, sub_msg: &'static str) -> Self {
        Refused { code: "40001", msg: "Missing Required Arguments", sub_code, sub_msg }
    }

    const fn invalid(sub_code: &'static str, sub_msg: &'static str) -> Self {
        Refused { code: "40002", msg: "Invalid Arguments", sub_code, sub_msg }
    }

    fn unsigned(&self) -> Vec<u8> {
        let node = json!({
            "code": self.code,
            "msg": self.msg,
            "sub_code": self.sub_code,
            "sub_msg": self.sub_msg,
        });
        json!({ "error_response": node }).to_string().into_bytes()
    }
}

fn failed(sub_code: &str, sub_msg: &str) -> Value {
    json!({"code": "40004", "msg": "Business Failed", "sub_code": sub_code, "sub_msg": sub_msg})
}

fn bill(desk: &Desk, content: &Value, host: &str) -> Result<Value, KeyError> {
    let invalid = || failed("isv.invalid_arguments", "入参不合法");
    let text = |name: &str| content.get(name).and_then(Value::as_str);
    let (Some(kind), Some(day)) = (text("bill_type"), text("bill_date")) else {
        return Ok(invalid());
    };
    let Ok(day) = BillDay::parse(day) else { return Ok(invalid()) };
    let now = desk.clock.now();
    if day >= BillDay::of(now) {
        return Ok(invalid());
    }
    let rows = match kind {
        "trade" => desk.scenario.key.days.iter().find(|totals| totals.day == day),
        "signcustomer" | "merchant_act" | "trade_zft_merchant" | "zft_acc" | "settlementMerge" => {
            None
        }
        _ => return Ok(invalid()),
    };
    let Some(totals) = rows else { return Ok(failed("isp.bill_not_exist", "账单不存在")) };
    let url = link::to_bill(desk, day, host, now)?;
    let mut node = json!({"code": "10000", "msg": "Success", "bill_download_url": url});
    if totals.bill_rows == 0
        && let Some(node) = node.as_object_mut()
    {
        node.insert("bill_file_code".to_owned(), json!("EMPTY_DATA_WITH_BILL_FILE"));
    }
    Ok(node)
}

fn trade(desk: &Desk, content: &Value) -> Value {
    let Some(trade) = desk.trade(content) else {
        return failed("ACQ.TRADE_NOT_EXIST", "交易不存在");
    };
    let receipt = trade.payment.map_or(0, |_| trade.price.receipt_fen());
    let mut node = json!({
        "code": "10000",
        "msg": "Success",
        "trade_no": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "trade_status": status(trade),
        "total_amount": yuan(trade.price.total_fen),
        "receipt_amount": yuan(receipt),
        "buyer_pay_amount": yuan(receipt),
        "buyer_logon_id": trade.buyer.logon_id,
        "point_amount": "0.00",
        "invoice_amount": "0.00",
    });
    if let (Some(node), Some(payment)) = (node.as_object_mut(), trade.payment) {
        node.insert("send_pay_date".to_owned(), json!(to_local(payment.at)));
    }
    node
}

/// The truth, whatever was told.
fn status(trade: &Trade) -> &'static str {
    let refunded_fen = trade.refunded_fen(trade.refunds.len());
    match (trade.payment, trade.ending) {
        (Some(_), _) if refunded_fen >= trade.price.total_fen => "TRADE_CLOSED",
        (Some(_), Ending::Finished { .. } | Ending::FinishedAtOnce) => "TRADE_FINISHED",
        (Some(_), Ending::Open | Ending::TimedOut { .. }) => "TRADE_SUCCESS",
        (None, Ending::TimedOut { .. }) => "TRADE_CLOSED",
        (None, Ending::Open | Ending::Finished { .. } | Ending::FinishedAtOnce) => "WAIT_BUYER_PAY",
    }
}

fn refund(desk: &Desk, content: &Value) -> Value {
    let Some(trade) = desk.trade(content) else {
        return failed("ACQ.TRADE_NOT_EXIST", "交易不存在");
    };
    let request_no = content.get("out_request_no").and_then(Value::as_str).unwrap_or_default();
    let refund = trade.refunds.iter().find(|refund| refund.request_no.as_str() == request_no);
    // A refund that does not exist is answered with success, too, and without a status.
    match refund {
        None => json!({"code": "10000", "msg": "Success"}),
        Some(refund) => json!({
            "code": "10000",
            "msg": "Success",
            "trade_no": trade.trade_no,
            "out_trade_no": trade.out_trade_no,
            "out_request_no": refund.request_no,
            "total_amount": yuan(trade.price.total_fen),
            "refund_amount": yuan(refund.amount_fen),
            "refund_status": "REFUND_SUCCESS",
            "gmt_refund_pay": to_local(refund.at),
        }),
    }
}
