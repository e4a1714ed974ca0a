//! A throw-away Alipay: notifications with real signatures, of a key that is worth nothing.

use std::collections::BTreeMap;

use ::alipay::{
    App, KeyRing, Notification, RefundFee, SigningKey, Trust, Verdict, VerificationKey,
};
use payment::{AppId, SellerId};

pub(crate) const APP_ID: &str = "2021000000000001";
pub(crate) const SELLER_ID: &str = "2088000000000001";

pub(crate) struct Alipay(SigningKey);

impl Alipay {
    /// With a key that nobody else has.
    pub(crate) fn new() -> Alipay {
        Alipay(SigningKey::generate().unwrap().0)
    }

    pub(crate) fn key(&self, name: &str) -> VerificationKey {
        VerificationKey::read(name, self.0.public_key_base64().as_bytes()).unwrap()
    }

    /// The merchant's app that believes this key alone.
    pub(crate) fn app(&self) -> App {
        app(KeyRing::new(vec![self.key("in use")], Vec::new()).unwrap())
    }

    /// The raw body of a notification, signed by rule V1 with RSA2.
    pub(crate) fn sign(&self, notice: &Notice) -> Vec<u8> {
        let content: Vec<String> =
            notice.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = self.0.sign_rsa2(content.join("&").as_bytes()).unwrap();
        let mut parameters = notice.0.clone();
        parameters.insert("sign", sign);
        parameters.insert("sign_type", "RSA2".to_owned());
        let encoded: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        encoded.join("&").into_bytes()
    }

    /// What the merchant's app reads out of it.
    pub(crate) fn read(&self, notice: &Notice) -> Notification {
        match ::alipay::receive(&self.app(), &self.sign(notice), Trust::Active) {
            Verdict::Genuine { notification, .. } => notification,
            verdict @ (Verdict::SetAside { .. } | Verdict::Refused(_)) => panic!("{verdict:?}"),
        }
    }
}

pub(crate) fn app(keys: KeyRing) -> App {
    App {
        app_id: AppId::parse(APP_ID).unwrap(),
        seller_id: SellerId::parse(SELLER_ID).unwrap(),
        keys,
        refund_fee: RefundFee::Cumulative,
    }
}

/// The parameters of one notification, not signed yet.
#[derive(Clone)]
pub(crate) struct Notice(BTreeMap<&'static str, String>);

impl Notice {
    /// Everything Alipay may tell of a trade of 100.00 with a merchant's discount of 5.00, in the order in
    /// which it usually does. Two of them contradict each other: the order was closed unpaid, and paid.
    pub(crate) fn seven(trade_no: &str) -> [Notice; 7] {
        [
            Notice::waiting(trade_no),
            Notice::paid(trade_no),
            Notice::refunded(trade_no, "R1", "30.00", "2024-03-06 10:00:00.123"),
            Notice::refunded(trade_no, "R2", "50.00", "2024-03-07 10:00:00.456"),
            Notice::refunded(trade_no, "R3", "100.00", "2024-03-08 10:00:00.789")
                .with("trade_status", "TRADE_CLOSED")
                .with("gmt_close", "2024-03-08 10:00:00"),
            Notice::closed(trade_no),
            Notice::finished(trade_no),
        ]
    }

    pub(crate) fn waiting(trade_no: &str) -> Notice {
        Notice::of(trade_no, "WAIT_BUYER_PAY", "waiting")
    }

    pub(crate) fn paid(trade_no: &str) -> Notice {
        Notice::of(trade_no, "TRADE_SUCCESS", "paid").with_payment().with("receipt_amount", "95.00")
    }

    /// `refund_fee` is everything refunded so far.
    pub(crate) fn refunded(trade_no: &str, request_no: &str, refund_fee: &str, at: &str) -> Notice {
        Notice::of(trade_no, "TRADE_SUCCESS", request_no)
            .with_payment()
            .with("out_biz_no", request_no)
            .with("refund_fee", refund_fee)
            .with("gmt_refund", at)
    }

    /// Of a refund that the merchant gave no number.
    pub(crate) fn refunded_unnamed(trade_no: &str, refund_fee: &str, at: &str) -> Notice {
        let mut notice = Notice::refunded(trade_no, "unnamed", refund_fee, at);
        notice.0.remove("out_biz_no");
        notice
    }

    /// Nobody paid in time.
    pub(crate) fn closed(trade_no: &str) -> Notice {
        Notice::of(trade_no, "TRADE_CLOSED", "closed").with("gmt_close", "2024-03-05 09:30:00")
    }

    pub(crate) fn finished(trade_no: &str) -> Notice {
        Notice::of(trade_no, "TRADE_FINISHED", "finished")
            .with_payment()
            .with("receipt_amount", "95.00")
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Notice {
        self.0.insert(name, value.to_owned());
        self
    }

    pub(crate) fn out_trade_no(&self) -> &str {
        &self.0["out_trade_no"]
    }

    fn with_payment(self) -> Notice {
        self.with("gmt_payment", "2024-03-05 09:00:12")
    }

    fn of(trade_no: &str, status: &str, name: &str) -> Notice {
        Notice(BTreeMap::new())
            .with("app_id", APP_ID)
            .with("charset", "utf-8")
            .with("gmt_create", "2024-03-05 09:00:00")
            .with("notify_id", &format!("{trade_no}-{name}"))
            .with("notify_type", "trade_status_sync")
            .with("out_trade_no", &format!("O-{trade_no}"))
            .with("seller_id", SELLER_ID)
            .with("subject", "算盘 + 珠")
            .with("total_amount", "100.00")
            .with("trade_no", trade_no)
            .with("trade_status", status)
            .with("version", "1.0")
    }
}

fn encode(value: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(escape).collect()
}
