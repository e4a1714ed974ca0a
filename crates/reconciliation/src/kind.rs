use std::fmt;

/// The kinds of difference: a closed list, here, in the database and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    MissingInLedger,
    MissingInBill,
    Amount,
    Receipt,
    Fee,
    OrderNo,
    Status,
    DuplicateInBill,
    Conflict,
    Balance,
    Settlement,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::MissingInLedger,
        Kind::MissingInBill,
        Kind::Amount,
        Kind::Receipt,
        Kind::Fee,
        Kind::OrderNo,
        Kind::Status,
        Kind::DuplicateInBill,
        Kind::Conflict,
        Kind::Balance,
        Kind::Settlement,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::MissingInLedger => "missing_in_ledger",
            Kind::MissingInBill => "missing_in_bill",
            Kind::Amount => "amount",
            Kind::Receipt => "receipt",
            Kind::Fee => "fee",
            Kind::OrderNo => "order_no",
            Kind::Status => "status",
            Kind::DuplicateInBill => "duplicate_in_bill",
            Kind::Conflict => "conflict",
            Kind::Balance => "balance",
            Kind::Settlement => "settlement",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What it means and what to do next, for whoever opens the report.
    pub fn explanation(self) -> &'static str {
        match self {
            Kind::MissingInLedger => {
                "The bill has it, no notification told it. Ask Alipay for the trade; check that the notify_url was reachable."
            }
            Kind::MissingInBill => {
                "A notification told it, the bill does not have it. Look into the next day's bill, then ask Alipay."
            }
            Kind::Amount => {
                "The order amounts (订单金额) differ. Compare the original row with the notification."
            }
            Kind::Receipt => {
                "The order amounts agree, what the merchant received (商家实收) does not. Check discounts and vouchers."
            }
            Kind::Fee => {
                "The fee (服务费) is not the agreed rate of the receipt. Check the contract's rate."
            }
            Kind::OrderNo => "The bill has the trade under another order number (商户订单号).",
            Kind::Status => {
                "The ledger holds the trade closed without a payment, the bill has a payment."
            }
            Kind::DuplicateInBill => "The bill has the same row more than once.",
            Kind::Conflict => {
                "Genuine notifications contradict each other about this movement. The smallest amount told is booked."
            }
            Kind::Balance => "The account's running balance does not follow from its movements.",
            Kind::Settlement => "The trade bill and the fund bill disagree.",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
