//! Notifications to the byte: as they are encoded in their own charset, and signed or mis-signed.

use ::alipay::SigningKey;
use encoding_rs::GB18030;

use super::alipay::{APP_ID, SELLER_ID};

/// The parameters of a message, in the order in which they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Form(Vec<(String, Vec<u8>)>);

/// Which of `sign` and `sign_type` the signature leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Both.
    V1,
    /// `sign` alone.
    V2,
}

impl Form {
    pub(crate) fn new() -> Form {
        Form(Vec::new())
    }

    /// A trade_status_sync of our app about this trade, in UTF-8.
    pub(crate) fn of_trade(trade_no: &str, status: &str, notify_id: &str) -> Form {
        Form::new()
            .with("gmt_create", "2024-03-05 09:00:00")
            .with("charset", "utf-8")
            .with("subject", "算盘 + 珠 & \"三\" 100%")
            .with("buyer_logon_id", "138****01")
            .with("passback_params", "k%3Dv%26x")
            .with("notify_type", "trade_status_sync")
            .with("notify_id", notify_id)
            .with("notify_time", "2024-03-05 09:00:13")
            .with("app_id", APP_ID)
            .with("auth_app_id", APP_ID)
            .with("seller_id", SELLER_ID)
            .with("trade_no", trade_no)
            .with("out_trade_no", format!("O-{trade_no}"))
            .with("trade_status", status)
            .with("version", "1.0")
    }

    /// A payment of 100.00, told under the trade's own number.
    pub(crate) fn paid(trade_no: &str) -> Form {
        Form::of_trade(trade_no, "TRADE_SUCCESS", &format!("{trade_no}-paid"))
            .with("gmt_payment", "2024-03-05 09:00:12")
            .with("total_amount", "100.00")
            .with("receipt_amount", "100.00")
    }

    /// In its place where the name is there already.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Form {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Form {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// The same message in GBK: every value transcoded, and said so.
    pub(crate) fn in_gbk(mut self) -> Form {
        for (_, value) in &mut self.0 {
            *value = gbk(std::str::from_utf8(value).unwrap());
        }
        self.with("charset", "GBK")
    }

    /// With `sign_type=RSA2` and the `sign` that goes with it.
    pub(crate) fn signed(self, key: &SigningKey, rule: Rule) -> Form {
        let form = self.with("sign_type", "RSA2");
        let mut pairs: Vec<_> = form
            .0
            .iter()
            .filter(|(name, value)| {
                let left_out = name == "sign" || name == "sign_type" && rule == Rule::V1;
                !left_out && !value.is_empty()
            })
            .map(|(name, value)| [name.as_bytes(), b"=", value].concat())
            .collect();
        pairs.sort();
        let sign = key.sign_rsa2(&pairs.join(&b'&')).unwrap();
        form.with("sign", sign)
    }

    /// Percent-encoded as Java's `URLEncoder` does it.
    pub(crate) fn body(&self) -> Vec<u8> {
        let pairs = self
            .0
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name.as_bytes()), encode(value)));
        pairs.collect::<Vec<_>>().join("&").into_bytes()
    }

    pub(crate) fn get(&self, name: &str) -> String {
        let found = self.0.iter().find(|(known, _)| known == name);
        String::from_utf8(found.unwrap().1.clone()).unwrap()
    }
}

pub(crate) fn gbk(text: &str) -> Vec<u8> {
    let (bytes, _, unmappable) = GB18030.encode(text);
    assert!(!unmappable);
    bytes.into_owned()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
            char::from(*byte).to_string()
        }
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    bytes.iter().map(escape).collect()
}
