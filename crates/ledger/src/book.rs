use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use payment::{Fact, Told, TradeNo};

use self::tables::Locked;
use crate::event::{self, About, Correction, Event};
use crate::fact::{self, Key};
use crate::journal::{self, Booked, Posting};
use crate::outbox;
use crate::trade::{self, State, Trade};

mod tables;

/// Who told a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Notification,
    Query,
    Bill,
}

impl Origin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Origin::Notification => "notification",
            Origin::Query => "query",
            Origin::Bill => "bill",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("cannot book facts")]
    Database(#[from] diesel::result::Error),
    #[error("trade `{trade_no}` has amounts that do not fit into the journal")]
    TooLarge { trade_no: TradeNo },
    #[error(
        "a stored fact of trade `{trade_no}` cannot be read back: its {column} is not one of ours"
    )]
    Stored { trade_no: String, column: &'static str },
}

/// Adds facts to the set, folds the trades they belong to anew, posts what changed to the journal, and puts what there
/// is to tell into the outbox.
///
/// Must run in a transaction. The trades' rows are locked or made in key order, so two callers with facts about the
/// same trade queue up, and the second sees the first one's facts; where both make its row, the second fails on its
/// key, and does the work again. A constant number of round trips, whatever the number of facts. Returns how many
/// facts were new.
pub fn record(
    conn: &mut PgConnection,
    facts: &[(Fact, Origin)],
    now: DateTime<Utc>,
) -> Result<usize, BookError> {
    record_each(conn, facts.iter().map(|(fact, origin)| (fact, *origin)), now)
}

pub(crate) fn record_each<'f>(
    conn: &mut PgConnection,
    facts: impl IntoIterator<Item = (&'f Fact, Origin)>,
    now: DateTime<Utc>,
) -> Result<usize, BookError> {
    let mut told: BTreeMap<Key<'f>, Facts<'f>> = BTreeMap::new();
    for (fact, origin) in facts {
        told.entry(Key::of(fact)).or_default().entry(fact).or_insert(origin);
    }
    if told.is_empty() {
        return Ok(0);
    }
    let changes = changes(conn, told, now)?;
    let mut postings = Vec::new();
    for change in &changes {
        journal::post_changes(change.key, &change.trade, &change.was, &mut postings)
            .ok_or_else(|| BookError::TooLarge { trade_no: change.key.trade_no.clone() })?;
    }
    fact::insert(conn, changes.iter().flat_map(|change| change.new.iter().copied()), now)?;
    tables::update_trades(conn, &changes, now)?;
    tables::store_refunds(conn, &changes)?;
    tables::remove_refunds(conn, &changes)?;
    let conflicts = tables::store_conflicts(conn, &changes, now)?;
    let entry_ids = journal::store(conn, &postings, now)?;
    outbox::put(conn, &events(&changes, &postings, &entry_ids, &conflicts), now)?;
    Ok(changes.iter().map(|change| change.new.len()).sum())
}

/// Facts about one trade, each once, with who told it first.
type Facts<'f> = BTreeMap<&'f Fact, Origin>;

/// A trade about which something new was told.
struct Change<'f> {
    key: Key<'f>,
    /// Nothing was known of it before: its row was just made, with these figures.
    is_new: bool,
    was: Booked,
    was_closed: bool,
    known: Vec<Fact>,
    new: Vec<(&'f Fact, Origin)>,
    /// The fold over all of them.
    trade: Trade,
}

