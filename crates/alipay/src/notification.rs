use chrono::{DateTime, Utc};
use payment::{
    AppId, DayError, Fact, Fen, FenError, IdError, NotifyId, OutTradeNo, Reported, RequestNo,
    SellerId, Told, TradeNo,
};

use crate::VerifiedForm;
use crate::charset::Charset;
use crate::excerpt::{excerpt, shorten};
use parameters::Parameters;

mod parameters;

/// The kind of notification that tells about money.
pub(crate) const TRADE_STATUS_SYNC: &str = "trade_status_sync";

/// The longest name of an unread kind that is kept, in characters.
const MAX_KIND_CHARS: usize = 64;

/// A genuine message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The same on all retries of one notification, which differ in `notify_time` and `sign`.
    pub notify_id: Option<NotifyId>,
    pub app_id: AppId,
    pub kind: Kind,
    /// Messages of one key stay in order: `{app_id}/{out_trade_no}`, for messages that are not
    /// about a trade `{app_id}/{notify_id}`.
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `notify_type=trade_status_sync`
    Trade(TradeStatus),
    /// Anything else Alipay sends to an app: kept and acknowledged, it tells no facts.
    Other {
        /// `notify_type`, else `msg_method`, else `method`; at most 64 characters.
        name: String,
    },
}

/// What a `trade_status_sync` says of a trade at the moment it was first sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeStatus {
    pub trade_no: TradeNo,
    pub out_trade_no: OutTradeNo,
    pub seller_id: SellerId,
    pub status: TradeState,
    /// `total_amount`: what the order costs.
    pub total: Fen,
    /// `receipt_amount` (商家实收); absent from messages about refunds.
    pub receipt: Option<Fen>,
    pub gmt_create: Option<DateTime<Utc>>,
    pub gmt_payment: Option<DateTime<Utc>>,
    pub gmt_close: Option<DateTime<Utc>>,
    /// Present where the message is about a refund; its status is then the trade's as before.
    pub refund: Option<RefundTold>,
}

/// `trade_status`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TradeState {
    /// `WAIT_BUYER_PAY`: not paid.
    WaitBuyerPay,
    /// `TRADE_SUCCESS`: paid, can be refunded; stays so after a partial refund.
    Success,
    /// `TRADE_FINISHED`: paid, can no longer be refunded.
    Finished,
    /// `TRADE_CLOSED`: never paid, or refunded in full.
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundTold {
    /// `out_biz_no`; where the merchant gave none, the trade's own number.
    pub request_no: RequestNo,
    /// As told; whether it is this refund or all so far is [`RefundFee`]'s question.
    pub refund_fee: Fen,
    /// `gmt_refund`, with its milliseconds.
    pub at: DateTime<Utc>,
}

/// How `refund_fee` is read. The documents call it the trade's total refund (总退款金额), one
/// published report calls it the single refund's amount; hence a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefundFee {
    #[default]
    Cumulative,
    Single,
}

/// Why a genuine message cannot be read. Names the parameter; shows amounts, times and ids, cut
/// short, and nothing of the buyer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    #[error("its charset is `{charset}`; known are utf-8, gbk, gb2312 and gb18030")]
    UnknownCharset { charset: String },
    #[error(
        "parameter `{parameter}` has bytes that are not {charset}, the charset the message declares"
    )]
    NotInCharset { parameter: String, charset: &'static str },
    #[error("its version is `{version}`; a trade_status_sync has version 1.0")]
    UnsupportedVersion { version: String },
    #[error("parameter `{parameter}` is missing")]
    Missing { parameter: &'static str },
    #[error("cannot use parameter `{parameter}` as an id")]
    NotAnId {
        parameter: &'static str,
        #[source]
        err: IdError,
    },
    #[error("cannot read the amount `{text}` of parameter `{parameter}`")]
    NotAnAmount {
        parameter: &'static str,
        text: String,
        #[source]
        err: FenError,
    },
    #[error("parameter `{parameter}` is {amount}; it cannot be negative")]
    NegativeAmount { parameter: &'static str, amount: Fen },
    #[error("parameter `receipt_amount` is {receipt}, more than the order's total of {total}")]
    ReceiptAboveTotal { receipt: Fen, total: Fen },
    #[error("cannot read the time `{text}` of parameter `{parameter}`")]
    NotATime {
        parameter: &'static str,
        text: String,
        #[source]
        err: DayError,
    },
    #[error(
        "parameter `trade_status` is `{status}`; known are WAIT_BUYER_PAY, TRADE_SUCCESS, \
         TRADE_FINISHED and TRADE_CLOSED"
    )]
    UnknownStatus { status: String },
    #[error("parameter `{present}` tells of a refund and parameter `{absent}` is missing")]
    RefundHalfTold { present: &'static str, absent: &'static str },
}

