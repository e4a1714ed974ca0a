use std::thread;

use alipay::SigningKey;
use anyhow::anyhow;
use chrono::{DateTime, Duration, Utc};
use payment::{Fen, to_local};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

pub(super) const APP_ID: &str = "2021000000000001";
pub(super) const SELLER_ID: &str = "2088000000000001";

/// Every tenth notification is a partial refund of the trade that the nine before it began with.
const GROUP: u64 = 10;

/// Genuine notifications with the parameters and the length of real ones: nine payments, then a partial
/// refund of the first of them, and so on. The same seed gives the same texts. Signed on all cores.
pub(super) fn sign_all(
    count: u32,
    seed: u64,
    key: &SigningKey,
    now: DateTime<Utc>,
) -> anyhow::Result<Notifications> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut expected = Expected::default();
    let mut first = None;
    let mut unsigned = Vec::new();
    for number in 0..u64::from(count) {
        let place = number % GROUP;
        let params = match &first {
            Some(payment) if place == GROUP - 1 => {
                let payment: &Payment = payment;
                let refund = Fen::new(payment.total.get() / 2);
                expected.refunds += 1;
                expected.refunded_fen += refund.get();
                (payment.key(), payment.refund_params(number, refund))
            }
            Some(_) | None => {
                let payment = Payment::roll(number, &mut rng, now);
                expected.trades += 1;
                expected.total_fen += payment.total.get();
                let params = (payment.key(), payment.payment_params(&mut rng));
                if place == 0 {
                    first = Some(payment);
                }
                params
            }
        };
        unsigned.push(params);
    }
    expected.notifications = u64::from(count);
    Ok(Notifications { signed: sign_on_all_cores(unsigned, key)?, expected })
}

#[derive(Debug)]
pub(super) struct Notifications {
    pub(super) signed: Vec<Signed>,
    pub(super) expected: Expected,
}

/// One notification, ready to be posted.
#[derive(Debug)]
pub(super) struct Signed {
    /// Of the log: `{app_id}/{out_trade_no}`.
    pub(super) key: String,
    pub(super) body: Vec<u8>,
    params: Vec<(&'static str, String)>,
}

/// What the ledger must hold once all of them are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) notifications: u64,
    pub(super) trades: u64,
    pub(super) total_fen: i64,
    pub(super) refunds: u64,
    pub(super) refunded_fen: i64,
}

impl Notifications {
    pub(super) fn median_body_bytes(&self) -> usize {
        let mut lengths: Vec<usize> = self.signed.iter().map(|signed| signed.body.len()).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).copied().unwrap_or(0)
    }
}

impl Signed {
    /// What Alipay signs of it: every parameter but `sign` and `sign_type`, sorted by name.
    pub(super) fn signed_text(&self) -> Vec<u8> {
        signed_text(&self.params)
    }

    /// Base64.
    pub(super) fn sign(&self) -> &str {
        let sign = self.params.iter().find(|(name, _)| *name == "sign");
        sign.map_or("", |(_, value)| value)
    }
}

/// What a payment's notification and its refund's have in common.
struct Payment {
    number: u64,
    out_trade_no: String,
    trade_no: String,
    buyer_id: String,
    total: Fen,
    at: DateTime<Utc>,
}

impl Payment {
    fn roll(number: u64, rng: &mut ChaCha8Rng, now: DateTime<Utc>) -> Payment {
        let at = now - Duration::milliseconds(rng.random_range(1_000..3_600_000));
        let day = digits(at, 8);
        Payment {
            number,
            out_trade_no: format!("SP{day}{number:012}"),
            trade_no: format!("{day}2200{number:016}"),
            buyer_id: format!("2088{:012}", rng.random_range(0..1_000_000_000_000_u64)),
            total: Fen::new(rng.random_range(100..200_000)),
            at,
        }
    }

    fn key(&self) -> String {
        format!("{APP_ID}/{}", self.out_trade_no)
    }

    fn payment_params(&self, rng: &mut ChaCha8Rng) -> Vec<(&'static str, String)> {
        let total = self.total.to_string();
        let mut params = self.common_params(self.number);
        params.extend([
            ("receipt_amount", total.clone()),
            ("invoice_amount", total.clone()),
            ("buyer_pay_amount", total.clone()),
            ("point_amount", "0.00".to_owned()),
            (
                "fund_bill_list",
                json!([{ "amount": total, "fundChannel": "ALIPAYACCOUNT" }]).to_string(),
            ),
            ("passback_params", format!("shop%3D{}", rng.random_range(1..500))),
        ]);
        params
    }

    fn refund_params(&self, number: u64, refund: Fen) -> Vec<(&'static str, String)> {
        let mut params = self.common_params(number);
        params.extend([
            ("gmt_refund", format!("{}.631", to_local(self.at))),
            ("refund_fee", refund.to_string()),
            ("out_biz_no", format!("RF{}", self.out_trade_no)),
        ]);
        params
    }

