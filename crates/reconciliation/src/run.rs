use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use ledger::bill::Stored;
use ledger::carry;
use ledger::day::DayLock;
use ledger::difference::{self, Difference};
use ledger::run::{self, Item, Run};
use ledger::side::{self, Identity, Side};
use ledger::{Connection, QueryError};
use payment::{BillDay, Fen};
use sha2::{Digest, Sha256};

use crate::bucket::{Bucket, Buckets};
use crate::carried::settle_carried;
use crate::kind::Kind;
use crate::known::{Known, KnownOf};
use crate::matching::{Finding, Terms, compare};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the database did not take the run")]
    Database(#[from] QueryError),
    #[error(
        "the run does not add up: the buckets hold {rows} bill rows of {bill} and {movements} movements of \
         {ledger}, the bill has {bill_rows} rows of {bill_net}, the ledger {ledger_movements} movements of \
         {ledger_net}; nothing was stored"
    )]
    DoesNotAddUp {
        rows: i64,
        bill: Fen,
        movements: i64,
        ledger: Fen,
        bill_rows: i64,
        bill_net: Fen,
        ledger_movements: i64,
        ledger_net: Fen,
    },
    #[error("the day's amounts do not fit into this system's sums")]
    TooLarge,
}

/// Compares a day's bill with the ledger and stores the result. Must run in a transaction that sees one state
/// of the database throughout (repeatable read). Memory grows with what differs, not with the day.
pub(crate) fn run(
    conn: &mut Connection,
    day: &DayLock,
    bill: &Stored,
    terms: &Terms,
    started_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), RunError> {
    let run_no = run::last_run_no(conn, day.app_id(), day.day())?.unwrap_or(0) + 1;
    let mut table = Table {
        day,
        terms,
        buckets: Buckets::default(),
        items: Vec::new(),
        found: BTreeMap::new(),
        next_day_was_run: run::last_run_no(conn, day.app_id(), day.day().next())?.is_some(),
    };

    let mut alone = Vec::new();
    let mut group: Vec<Side> = Vec::new();
    side::for_each_side(conn, day, bill.bill_id, |side| {
        if group.first().is_some_and(|first| first.identity() != side.identity()) {
            table.place_group(std::mem::take(&mut group), &mut alone)?;
        }
        group.push(side);
        Ok::<(), RunError>(())
    })?;
    table.place_group(group, &mut alone)?;

    for sides in alone.chunks(LOOKUPS_AT_ONCE) {
        let identities: Vec<Identity> = sides.iter().map(Side::identity).collect();
        let known = Known::look_up(conn, day, bill.bill_id, &identities)?;
        for (side, identity) in sides.iter().zip(&identities) {
            table.place_alone(side, known.of(identity))?;
        }
    }
    let carried_in = carry::carried_in(conn, day)?;
    for difference in settle_carried(conn, day, bill.bill_id, &carried_in, terms)? {
        table.found.entry(difference.difference_id.clone()).or_insert(difference);
    }

    let Table { buckets, items, found, .. } = table;
    let found: Vec<Difference> = found.into_values().collect();
    let (ledger_movements, ledger_net_fen) = side::ledger_totals(conn, day)?;
    check_sums(&buckets, bill, ledger_movements, ledger_net_fen)?;

    let reason = format!("run {run_no} of {}", day.day());
    let changes = difference::update(conn, day.app_id(), day.day(), &found, &reason, now)?;
    let column = |pick: fn(&crate::bucket::Tally) -> i64| {
        Bucket::ALL.iter().map(|bucket| pick(buckets.of(*bucket))).collect::<Vec<i64>>()
    };
    let run = Run {
        run_no,
        bill_id: bill.bill_id,
        started_at,
        finished_at: now,
        bill_rows: bill.rows,
        bill_net_fen: bill.net_fen,
        ledger_movements,
        ledger_net_fen,
        counts: column(|tally| tally.count),
        rows_of: column(|tally| tally.bill_rows),
        movements_of: column(|tally| tally.ledger_movements),
        bill_fen_of: column(|tally| tally.bill.get()),
        ledger_fen_of: column(|tally| tally.ledger.get()),
        opened: changes.opened,
        reopened: changes.reopened,
        resolved: changes.resolved,
        unchanged: changes.unchanged,
    };
    run::store_run(conn, day, &run)?;
    run::store_items(conn, day, run_no, &items)?;
    let carried: Vec<&Item> =
        items.iter().filter(|item| item.bucket == Bucket::Carried.as_str()).collect();
    carry::note(conn, day, &carried, now)?;
    Ok(())
}

