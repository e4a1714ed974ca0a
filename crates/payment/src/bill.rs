use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Fen, OutTradeNo, RequestNo, TradeNo};

/// What a row of the trade bill records (业务类型).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Business {
    /// 交易
    Payment,
    /// 退款
    Refund,
}

impl Business {
    pub fn as_str(self) -> &'static str {
        match self {
            Business::Payment => "payment",
            Business::Refund => "refund",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Business::Payment, Business::Refund].into_iter().find(|business| business.as_str() == name)
    }
}

/// One row of a trade bill (业务明细), compact: its text is read back from the kept original.
///
/// Amounts carry the bill's signs: refunds are negative, fees (服务费) are negative on payments.
/// Identity: (`trade_no`, `business`, `request_no`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillRow {
    pub trade_no: TradeNo,
    pub out_trade_no: OutTradeNo,
    pub business: Business,
    /// 退款批次号/请求号; `None` on payments and where a refund has none.
    pub request_no: Option<RequestNo>,
    /// 完成时间: when the money moved.
    pub completed_at: DateTime<Utc>,
    /// 订单金额
    pub total: Fen,
    /// 商家实收
    pub receipt: Fen,
    /// 服务费
    pub fee: Fen,
    /// 分润
    pub share: Fen,
    /// Which file inside the archive, counted from 0.
    pub entry: u32,
    /// Line inside that file, counted from 1.
    pub line: u64,
    /// Where the line starts in the unpacked file, in bytes.
    pub offset: u64,
}
