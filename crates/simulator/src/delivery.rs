use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Duration, Utc};
use payment::{AppId, IdError, NotifyId, OutTradeNo, SellerId, TradeNo};

use crate::dice::Dice;
use crate::form::{EmptyValues, Param, Rule};
use crate::key::Keys;
use crate::notice::{self, Notice, Says, notices, yuan};
use crate::scenario::{Plan, PlanError};
use crate::seal::{GENUINE, Seal, seal_all};
use crate::trade::{Mishap, Trade};
use crate::world;

/// One request to the merchant's notify address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How it is sent.
    pub method: Method,
    /// The app that the address names: `/notify/alipay/{app_id}`. Always ours; the body may
    /// disagree.
    pub app_id_in_path: AppId,
    /// The raw body (`POST`) or query string (`GET`).
    pub body: Vec<u8>,
    /// When Alipay sends it. Deliveries come in about this order, not exactly.
    pub sent_at: DateTime<Utc>,
    /// What must be answered.
    pub expected: Expected,
    /// The trade it speaks of, if any.
    pub trade_no: Option<TradeNo>,
    /// The order it speaks of, if any.
    pub out_trade_no: Option<OutTradeNo>,
    /// The same on all deliveries of one notification, and on forgeries made from it.
    pub notify_id: NotifyId,
    /// What is special about it.
    pub what: DeliveryKind,
}

/// How a delivery is sent: Alipay posts; `GET` is for the test of both doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Post,
    Get,
}

/// The right answer to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// HTTP 200 and the seven bytes `success`.
    Success,
    /// HTTP 4xx.
    Fail,
}

/// What is special about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryKind {
    /// A genuine notification, told for the first time (though perhaps late).
    First,
    /// The very bytes of another delivery.
    Duplicate,
    /// The same notification with a new `notify_time` and so a new `sign`.
    Retry,
    /// A genuine one with `total_amount` changed after signing.
    ForgedAmount,
    /// Signed with the merchant's own key.
    ForgedKey,
    /// A signature of the right length that signs nothing.
    GarbageSign,
    /// Without `sign`.
    MissingSign,
    /// Another merchant's, signed by the key that Alipay keeps for that one.
    Stranger,
    /// Signed by our Alipay key, but paid to another seller: set aside.
    OtherSeller,
    /// Signed by our Alipay key, but for another app: set aside.
    OtherApp,
    /// An application-gateway message, version 1.1: kept, moves no money.
    GatewayMessage,
    /// A message signed by rule V2: kept, moves no money.
    ServiceMarketMessage,
}

impl DeliveryKind {
    /// What the merchant must answer to it.
    pub fn expected(self) -> Expected {
        match self {
            DeliveryKind::First
            | DeliveryKind::Duplicate
            | DeliveryKind::Retry
            | DeliveryKind::OtherSeller
            | DeliveryKind::OtherApp
            | DeliveryKind::GatewayMessage
            | DeliveryKind::ServiceMarketMessage => Expected::Success,
            DeliveryKind::ForgedAmount
            | DeliveryKind::ForgedKey
            | DeliveryKind::GarbageSign
            | DeliveryKind::MissingSign
            | DeliveryKind::Stranger => Expected::Fail,
        }
    }

    /// Whether it is genuine and yet not for us: answered `success`, and set aside.
    pub fn is_quarantined(self) -> bool {
        matches!(self, DeliveryKind::OtherSeller | DeliveryKind::OtherApp)
    }
}

/// Every delivery of a scenario, in the order to send them.
pub(crate) fn deliveries(
    plan: &Plan,
    trades: &[Trade],
    keys: &Keys,
    dice: &mut Dice,
) -> Result<Vec<Delivery>, PlanError> {
    let mut drafts = drafts(plan, trades, dice).map_err(PlanError::Id)?;
    drafts.sort_by_key(|draft| draft.sent_at);
    // The net reorders neighbours, whatever trade they belong to.
    for neighbours in drafts.chunks_mut(5) {
        if dice.percent(60) {
            dice.shuffle(neighbours);
        }
    }
    seal_all(plan, drafts, keys).map_err(PlanError::Key)
}

/// A delivery that is not signed yet.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) what: DeliveryKind,
    pub(crate) method: Method,
    pub(crate) sent_at: DateTime<Utc>,
    /// With an empty `sign` among them, where the signature goes.
    pub(crate) params: Vec<Param>,
    pub(crate) seal: Seal,
    pub(crate) trade_no: Option<TradeNo>,
    pub(crate) out_trade_no: Option<OutTradeNo>,
    pub(crate) notify_id: NotifyId,
}

