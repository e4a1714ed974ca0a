use std::collections::HashMap;

use ledger::day::DayLock;
use ledger::side::{self, Identity, Side};
use ledger::{Connection, QueryError};

/// What both sides know about movements, whatever the day.
pub(crate) struct Known {
    movements: HashMap<Identity, Side>,
    rows: HashMap<Identity, Vec<Side>>,
    /// By `trade_no`.
    states: HashMap<String, String>,
}

/// What both sides know about one movement.
#[derive(Clone, Copy)]
pub(crate) struct KnownOf<'k> {
    /// Its rows in the bills that count, by day.
    pub(crate) rows: &'k [Side],
    /// What the ledger booked.
    pub(crate) movement: Option<&'k Side>,
    /// The state of its trade, if the ledger has heard of it.
    pub(crate) state: Option<&'k str>,
}

impl Known {
    /// Three queries, whatever the number of identities.
    pub(crate) fn look_up(
        conn: &mut Connection,
        day: &DayLock,
        bill_id: i64,
        identities: &[Identity],
    ) -> Result<Known, QueryError> {
        let asked: Vec<&Identity> = identities.iter().collect();
        let trades: Vec<&str> = identities.iter().map(|id| id.trade_no.as_str()).collect();
        let movements = side::movements_of(conn, day.app_id(), &asked)?;
        let mut rows: HashMap<Identity, Vec<Side>> = HashMap::new();
        for row in side::bill_rows_of(conn, day, bill_id, &asked)? {
            rows.entry(row.identity()).or_default().push(row);
        }
        Ok(Known {
            movements: movements.into_iter().map(|side| (side.identity(), side)).collect(),
            rows,
            states: side::trade_states(conn, day.app_id(), &trades)?.into_iter().collect(),
        })
    }

    pub(crate) fn of(&self, identity: &Identity) -> KnownOf<'_> {
        KnownOf {
            rows: self.rows.get(identity).map_or(&[], Vec::as_slice),
            movement: self.movements.get(identity),
            state: self.states.get(&identity.trade_no).map(String::as_str),
        }
    }
}
