use chrono::{DateTime, Utc};
use payment::{AppId, BillDay, Business, OutTradeNo, RequestNo, SellerId, TradeNo};

/// One trade of the pretend world: what truly happened, and what goes wrong in telling it.
///
/// Amounts are fen in plain integers: they are made here, bounded by the plan, and become `Fen` on
/// the way out.
#[derive(Clone, Debug)]
pub(crate) struct Trade {
    pub(crate) mishap: Option<Mishap>,
    pub(crate) app_id: AppId,
    pub(crate) seller_id: SellerId,
    pub(crate) trade_no: TradeNo,
    pub(crate) out_trade_no: OutTradeNo,
    /// The order number that the bill prints; the same, unless that is the mishap.
    pub(crate) billed_as: OutTradeNo,
    pub(crate) charset: Charset,
    pub(crate) goods: Goods,
    pub(crate) buyer: Buyer,
    pub(crate) store: Option<Store>,
    pub(crate) price: Price,
    pub(crate) created_at: DateTime<Utc>,
    /// Alipay told `WAIT_BUYER_PAY` first.
    pub(crate) waited: bool,
    pub(crate) payment: Option<Payment>,
    pub(crate) refunds: Vec<Refund>,
    pub(crate) ending: Ending,
}

/// What goes wrong with a trade, one thing at most. All but the last three leave a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// No notification of the payment ever arrives.
    PaymentLost,
    /// No notification of the only refund arrives.
    RefundLost,
    /// The first of two refunds is not told; the second tells the sum of both.
    EarlierRefundLost,
    PaymentRowMissing,
    RefundRowMissing,
    /// 订单金额 and 商家实收 of the payment's row are off alike.
    PaymentAmountOff {
        off_fen: i64,
    },
    RefundAmountOff {
        off_fen: i64,
    },
    /// Only 商家实收 of the payment's row is off.
    ReceiptOff {
        off_fen: i64,
    },
    FeeOff {
        off_fen: i64,
    },
    /// The payment's row carries an order number that nobody knows.
    OrderNoOther,
    /// The payment's row carries the order number of another such trade, and that one's ours.
    OrderNoSwapped,
    /// Told as closed without payment, billed as paid.
    ClosedYetBilled,
    RowTwice,
    /// Two genuine notifications tell the payment with different amounts; the bill has the smaller.
    ToldTwoAmounts {
        more_fen: i64,
    },
    /// The notification and the bill put the movement on different sides of midnight.
    AcrossMidnight {
        what: Business,
        first: Side,
    },
    /// The payment's notification is lost, and a refund's tells the payment.
    ToldByRefund,
    /// The payment's notification comes after the refund's.
    RefundToldFirst,
}

/// Who puts a movement before midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Notification,
    Bill,
}

/// The charset a trade's request was made in, and so its notifications'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    Utf8UpperCase,
    Gbk,
}

impl Charset {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Charset::Utf8 => "utf-8",
            Charset::Utf8UpperCase => "UTF-8",
            Charset::Gbk => "GBK",
        }
    }

    /// The charset a request names; UTF-8 where the name is not known.
    pub(crate) fn named(name: &[u8]) -> Self {
        if name.to_ascii_lowercase().starts_with(b"gb") { Charset::Gbk } else { Charset::Utf8 }
    }

    pub(crate) fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Charset::Utf8 | Charset::Utf8UpperCase => text.as_bytes().to_vec(),
            Charset::Gbk => encoding_rs::GBK.encode(text).0.into_owned(),
        }
    }
}

/// What was sold; never with a comma, for nobody knows how Alipay's bills would write one.
#[derive(Clone, Debug)]
pub(crate) struct Goods {
    pub(crate) subject: &'static str,
    pub(crate) body: Option<&'static str>,
    pub(crate) passback_params: Option<&'static str>,
}