    /// In no particular order, like the real ones.
    fn common_params(&self, number: u64) -> Vec<(&'static str, String)> {
        let (day, second) = (digits(self.at, 8), digits(self.at, 14));
        let time = second.get(8..).unwrap_or_default();
        let at = to_local(self.at);
        vec![
            ("gmt_create", at.clone()),
            ("charset", "utf-8".to_owned()),
            ("seller_email", "shop***@example.com".to_owned()),
            ("subject", "天府可乐 330ml×6 & 张飞牛肉 [礼盒]".to_owned()),
            ("sign", String::new()),
            ("body", format!("订单 {} 共 2 件", self.out_trade_no)),
            ("buyer_id", self.buyer_id.clone()),
            ("buyer_logon_id", "138****0001".to_owned()),
            ("notify_id", format!("{day}00222{time}{number:015}")),
            ("notify_type", "trade_status_sync".to_owned()),
            ("trade_status", "TRADE_SUCCESS".to_owned()),
            ("app_id", APP_ID.to_owned()),
            ("auth_app_id", APP_ID.to_owned()),
            ("sign_type", "RSA2".to_owned()),
            ("seller_id", SELLER_ID.to_owned()),
            ("gmt_payment", at.clone()),
            ("notify_time", at),
            ("version", "1.0".to_owned()),
            ("out_trade_no", self.out_trade_no.clone()),
            ("total_amount", self.total.to_string()),
            ("trade_no", self.trade_no.clone()),
        ]
    }
}

/// The first `count` digits of a time as China writes it.
fn digits(at: DateTime<Utc>, count: usize) -> String {
    to_local(at).chars().filter(char::is_ascii_digit).take(count).collect()
}

type Unsigned = (String, Vec<(&'static str, String)>);

fn sign_on_all_cores(unsigned: Vec<Unsigned>, key: &SigningKey) -> anyhow::Result<Vec<Signed>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut shares: Vec<Vec<Unsigned>> = Vec::new();
    let share = unsigned.len().div_ceil(threads).max(1);
    let mut unsigned = unsigned.into_iter().peekable();
    while unsigned.peek().is_some() {
        shares.push(unsigned.by_ref().take(share).collect());
    }
    let signed = thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(|| share.into_iter().map(|one| sign(one, key)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for share in signed {
        for one in share.map_err(|_| anyhow!("a thread that signs fell over"))? {
            all.push(one?);
        }
    }
    Ok(all)
}

fn sign((log_key, mut params): Unsigned, key: &SigningKey) -> Result<Signed, alipay::KeyError> {
    let sign = key.sign_rsa2(&signed_text(&params))?;
    if let Some((_, value)) = params.iter_mut().find(|(name, _)| *name == "sign") {
        *value = sign;
    }
    let mut body = Vec::with_capacity(2_048);
    for (name, value) in &params {
        if !body.is_empty() {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        encode(value, &mut body);
    }
    Ok(Signed { key: log_key, body, params })
}

fn signed_text(params: &[(&'static str, String)]) -> Vec<u8> {
    let mut signed: Vec<_> =
        params.iter().filter(|(name, _)| !["sign", "sign_type"].contains(name)).collect();
    signed.sort_unstable();
    let pairs: Vec<String> = signed.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&").into_bytes()
}

/// As `java.net.URLEncoder` does it.
fn encode(value: &str, into: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => into.push(byte),
            b' ' => into.push(b'+'),
            other => into.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alipay::{App, KeyRing, Kind, Trust, Verdict, VerificationKey};
    use payment::{AppId, SellerId};

    use super::*;

    #[test]
    fn every_notification_is_genuine_and_tells_what_is_expected_of_all() {
        let (key, _) = SigningKey::generate().unwrap();
        let verification = VerificationKey::read("bench", key.public_key_base64().as_bytes());
        let app = App {
            app_id: AppId::parse(APP_ID).unwrap(),
            seller_id: SellerId::parse(SELLER_ID).unwrap(),
            keys: KeyRing::new(vec![verification.unwrap()], vec![]).unwrap(),
            refund_fee: alipay::RefundFee::Cumulative,
        };
        let made = sign_all(25, 7, &key, DateTime::UNIX_EPOCH).unwrap();
        let mut told = Expected { notifications: 25, ..Expected::default() };
        let mut ids = std::collections::BTreeSet::new();
        for signed in &made.signed {
            let Verdict::Genuine { notification, .. } =
                alipay::receive(&app, &signed.body, Trust::Active)
            else {
                panic!("refused: {}", String::from_utf8_lossy(&signed.body));
            };
            assert_eq!(notification.key, signed.key);
            assert!((1_000..2_000).contains(&signed.body.len()), "{}", signed.body.len());
            assert!(ids.insert(notification.notify_id.unwrap()));
            let Kind::Trade(trade) = notification.kind else { panic!() };
            match trade.refund {
                Some(refund) => {
                    told.refunds += 1;
                    told.refunded_fen += refund.refund_fee.get();
                }
                None => {
                    told.trades += 1;
                    told.total_fen += trade.total.get();
                }
            }
        }
        assert_eq!(told, made.expected);
        assert_eq!((told.trades, told.refunds), (23, 2));
        let again = sign_all(25, 7, &key, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(again.signed[24].body, made.signed[24].body);
    }
}