pub(crate) const LOOKUPS_AT_ONCE: usize = 4096;

/// What a run has placed so far.
struct Table<'d> {
    day: &'d DayLock,
    terms: &'d Terms,
    buckets: Buckets,
    items: Vec<Item>,
    /// By id: what two places say about one thing is one difference.
    found: BTreeMap<String, Difference>,
    /// Then nothing of this day is waited for any more.
    next_day_was_run: bool,
}

impl Table<'_> {
    /// Places both sides of one identity; a side without the other goes to `alone`.
    fn place_group(&mut self, group: Vec<Side>, alone: &mut Vec<Side>) -> Result<(), RunError> {
        let mut movement = None;
        let mut rows = Vec::new();
        for side in group {
            if side.is_bill {
                rows.push(side);
            } else {
                movement = Some(side);
            }
        }
        let mut rows = rows.into_iter();
        match (rows.next(), movement) {
            (Some(row), Some(movement)) => {
                let findings = compare(&row, &movement, self.terms);
                let bucket = if findings.is_empty() { Bucket::Matched } else { Bucket::Open };
                self.place(bucket, Some(&row), Some(&movement), 1, Link::None, &findings)?;
            }
            (row, movement) => alone.extend(row.or(movement)),
        }
        for (ordinal, row) in (2..).zip(rows) {
            self.place_duplicate(&row, ordinal)?;
        }
        Ok(())
    }

    fn place_duplicate(&mut self, row: &Side, ordinal: i32) -> Result<(), RunError> {
        let finding = Finding {
            kind: Kind::DuplicateInBill,
            bill_fen: Some(row.receipt_fen),
            ledger_fen: None,
        };
        self.place(Bucket::Open, Some(row), None, ordinal, Link::None, &[finding])
    }

    /// Places a row or movement whose other side is not on this day.
    fn place_alone(&mut self, side: &Side, known: KnownOf<'_>) -> Result<(), RunError> {
        let (row, movement) = if side.is_bill { (Some(side), None) } else { (None, Some(side)) };
        let today = self.day.day();
        let is_near_today = |other: &&Side| is_near(other.day, today);
        let other = if side.is_bill {
            known.movement.filter(is_near_today)
        } else {
            known.rows.iter().find(is_near_today)
        };
        let Some(other) = other else {
            let at_the_end = side.moved_at >= today.end() - self.terms.carry_window
                && side.moved_at < today.end();
            if at_the_end && !self.next_day_was_run {
                return self.place(Bucket::Carried, row, movement, 1, Link::None, &[]);
            }
            let finding = missing(side.is_bill, side.receipt_fen, known.state);
            return self.place(Bucket::Open, row, movement, 1, Link::None, &[finding]);
        };
        // The movement's own day has a row for it already: this one is a repetition.
        if side.is_bill && known.rows.iter().any(|row| row.day == other.day) {
            return self.place_duplicate(side, 1);
        }
        if other.day == today.next().date() && !self.next_day_was_run {
            return self.place(Bucket::Carried, row, movement, 1, Link::None, &[]);
        }
        let (bill, ledger) = if side.is_bill { (side, other) } else { (other, side) };
        let findings = compare(bill, ledger, self.terms);
        let bucket = if findings.is_empty() { Bucket::Explained } else { Bucket::Open };
        // What differs in a pair over midnight belongs to the movement's day, whichever day's run says it.
        let link = Link::To { day: other.day, home: BillDay::new(ledger.day) };
        self.place(bucket, row, movement, 1, link, &findings)
    }

    fn place(
        &mut self,
        bucket: Bucket,
        row: Option<&Side>,
        movement: Option<&Side>,
        ordinal: i32,
        link: Link,
        findings: &[Finding],
    ) -> Result<(), RunError> {
        let (linked_day, home) = match link {
            Link::None => (None, self.day.day()),
            Link::To { day, home } => (Some(day), home),
        };
        let fen = |side: Option<&Side>| side.map(|side| Fen::new(side.receipt_fen));
        self.buckets.put(bucket, fen(row), fen(movement)).ok_or(RunError::TooLarge)?;
        let Some(side) = row.or(movement) else { return Ok(()) };
        if bucket != Bucket::Matched {
            self.items.push(Item {
                bucket: bucket.as_str().to_owned(),
                business: side.business.clone(),
                trade_no: side.trade_no.clone(),
                request_no: side.request_no.clone(),
                ordinal,
                out_trade_no: side.out_trade_no.clone(),
                moved_at: side.moved_at,
                bill_fen: row.map(|side| side.receipt_fen),
                ledger_fen: movement.map(|side| side.receipt_fen),
                linked_day,
            });
        }
        // The ledger's order number is the merchant's own; the bill's is shown where there is no other.
        let known = movement.or(row).unwrap_or(side);
        for finding in findings {
            let difference = found(self.day, home, known, ordinal, finding);
            self.found.insert(difference.difference_id.clone(), difference);
        }
        Ok(())
    }
}

