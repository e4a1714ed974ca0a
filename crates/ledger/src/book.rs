use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use payment::{Fact, Told, TradeNo};

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
/// Must run in a transaction. The trades' rows are made or locked in key order, so two callers with facts about the
/// same trade queue up, and the second sees the first one's facts. A constant number of round trips, whatever
/// the number of facts. Returns how many facts were new.
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

/// Makes the rows of new trades, locks those of the others, and says what changes about which of them.
///
/// Most trades are new, or else told completely: a new one is made as its facts say in a single insert, and nothing
/// is read of it, since no facts are known of a trade that has no row.
fn changes<'f>(
    conn: &mut PgConnection,
    told: BTreeMap<Key<'f>, Facts<'f>>,
    now: DateTime<Utc>,
) -> Result<Vec<Change<'f>>, BookError> {
    let folded: Vec<(Key<'f>, Facts<'f>, Trade)> = told
        .into_iter()
        .filter_map(|(key, facts)| {
            let trade = trade::fold(facts.keys().copied())?;
            Some((key, facts, trade))
        })
        .collect();
    let is_new = tables::insert_trades(
        conn,
        &folded.iter().map(|(key, _, trade)| (*key, trade)).collect::<Vec<_>>(),
        now,
    )?;
    let (mut changes, mut there) = (Vec::new(), Vec::new());
    for (key, facts, trade) in folded {
        if is_new.contains(&key) {
            let (was, new) = (Booked::default(), facts.into_iter().collect());
            let known = Vec::new();
            changes.push(Change { key, is_new: true, was, was_closed: false, known, new, trade });
        } else {
            there.push((key, facts));
        }
    }
    drop(is_new);
    changes.extend(changes_of_known(conn, there)?);
    Ok(changes)
}

fn changes_of_known<'f>(
    conn: &mut PgConnection,
    told: Vec<(Key<'f>, Facts<'f>)>,
) -> Result<Vec<Change<'f>>, BookError> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<Key<'f>> = told.iter().map(|(key, _)| *key).collect();
    let locked = tables::lock_trades(conn, &keys)?;
    let mut known: Vec<Vec<Fact>> = keys.iter().map(|_| Vec::new()).collect();
    for (place, fact) in fact::load(conn, &keys)? {
        known.get_mut(place).into_iter().for_each(|known| known.push(fact.clone()));
    }
    let mut changes: Vec<Change<'f>> = Vec::new();
    for (((key, facts), known), locked) in told.into_iter().zip(known).zip(locked) {
        let is_known: BTreeSet<&Fact> = known.iter().collect();
        let new: Vec<(&Fact, Origin)> =
            facts.into_iter().filter(|(fact, _)| !is_known.contains(fact)).collect();
        if new.is_empty() {
            continue;
        }
        let all = known.iter().chain(new.iter().map(|(fact, _)| *fact));
        let Some(trade) = trade::fold(all) else { continue };
        let was = Booked { payment: locked.payment, ..Booked::default() };
        let was_closed = locked.state == State::Closed.as_str();
        changes.push(Change { key, is_new: false, was, was_closed, known, new, trade });
    }
    tables::load_refunds(conn, &mut changes)?;
    Ok(changes)
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