/// Locks the rows of the trades that have one, makes those of the others, and says what changes about which of them.
///
/// Most trades are new: such a one is made as its facts say, and nothing is read of it, since no fact is known of a
/// trade that has no row.
fn changes<'f>(
    conn: &mut PgConnection,
    told: BTreeMap<Key<'f>, Facts<'f>>,
    now: DateTime<Utc>,
) -> Result<Vec<Change<'f>>, BookError> {
    let keys: Vec<Key<'f>> = told.keys().copied().collect();
    let locked = tables::lock_trades(conn, &keys)?;
    let (mut changes, mut there) = (Vec::new(), Vec::new());
    for ((key, facts), locked) in told.into_iter().zip(locked) {
        match locked {
            Some(locked) => there.push((key, facts, locked)),
            None => changes.extend(change(key, Vec::new(), facts, None)),
        }
    }
    tables::insert_trades(conn, &changes, now)?;
    if !there.is_empty() {
        let keys: Vec<Key<'f>> = there.iter().map(|(key, ..)| *key).collect();
        let known = fact::load(conn, &keys)?;
        let told = there.into_iter().zip(known);
        let mut changed: Vec<Change<'f>> = told
            .filter_map(|((key, facts, locked), known)| change(key, known, facts, Some(locked)))
            .collect();
        tables::load_refunds(conn, &mut changed)?;
        changes.extend(changed);
    }
    Ok(changes)
}

/// `None` where all that is told was known.
fn change<'f>(
    key: Key<'f>,
    known: Vec<Fact>,
    told: Facts<'f>,
    locked: Option<Locked>,
) -> Option<Change<'f>> {
    let is_known: BTreeSet<&Fact> = known.iter().collect();
    let new: Vec<(&Fact, Origin)> =
        told.into_iter().filter(|(fact, _)| !is_known.contains(fact)).collect();
    if new.is_empty() {
        return None;
    }
    let trade = trade::fold(known.iter().chain(new.iter().map(|(fact, _)| *fact)))?;
    Some(Change {
        key,
        is_new: locked.is_none(),
        was: Booked {
            payment: locked.as_ref().and_then(|locked| locked.payment),
            refunds: BTreeMap::new(),
        },
        was_closed: locked.is_some_and(|locked| locked.state == State::Closed.as_str()),
        known,
        new,
        trade,
    })
}

/// What there is to tell, a trade's events in order. A movement is told by the first fact about it, once and for all;
/// whatever is booked on it later is a correction.
fn events(
    changes: &[Change<'_>],
    postings: &[Posting<'_>],
    entry_ids: &[i64],
    new_conflicts: &HashSet<tables::ConflictGroup>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut entries = entry_ids.iter().zip(postings).peekable();
    for Change { key, trade, known, was_closed, .. } in changes {
        let about = About { key: *key, out_trade_no: trade.out_trade_no.as_str() };
        let paid_before = known.iter().any(|fact| matches!(fact.told, Told::Paid { .. }));
        let refunded_before: HashSet<&str> = known
            .iter()
            .filter_map(|fact| match &fact.told {
                Told::Refunded { request_no, .. } => Some(request_no.as_str()),
                Told::Created { .. } | Told::Paid { .. } | Told::Closed { .. } | Told::Finished => {
                    None
                }
            })
            .collect();
        if let Some(paid) = trade.paid.as_ref().filter(|_| !paid_before) {
            events.push(event::paid(about, paid));
        }
        for (request_no, refund) in &trade.refunds {
            if !refunded_before.contains(request_no.as_str()) {
                events.push(event::refunded(about, request_no.as_str(), refund));
            }
        }
        while let Some((entry_id, posting)) = entries.next_if(|(_, posting)| posting.key == *key) {
            let request_no = posting.request_no.as_str();
            let is_payment = request_no.is_empty();
            if (is_payment && paid_before) || refunded_before.contains(request_no) {
                let (is, change) = (posting.is, posting.change);
                let correction = Correction { entry_id: *entry_id, request_no, is, change };
                events.push(event::corrected(about, &correction));
            }
        }
        if trade.state == State::Closed && !was_closed {
            events.push(event::closed(about, trade.closed_at));
        }
        let mut told: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for conflict in &trade.conflicts {
            let subject = (conflict.subject, conflict.request_no.as_str());
            told.entry(subject).or_default().push(&conflict.told);
        }
        for ((subject, request_no), told) in told {
            if new_conflicts.contains(&tables::ConflictGroup::of(*key, subject, request_no)) {
                events.push(event::conflict(about, subject, request_no, &told));
            }
        }
    }
    events
}