/// Where the other side of a placed one stands.
enum Link {
    /// Beside it, or nowhere.
    None,
    To {
        day: NaiveDate,
        home: BillDay,
    },
}

/// The same day or a neighbour of it: so far apart may two sides of one movement be dated.
pub(crate) fn is_near(day: NaiveDate, other: BillDay) -> bool {
    [other.previous(), other, other.next()].contains(&BillDay::new(day))
}

pub(crate) fn missing(is_bill: bool, receipt_fen: i64, state: Option<&str>) -> Finding {
    match (is_bill, state) {
        // The ledger holds it closed and unpaid: not silence, but a contradiction.
        (true, Some("closed")) => {
            Finding { kind: Kind::Status, bill_fen: Some(receipt_fen), ledger_fen: None }
        }
        (true, _) => {
            Finding { kind: Kind::MissingInLedger, bill_fen: Some(receipt_fen), ledger_fen: None }
        }
        (false, _) => {
            Finding { kind: Kind::MissingInBill, bill_fen: None, ledger_fen: Some(receipt_fen) }
        }
    }
}

/// A difference as it is kept. Its id says what it is about, on which day that stands, and not when it was found.
pub(crate) fn found(
    lock: &DayLock,
    day: BillDay,
    side: &Side,
    ordinal: i32,
    finding: &Finding,
) -> Difference {
    let mut hash = Sha256::new();
    for part in [
        lock.app_id().as_str(),
        &day.to_string(),
        finding.kind.as_str(),
        &side.business,
        &side.trade_no,
        &side.request_no,
        &ordinal.to_string(),
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Difference {
        difference_id: digest,
        day: day.date(),
        kind: finding.kind.as_str().to_owned(),
        business: side.business.clone(),
        trade_no: side.trade_no.clone(),
        request_no: side.request_no.clone(),
        out_trade_no: side.out_trade_no.clone(),
        bill_fen: finding.bill_fen,
        ledger_fen: finding.ledger_fen,
        state: "open".to_owned(),
    }
}

fn check_sums(
    buckets: &Buckets,
    bill: &Stored,
    ledger_movements: i64,
    ledger_net_fen: i64,
) -> Result<(), RunError> {
    let sum = buckets.sum().ok_or(RunError::TooLarge)?;
    let adds_up = sum.bill_rows == bill.rows
        && sum.bill.get() == bill.net_fen
        && sum.ledger_movements == ledger_movements
        && sum.ledger.get() == ledger_net_fen;
    if adds_up {
        return Ok(());
    }
    Err(RunError::DoesNotAddUp {
        rows: sum.bill_rows,
        bill: sum.bill,
        movements: sum.ledger_movements,
        ledger: sum.ledger,
        bill_rows: bill.rows,
        bill_net: Fen::new(bill.net_fen),
        ledger_movements,
        ledger_net: Fen::new(ledger_net_fen),
    })
}
