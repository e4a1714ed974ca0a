use ledger::carry::{self, Carried, Settled};
use ledger::day::DayLock;
use ledger::difference::Difference;
use ledger::side::{Identity, Side};
use ledger::{Connection, QueryError};
use payment::BillDay;

use crate::kind::Kind;
use crate::known::{Known, KnownOf};
use crate::matching::{Finding, Terms, compare};
use crate::run::{LOOKUPS_AT_ONCE, found, is_near, missing};

/// Settles what earlier days carried: cleared where the other side has it by now, an open difference of its own
/// day where not.
pub(crate) fn settle_carried(
    conn: &mut Connection,
    day: &DayLock,
    bill_id: i64,
    carried_in: &[Carried],
    terms: &Terms,
) -> Result<Vec<Difference>, QueryError> {
    let mut differences = Vec::new();
    for carried in carried_in.chunks(LOOKUPS_AT_ONCE) {
        let identities: Vec<Identity> = carried.iter().map(Carried::identity).collect();
        let known = Known::look_up(conn, day, bill_id, &identities)?;
        let (mut cleared, mut opened) = (Vec::new(), Vec::new());
        for (carried, identity) in carried.iter().zip(&identities) {
            match settle_one(carried, known.of(identity), terms) {
                Settlement::Cleared => cleared.push(carried),
                Settlement::Opened { side, findings } => {
                    opened.push(carried);
                    let origin = BillDay::new(carried.day);
                    differences.extend(
                        findings.iter().map(|finding| found(day, origin, side, 1, finding)),
                    );
                }
            }
        }
        carry::settle(conn, day, &cleared, Settled::Cleared)?;
        carry::settle(conn, day, &opened, Settled::Opened)?;
    }
    Ok(differences)
}

/// What became of a carried movement.
enum Settlement<'s> {
    /// The other side has it, or its own side has it no more. A pair over midnight is compared by the movement's
    /// day; here only what came late to the carried movement's own day.
    Cleared,
    Opened {
        side: &'s Side,
        findings: Vec<Finding>,
    },
}

fn settle_one<'s>(carried: &Carried, known: KnownOf<'s>, terms: &Terms) -> Settlement<'s> {
    let KnownOf { rows, movement, state } = known;
    let origin = BillDay::new(carried.day);
    let own_row = rows.iter().find(|row| row.day == carried.day);
    let near = |side: &&Side| is_near(side.day, origin);
    let compared = |row: &'s Side, movement: &'s Side| {
        let findings = compare(row, movement, terms);
        if findings.is_empty() {
            Settlement::Cleared
        } else {
            Settlement::Opened { side: movement, findings }
        }
    };
    let alone = |side: &'s Side| Settlement::Opened {
        side,
        findings: vec![missing(side.is_bill, side.receipt_fen, state)],
    };
    if carried.side == "bill" {
        let Some(row) = own_row else { return Settlement::Cleared };
        match movement.filter(near) {
            None => alone(row),
            Some(movement) if movement.day == carried.day => compared(row, movement),
            // The movement's own day has a row for it: the carried one is a repetition.
            Some(movement) if rows.iter().any(|other| other.day == movement.day) => {
                Settlement::Opened {
                    side: row,
                    findings: vec![Finding {
                        kind: Kind::DuplicateInBill,
                        bill_fen: Some(row.receipt_fen),
                        ledger_fen: None,
                    }],
                }
            }
            Some(_) => Settlement::Cleared,
        }
    } else {
        let Some(movement) = movement else { return Settlement::Cleared };
        match (own_row, rows.iter().find(near)) {
            (Some(row), _) => compared(row, movement),
            // Compared by nobody else: the movement's day was run before this row came.
            (None, Some(row)) => compared(row, movement),
            (None, None) => alone(movement),
        }
    }
}