impl Notification {
    /// Reads the message in its own charset, strictly: a byte that has no meaning there, in any
    /// parameter, is an error.
    pub fn read(form: &VerifiedForm) -> Result<Self, NotificationError> {
        let parameters = Parameters::of(form)?;
        let app_id = parameters.required_id("app_id", AppId::parse)?;
        let notify_id = parameters.id("notify_id", NotifyId::parse)?;
        let notify_type = parameters.text("notify_type")?;
        if notify_type.as_deref() == Some(TRADE_STATUS_SYNC) {
            let trade = TradeStatus::read(&parameters)?;
            let key = format!("{app_id}/{}", trade.out_trade_no);
            return Ok(Notification { notify_id, app_id, kind: Kind::Trade(trade), key });
        }
        let name = match (notify_type, parameters.text("msg_method")?, parameters.text("method")?) {
            (Some(name), _, _) | (None, Some(name), _) | (None, None, Some(name)) => {
                shorten(&name, MAX_KIND_CHARS)
            }
            (None, None, None) => "unnamed".to_owned(),
        };
        let key = match &notify_id {
            Some(notify_id) => format!("{app_id}/{notify_id}"),
            None => format!("{app_id}/{name}"),
        };
        Ok(Notification { notify_id, app_id, kind: Kind::Other { name }, key })
    }

    /// What is known of the trade through this message; empty for other kinds.
    pub fn facts(&self, refund_fee: RefundFee) -> Vec<Fact> {
        let trade = match &self.kind {
            Kind::Trade(trade) => trade,
            Kind::Other { .. } => return Vec::new(),
        };
        let fact = |told| Fact {
            app_id: self.app_id.clone(),
            trade_no: trade.trade_no.clone(),
            out_trade_no: trade.out_trade_no.clone(),
            told,
        };
        trade.told(refund_fee).into_iter().map(fact).collect()
    }
}

impl TradeStatus {
    fn read(parameters: &Parameters<'_>) -> Result<Self, NotificationError> {
        match parameters.text("version")?.as_deref() {
            None | Some("1.0") => {}
            Some(other) => {
                let version = excerpt(other.as_bytes());
                return Err(NotificationError::UnsupportedVersion { version });
            }
        }
        let status = parameters.required("trade_status")?;
        let status = TradeState::named(&status).ok_or_else(|| {
            NotificationError::UnknownStatus { status: excerpt(status.as_bytes()) }
        })?;
        let trade_no = parameters.required_id("trade_no", TradeNo::parse)?;
        let total = parameters.required_amount("total_amount")?;
        let receipt = parameters.amount("receipt_amount")?;
        if let Some(receipt) = receipt.filter(|receipt| *receipt > total) {
            return Err(NotificationError::ReceiptAboveTotal { receipt, total });
        }
        let trade = TradeStatus {
            out_trade_no: parameters.required_id("out_trade_no", OutTradeNo::parse)?,
            seller_id: parameters.required_id("seller_id", SellerId::parse)?,
            status,
            total,
            receipt,
            gmt_create: parameters.time("gmt_create")?,
            gmt_payment: parameters.time("gmt_payment")?,
            gmt_close: parameters.time("gmt_close")?,
            refund: RefundTold::read(parameters, &trade_no)?,
            trade_no,
        };
        match status {
            TradeState::WaitBuyerPay if trade.gmt_create.is_none() => {
                Err(NotificationError::Missing { parameter: "gmt_create" })
            }
            TradeState::Success if trade.gmt_payment.is_none() => {
                Err(NotificationError::Missing { parameter: "gmt_payment" })
            }
            TradeState::WaitBuyerPay
            | TradeState::Success
            | TradeState::Finished
            | TradeState::Closed => Ok(trade),
        }
    }