/// Minutes after the first try at which Alipay tries again.
const RETRIES_AFTER_MINUTES: [i64; 7] = [4, 14, 24, 84, 204, 564, 1464];

fn drafts(plan: &Plan, trades: &[Trade], dice: &mut Dice) -> Result<Vec<Draft>, IdError> {
    let mut drafts = Vec::new();
    let mut next = 0;
    for trade in trades {
        for notice in notices(trade, dice, &mut next)? {
            tell(trade, &notice, dice, &mut drafts);
        }
    }
    let genuine: Vec<Draft> =
        drafts.iter().filter(|draft| draft.what == DeliveryKind::First).cloned().collect();
    for number in 1..=1 + plan.trades / 200 {
        forge(&genuine, dice, &mut drafts);
        misdirect(plan, number, dice, &mut next, &mut drafts)?;
        drafts.push(gateway_message(plan, &genuine, dice, &mut next)?);
        drafts.push(service_market_message(plan, dice, &mut next)?);
    }
    Ok(drafts)
}

/// A notification with its retries and duplicates.
fn tell(trade: &Trade, notice: &Notice, dice: &mut Dice, drafts: &mut Vec<Draft>) {
    // Where there is a delay the first tries went nowhere, and it is a retry that arrives first.
    let delay_minutes = match dice.between(0, 99) {
        _ if trade.mishap == Some(Mishap::RefundToldFirst) => match notice.says {
            Says::Paid { .. } => 24,
            Says::Waiting | Says::Refunded { .. } | Says::TimedOut | Says::Finished => 0,
        },
        0..=3 => 4,
        4..=6 => 24,
        7 => 84,
        _ => 0,
    };
    let mut draft = draft(
        trade,
        notice,
        notice.at + Duration::minutes(delay_minutes),
        DeliveryKind::First,
        dice,
    );
    if dice.percent(2) {
        add_empty_value(dice, &mut draft);
    }
    if dice.percent(2) {
        draft.method = Method::Get;
    }
    if dice.percent(8) {
        let again_at = draft.sent_at + Duration::seconds(dice.between(0, 600));
        drafts.push(Draft { what: DeliveryKind::Duplicate, sent_at: again_at, ..draft.clone() });
    }
    if dice.percent(8) {
        let tries = dice.between(1, 3);
        let later = RETRIES_AFTER_MINUTES.iter().filter(|minutes| **minutes > delay_minutes);
        for (minutes, _) in later.zip(0..tries) {
            let sent_at = notice.at + Duration::minutes(*minutes);
            drafts.push(self::draft(trade, notice, sent_at, DeliveryKind::Retry, dice));
        }
    }
    drafts.push(draft);
}

fn draft(
    trade: &Trade,
    notice: &Notice,
    sent_at: DateTime<Utc>,
    what: DeliveryKind,
    dice: &mut Dice,
) -> Draft {
    let mut params = notice::params(trade, notice, sent_at);
    dice.shuffle(&mut params);
    Draft {
        what,
        method: Method::Post,
        sent_at,
        params,
        seal: GENUINE,
        trade_no: Some(trade.trade_no.clone()),
        out_trade_no: Some(trade.out_trade_no.clone()),
        notify_id: notice.notify_id.clone(),
    }
}

/// No genuine message with an empty value is known, so both readings of the rule occur.
fn add_empty_value(dice: &mut Dice, draft: &mut Draft) {
    draft.params.push(Param::new("store_id", ""));
    let empty = if dice.percent(50) { EmptyValues::Signed } else { EmptyValues::Skipped };
    draft.seal = Seal::Alipay { rule: Rule::V1, empty };
}

/// One forgery of each kind, each of a genuine notification.
fn forge(genuine: &[Draft], dice: &mut Dice, drafts: &mut Vec<Draft>) {
    let kinds = [
        DeliveryKind::ForgedAmount,
        DeliveryKind::ForgedKey,
        DeliveryKind::GarbageSign,
        DeliveryKind::MissingSign,
    ];
    for what in kinds {
        let Some(victim) = dice.pick_ref(genuine).cloned() else { return };
        let seal = match what {
            DeliveryKind::ForgedAmount => {
                Seal::AlipayThenAmount { total_amount: yuan(3_000_000 + dice.between(501, 99_999)) }
            }
            DeliveryKind::ForgedKey => Seal::App,
            DeliveryKind::GarbageSign => {
                Seal::Garbage { sign: BASE64_STANDARD.encode(dice.bytes::<256>()) }
            }
            DeliveryKind::MissingSign => Seal::Missing,
            DeliveryKind::First
            | DeliveryKind::Duplicate
            | DeliveryKind::Retry
            | DeliveryKind::Stranger
            | DeliveryKind::OtherSeller
            | DeliveryKind::OtherApp
            | DeliveryKind::GatewayMessage
            | DeliveryKind::ServiceMarketMessage => victim.seal.clone(),
        };
        // Before or after the genuine one: neither may matter.
        let sent_at = victim.sent_at + Duration::seconds(dice.between(-60, 60));
        drafts.push(Draft { what, seal, sent_at, ..victim });
    }
}