/// An obviously made-up buyer.
#[derive(Clone, Debug)]
pub(crate) struct Buyer {
    /// Its parameter and its value: `buyer_id`, or `buyer_open_id` as newer apps get it.
    pub(crate) id: (&'static str, String),
    /// Masked, as `138****01`.
    pub(crate) logon_id: String,
    pub(crate) surname: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Store {
    pub(crate) number: &'static str,
    pub(crate) name: &'static str,
    pub(crate) operator: &'static str,
    pub(crate) terminal: &'static str,
}

/// An order's amount and who paid parts of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    /// 订单金额, `total_amount`
    pub(crate) total_fen: i64,
    pub(crate) discount: Discount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discount {
    None,
    /// Paid by the merchant, with a voucher: the merchant receives less.
    Merchant {
        fen: i64,
    },
    /// Paid by Alipay (红包): the merchant receives everything.
    Alipay {
        fen: i64,
    },
}

impl Price {
    /// 商家实收, `receipt_amount`
    pub(crate) fn receipt_fen(self) -> i64 {
        self.total_fen - self.merchant_discount_fen()
    }

    /// 商家优惠
    pub(crate) fn merchant_discount_fen(self) -> i64 {
        match self.discount {
            Discount::Merchant { fen } => fen,
            Discount::None | Discount::Alipay { .. } => 0,
        }
    }

    /// 支付宝红包
    pub(crate) fn alipay_discount_fen(self) -> i64 {
        match self.discount {
            Discount::Alipay { fen } => fen,
            Discount::None | Discount::Merchant { .. } => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Payment {
    /// `gmt_payment`
    pub(crate) at: DateTime<Utc>,
    /// 完成时间
    pub(crate) completed_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub(crate) struct Refund {
    pub(crate) request_no: RequestNo,
    /// Off the order's amount; positive.
    pub(crate) amount_fen: i64,
    /// Off what the merchant had received; positive.
    pub(crate) receipt_fen: i64,
    /// `gmt_refund`, with milliseconds
    pub(crate) at: DateTime<Utc>,
    /// 完成时间
    pub(crate) completed_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Open,
    /// Closed unpaid.
    TimedOut {
        at: DateTime<Utc>,
    },
    /// `TRADE_FINISHED`, some time after `TRADE_SUCCESS`.
    Finished {
        at: DateTime<Utc>,
    },
    /// `TRADE_FINISHED` in place of `TRADE_SUCCESS`: the product knows no refunds.
    FinishedAtOnce,
}

impl Trade {
    /// Whether the ledger can know of the payment, from whatever notification arrives.
    pub(crate) fn payment_heard(&self) -> Option<Payment> {
        match self.mishap {
            Some(Mishap::PaymentLost | Mishap::ClosedYetBilled) => None,
            None
            | Some(
                Mishap::RefundLost
                | Mishap::EarlierRefundLost
                | Mishap::PaymentRowMissing
                | Mishap::RefundRowMissing
                | Mishap::PaymentAmountOff { .. }
                | Mishap::RefundAmountOff { .. }
                | Mishap::ReceiptOff { .. }
                | Mishap::FeeOff { .. }
                | Mishap::OrderNoOther
                | Mishap::OrderNoSwapped
                | Mishap::RowTwice
                | Mishap::ToldTwoAmounts { .. }
                | Mishap::AcrossMidnight { .. }
                | Mishap::ToldByRefund
                | Mishap::RefundToldFirst,
            ) => self.payment,
        }
    }

    /// How many refunds from the first on are never told.
    pub(crate) fn refunds_lost(&self) -> usize {
        match self.mishap {
            Some(Mishap::RefundLost | Mishap::EarlierRefundLost) => 1,
            None
            | Some(
                Mishap::PaymentLost
                | Mishap::PaymentRowMissing
                | Mishap::RefundRowMissing
                | Mishap::PaymentAmountOff { .. }
                | Mishap::RefundAmountOff { .. }
                | Mishap::ReceiptOff { .. }
                | Mishap::FeeOff { .. }
                | Mishap::OrderNoOther
                | Mishap::OrderNoSwapped
                | Mishap::ClosedYetBilled
                | Mishap::RowTwice
                | Mishap::ToldTwoAmounts { .. }
                | Mishap::AcrossMidnight { .. }
                | Mishap::ToldByRefund
                | Mishap::RefundToldFirst,
            ) => 0,
        }
    }

    /// 服务费 of the payment: 商家实收 × rate, half up, negative.
    pub(crate) fn fee_fen(&self, fee_rate_ppm: u32) -> i64 {
        -((self.price.receipt_fen() * i64::from(fee_rate_ppm) + 500_000) / 1_000_000)
    }

    /// Everything refunded up to and including the `count` first refunds.
    pub(crate) fn refunded_fen(&self, count: usize) -> i64 {
        self.refunds.iter().take(count).map(|refund| refund.amount_fen).sum()
    }
}

/// `20240305` of a day.
pub(crate) fn compact(day: BillDay) -> String {
    day.to_string().replace('-', "")
}