    fn told(&self, refund_fee: RefundFee) -> Vec<Told> {
        let TradeStatus { total, receipt, .. } = *self;
        let paid = self.gmt_payment.map(|at| Told::Paid { total, receipt, at });
        let created = self.gmt_create.map(|at| Told::Created { total, at });
        let mut told: Vec<Told> = match self.status {
            TradeState::WaitBuyerPay => created.into_iter().collect(),
            TradeState::Success => paid.into_iter().collect(),
            TradeState::Finished => paid.into_iter().chain([Told::Finished]).collect(),
            // A trade closed after its payment was refunded in full; without one it was never paid.
            TradeState::Closed => {
                paid.into_iter().chain([Told::Closed { at: self.gmt_close }]).collect()
            }
        };
        if let Some(refund) = &self.refund {
            told.push(Told::Refunded {
                request_no: refund.request_no.clone(),
                reported: match refund_fee {
                    RefundFee::Cumulative => Reported::Cumulative(refund.refund_fee),
                    RefundFee::Single => Reported::Single(refund.refund_fee),
                },
                receipt: None,
                at: refund.at,
            });
        }
        told
    }
}

impl RefundTold {
    fn read(
        parameters: &Parameters<'_>,
        trade_no: &TradeNo,
    ) -> Result<Option<Self>, NotificationError> {
        let fee = parameters.amount("refund_fee")?;
        let (refund_fee, at) = match (fee, parameters.time("gmt_refund")?) {
            (Some(fee), Some(at)) => (fee, at),
            (None | Some(Fen::ZERO), None) => return Ok(None),
            (Some(_), None) => {
                let (present, absent) = ("refund_fee", "gmt_refund");
                return Err(NotificationError::RefundHalfTold { present, absent });
            }
            (None, Some(_)) => {
                let (present, absent) = ("gmt_refund", "refund_fee");
                return Err(NotificationError::RefundHalfTold { present, absent });
            }
        };
        let request_no = match parameters.id("out_biz_no", RequestNo::parse)? {
            Some(request_no) => request_no,
            None => RequestNo::parse(trade_no.as_str())
                .map_err(|err| NotificationError::NotAnId { parameter: "trade_no", err })?,
        };
        Ok(Some(RefundTold { request_no, refund_fee, at }))
    }
}

impl TradeState {
    pub const ALL: [TradeState; 4] =
        [TradeState::WaitBuyerPay, TradeState::Success, TradeState::Finished, TradeState::Closed];

    /// Alipay's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            TradeState::WaitBuyerPay => "WAIT_BUYER_PAY",
            TradeState::Success => "TRADE_SUCCESS",
            TradeState::Finished => "TRADE_FINISHED",
            TradeState::Closed => "TRADE_CLOSED",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        TradeState::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl NotificationError {
    fn unknown_charset(name: Option<&[u8]>) -> Self {
        NotificationError::UnknownCharset { charset: excerpt(name.unwrap_or_default()) }
    }

    fn not_in_charset(parameter: &[u8], charset: Charset) -> Self {
        let (parameter, charset) = (excerpt(parameter), charset.as_str());
        NotificationError::NotInCharset { parameter, charset }
    }
}

#[cfg(test)]
mod tests;
