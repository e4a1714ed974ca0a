use payment::{BillRow, Business, Fen};

/// What the rows read so far add up to. All there is in memory of rows gone by.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    payments: Sums,
    refunds: Sums,
    pub(super) fee: Fen,
    pub(super) share: Fen,
}

/// Count and sums of one 业务类型, with the bill's signs.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub(super) count: u64,
    /// 订单金额
    pub(super) total: Fen,
    /// 商家实收
    pub(super) receipt: Fen,
    /// 商家优惠; `None` where rows do not tell it.
    pub(super) discount: Option<Fen>,
}

impl Default for Sums {
    /// No rows: every sum is known to be zero.
    fn default() -> Self {
        Sums { count: 0, total: Fen::ZERO, receipt: Fen::ZERO, discount: Some(Fen::ZERO) }
    }
}

impl Tally {
    pub(super) fn sums(&self, business: Business) -> &Sums {
        match business {
            Business::Payment => &self.payments,
            Business::Refund => &self.refunds,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.payments.count.saturating_add(self.refunds.count)
    }

    /// Counts a row in; `None` where a sum no longer fits.
    pub(super) fn count(&mut self, row: &BillRow, discount: Option<Fen>) -> Option<()> {
        let one = Sums { count: 1, total: row.total, receipt: row.receipt, discount };
        let sums = match row.business {
            Business::Payment => &mut self.payments,
            Business::Refund => &mut self.refunds,
        };
        *sums = sums.checked_add(&one)?;
        self.fee = self.fee.checked_add(row.fee)?;
        self.share = self.share.checked_add(row.share)?;
        Some(())
    }

    /// Both together; `None` where a sum does not fit.
    pub(super) fn checked_add(&self, other: &Tally) -> Option<Tally> {
        Some(Tally {
            payments: self.payments.checked_add(&other.payments)?,
            refunds: self.refunds.checked_add(&other.refunds)?,
            fee: self.fee.checked_add(other.fee)?,
            share: self.share.checked_add(other.share)?,
        })
    }
}

impl Sums {
    fn checked_add(&self, other: &Sums) -> Option<Sums> {
        let discount = match (self.discount, other.discount) {
            (Some(discount), Some(other)) => Some(discount.checked_add(other)?),
            (Some(_) | None, _) => None,
        };
        Some(Sums {
            count: self.count.checked_add(other.count)?,
            total: self.total.checked_add(other.total)?,
            receipt: self.receipt.checked_add(other.receipt)?,
            discount,
        })
    }
}
