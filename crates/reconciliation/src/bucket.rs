use payment::Fen;

/// Where a bill row or a ledger movement stands after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Row and movement agree.
    Matched,
    /// One side only, near midnight: the other may bring it the next day.
    Carried,
    /// One side only, because the other side stands on a neighbouring day.
    Explained,
    /// Somebody must look.
    Open,
}

impl Bucket {
    pub const ALL: [Bucket; 4] =
        [Bucket::Matched, Bucket::Carried, Bucket::Explained, Bucket::Open];

    pub fn as_str(self) -> &'static str {
        match self {
            Bucket::Matched => "matched",
            Bucket::Carried => "carried",
            Bucket::Explained => "explained",
            Bucket::Open => "open",
        }
    }
}

/// What stands in one bucket. A row and its movement together count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: i64,
    pub bill_rows: i64,
    pub ledger_movements: i64,
    /// Σ 商家实收 of the rows.
    pub bill: Fen,
    /// Σ 商家实收 of the movements.
    pub ledger: Fen,
}

/// The completeness table of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    pub matched: Tally,
    pub carried: Tally,
    pub explained: Tally,
    pub open: Tally,
}

impl Buckets {
    pub fn of(&self, bucket: Bucket) -> &Tally {
        match bucket {
            Bucket::Matched => &self.matched,
            Bucket::Carried => &self.carried,
            Bucket::Explained => &self.explained,
            Bucket::Open => &self.open,
        }
    }

    /// Puts a row, a movement or a pair into a bucket. `None` where a sum does not fit.
    #[must_use]
    pub fn put(&mut self, bucket: Bucket, bill: Option<Fen>, ledger: Option<Fen>) -> Option<()> {
        let tally = match bucket {
            Bucket::Matched => &mut self.matched,
            Bucket::Carried => &mut self.carried,
            Bucket::Explained => &mut self.explained,
            Bucket::Open => &mut self.open,
        };
        tally.count += 1;
        tally.bill_rows += i64::from(bill.is_some());
        tally.ledger_movements += i64::from(ledger.is_some());
        tally.bill = tally.bill.checked_add(bill.unwrap_or_default())?;
        tally.ledger = tally.ledger.checked_add(ledger.unwrap_or_default())?;
        Some(())
    }

    /// The sum of all buckets: what both sides' totals must equal.
    pub fn sum(&self) -> Option<Tally> {
        let mut sum = Tally::default();
        for tally in Bucket::ALL.map(|bucket| self.of(bucket)) {
            sum.count += tally.count;
            sum.bill_rows += tally.bill_rows;
            sum.ledger_movements += tally.ledger_movements;
            sum.bill = sum.bill.checked_add(tally.bill)?;
            sum.ledger = sum.ledger.checked_add(tally.ledger)?;
        }
        Some(sum)
    }
}
