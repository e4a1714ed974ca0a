//! What the tests of this crate share.

use std::sync::{Arc, LazyLock};

use alipay::{App, KeyRing, RefundFee, VerificationKey};
use payment::{AppId, BillDay, SellerId};

use crate::{Keys, Plan};

/// One set of keys for all tests: making them takes longer than most tests.
pub(crate) static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| Arc::new(Keys::generate().unwrap()));

pub(crate) fn two_days(seed: u64, trades: u32) -> Plan {
    Plan {
        seed,
        first_day: BillDay::parse("2024-03-05").unwrap(),
        days: 2,
        trades,
        app_id: AppId::parse("2021000000000001").unwrap(),
        seller_id: SellerId::parse("2088000000000001").unwrap(),
        fee_rate_ppm: 6_000,
    }
}

/// The merchant's side, as the plan's app is set up.
pub(crate) fn merchant(plan: &Plan, keys: &Keys) -> App {
    let key = keys.alipay.public_key_base64().unwrap();
    let key = VerificationKey::read("alipay", key.as_bytes()).unwrap();
    App {
        app_id: plan.app_id.clone(),
        seller_id: plan.seller_id.clone(),
        keys: KeyRing::new(vec![key], Vec::new()).unwrap(),
        refund_fee: RefundFee::Cumulative,
    }
}