/// Payments of other merchants that end up at our door.
fn misdirect(
    plan: &Plan,
    number: u32,
    dice: &mut Dice,
    next: &mut u64,
    drafts: &mut Vec<Draft>,
) -> Result<(), IdError> {
    let other_app = AppId::parse("2021999999999999")?;
    let other_seller = SellerId::parse("2088999999999999")?;
    let (app_id, seller_id) = (plan.app_id.clone(), plan.seller_id.clone());
    let cases = [
        (DeliveryKind::Stranger, other_app.clone(), other_seller.clone(), Seal::Stranger),
        (DeliveryKind::OtherSeller, app_id, other_seller, GENUINE),
        (DeliveryKind::OtherApp, other_app, seller_id, GENUINE),
    ];
    for (nth, (what, app_id, seller_id, seal)) in (1..).zip(cases) {
        let trade = world::foreign(plan, dice, number * 3 + nth, app_id, seller_id)?;
        for notice in notices(&trade, dice, next)? {
            let draft = draft(&trade, &notice, notice.at, what, dice);
            drafts.push(Draft { seal: seal.clone(), ..draft });
        }
    }
    Ok(())
}

/// "From蚂蚁消息", version 1.1: the bank has taken a refund back into the buyer's card.
fn gateway_message(
    plan: &Plan,
    genuine: &[Draft],
    dice: &mut Dice,
    next: &mut u64,
) -> Result<Draft, IdError> {
    let sent_at = plan.first_day.start() + Duration::seconds(dice.between(0, 86_399));
    let about = dice.pick_ref(genuine);
    let trade_no = about.and_then(|draft| draft.trade_no.clone());
    let out_trade_no = about.and_then(|draft| draft.out_trade_no.clone());
    let biz_content = serde_json::json!({
        "trade_no": trade_no,
        "out_trade_no": out_trade_no,
        "out_request_no": format!("RB{}", dice.digits(12)),
        "dback_status": "S",
        "dback_amount": yuan(dice.between(1, 9_999)),
        "bank_ack_time": payment::to_local(sent_at),
    });
    let notify_id = notice::notify_id(sent_at, dice, next)?;
    let mut params = vec![
        Param::new("msg_method", "alipay.trade.refund.depositback.completed"),
        Param::new("version", "1.1"),
        Param::new("utc_timestamp", sent_at.timestamp_millis().to_string()),
        Param::new("notify_id", notify_id.as_str()),
        Param::new("app_id", plan.app_id.as_str()),
        Param::new("charset", "utf-8"),
        Param::new("biz_content", biz_content.to_string()),
        Param::new("sign_type", "RSA2"),
        Param::new("sign", ""),
    ];
    dice.shuffle(&mut params);
    Ok(Draft {
        what: DeliveryKind::GatewayMessage,
        method: Method::Post,
        sent_at,
        params,
        seal: GENUINE,
        trade_no,
        out_trade_no,
        notify_id,
    })
}

fn service_market_message(plan: &Plan, dice: &mut Dice, next: &mut u64) -> Result<Draft, IdError> {
    let sent_at = plan.first_day.start() + Duration::seconds(dice.between(0, 86_399));
    let notify_id = notice::notify_id(sent_at, dice, next)?;
    let mut params = vec![
        Param::new("notify_type", "servicemarket_order_notify"),
        Param::new("method", "alipay.open.servicemarket.order.notify"),
        Param::new("commodity_order_id", dice.digits(16)),
        Param::new("notify_id", notify_id.as_str()),
        Param::new("notify_time", payment::to_local(sent_at)),
        Param::new("app_id", plan.app_id.as_str()),
        Param::new("version", "1.0"),
        Param::new("charset", "utf-8"),
        Param::new("sign_type", "RSA2"),
        Param::new("sign", ""),
    ];
    dice.shuffle(&mut params);
    Ok(Draft {
        what: DeliveryKind::ServiceMarketMessage,
        method: Method::Post,
        sent_at,
        params,
        seal: Seal::Alipay { rule: Rule::V2, empty: EmptyValues::Skipped },
        trade_no: None,
        out_trade_no: None,
        notify_id,
    })
}
