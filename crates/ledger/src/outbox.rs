//! What the ledger has yet to tell the log. Rows are written in the transaction of the effect and removed when the log
//! has acknowledged them, so everything told is told at least once, under an id that never changes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::Insertable;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{
    Connection as _, ExecuteCopyFromDsl as _, OptionalExtension as _, PgConnection, QueryResult,
    QueryableByName, RunQueryDsl,
};
use payment::{AppId, Envelope, Kind, Provider, Source, Topic};

use crate::dead_letter::{self, DeadLetter};
use crate::event::Event;
use crate::place::Place;
use crate::schema::outbox;
use crate::statement::statement;

/// An event to append to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To name it by in [`sent`].
    pub outbox_id: i64,
    pub envelope: Envelope,
}

/// What waits to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Events; counted up to [`COUNTED_MAX`].
    pub events: i64,
    /// When the oldest was recorded.
    pub oldest: Option<DateTime<Utc>>,
}

/// A longer queue is not counted further: it is looked at every few seconds.
pub const COUNTED_MAX: i64 = 100_000;

/// Whoever leads and is silent for longer is thrown out by the database: a process that hangs does not hold up the
/// others.
pub const LEAD_SILENT_MAX: Duration = Duration::from_secs(15);

/// Only one relay may send: two would overtake each other.
const RELAY_LOCK: i64 = 0x5355_414e_5041_4e02;
/// Dead letters are asked for until they have so many bytes together: each may be as long as the log allows.
const LETTERS_BYTES_MAX: i64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("cannot read or empty the outbox")]
    Database(#[from] DieselError),
    /// Written by a later version, or by somebody else. It holds up what comes after it: events are never skipped.
    #[error(
        "event {outbox_id} in the outbox is none that this version can send: its {column} is unknown"
    )]
    Unreadable { outbox_id: i64, column: &'static str },
}

/// Does `work` as the only one who does, in one transaction; `None` while another relay is at it.
///
/// The lead ends with the transaction, whatever becomes of the connection or of the process: what `work` read is
/// still true when it removes it, or nothing is removed.
pub fn lead<T, E: From<DieselError>>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<Option<T>, E> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        leads: bool,
    }
    conn.transaction(|conn| {
        // In a statement of its own: the next one sees what the former leader has committed.
        let row: Row = statement(
            "SELECT pg_try_advisory_xact_lock($1) AS leads,
                    set_config('idle_in_transaction_session_timeout', $2, true)",
        )
        .bind::<BigInt, _>(RELAY_LOCK)
        .bind::<Text, _>(LEAD_SILENT_MAX.as_millis().to_string())
        .get_result(conn)?;
        if row.leads { work(conn).map(Some) } else { Ok(None) }
    })
}

/// The events at the head of the queue, in order, `limit` at most: the first of each key, and none of a key whose
/// older events still wait. Asked again before [`sent`], it gives the same ones.
pub fn next(conn: &mut PgConnection, limit: i64) -> Result<Vec<Outgoing>, OutboxError> {
    // Rows of one key become visible in the order of their ids: they are written under one lock.
    let rows: Vec<Row> = statement(
        "SELECT outbox_id, app_id, kind, event_id, key, body, recorded_at FROM outbox
          ORDER BY outbox_id LIMIT $1",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)?;
    let mut keys = HashSet::new();
    let mut firsts: Vec<&Row> = rows.iter().filter(|row| keys.insert(row.key.as_str())).collect();

    let sizes = dead_letter::sizes(conn, &places(&firsts))?;
    let mut room = LETTERS_BYTES_MAX;
    firsts.retain(|row| match sizes.get(&row.event_id) {
        Some(_) if room <= 0 => false,
        Some(bytes) => {
            room = room.saturating_sub(*bytes);
            true
        }
        None => true,
    });
    let letters: HashMap<String, DeadLetter> = dead_letter::at(conn, &places(&firsts))?
        .into_iter()
        .map(|letter| (letter.place().to_string(), letter))
        .collect();
    firsts.into_iter().map(|row| row.envelope(letters.get(&row.event_id))).collect()
}

/// Where the dead letters among them stand.
fn places(rows: &[&Row]) -> Vec<Place> {
    let letters = rows.iter().filter(|row| row.body.is_none());
    letters.filter_map(|row| row.event_id.parse().ok()).collect()
}

/// Removes events that the log has acknowledged.
pub fn sent(conn: &mut PgConnection, outbox_ids: &[i64]) -> QueryResult<()> {
    statement("DELETE FROM outbox WHERE outbox_id = ANY($1)")
        .bind::<Array<BigInt>, _>(outbox_ids)
        .execute(conn)?;
    Ok(())
}

/// How many events wait, and since when. Cheap, however many there are.
pub fn waiting(conn: &mut PgConnection) -> QueryResult<Waiting> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    #[derive(QueryableByName)]
    struct Oldest {
        #[diesel(sql_type = Timestamptz)]
        recorded_at: DateTime<Utc>,
    }
    let count: Count =
        statement("SELECT count(*) AS events FROM (SELECT 1 FROM outbox LIMIT $1) AS counted")
            .bind::<BigInt, _>(COUNTED_MAX)
            .get_result(conn)?;
    let oldest: Option<Oldest> =
        statement("SELECT recorded_at FROM outbox ORDER BY outbox_id LIMIT 1")
            .get_result(conn)
            .optional()?;
    Ok(Waiting { events: count.events, oldest: oldest.map(|oldest| oldest.recorded_at) })
}

/// Puts events into the queue, in their order. The caller holds the lock of what they are about.
pub(crate) fn put(
    conn: &mut PgConnection,
    events: &[Event],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    let rows: Vec<NewRow<'_>> = events
        .iter()
        .map(|event| NewRow {
            app_id: event.app_id.as_str(),
            kind: event.kind.as_str(),
            event_id: &event.id,
            key: &event.key,
            body: event.body.as_deref(),
            recorded_at: now,
        })
        .collect();
    diesel::copy_from(outbox::table).from_insertable(rows).execute(conn)?;
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = outbox, treat_none_as_default_value = false)]
struct NewRow<'e> {
    app_id: &'e str,
    kind: &'static str,
    event_id: &'e str,
    key: &'e str,
    body: Option<&'e str>,
    recorded_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    outbox_id: i64,
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Nullable<Text>)]
    body: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    recorded_at: DateTime<Utc>,
}

impl Row {
    fn envelope(&self, letter: Option<&DeadLetter>) -> Result<Outgoing, OutboxError> {
        let unreadable = |column| OutboxError::Unreadable { outbox_id: self.outbox_id, column };
        let app_id = AppId::parse(&self.app_id).map_err(|_| unreadable("app_id"))?;
        let event = Envelope {
            id: self.event_id.clone(),
            topic: Topic::LedgerEvents,
            kind: Kind::named(&self.kind).ok_or_else(|| unreadable("kind"))?,
            provider: Provider::Alipay,
            app_id,
            key: self.key.clone(),
            source: Source::Ledger,
            sequence: Some(self.outbox_id),
            received_at: self.recorded_at,
            reason: None,
            body: Vec::new(),
        };
        let envelope = match (&self.body, letter) {
            (Some(body), _) => Envelope { body: body.clone().into_bytes(), ..event },
            (None, Some(letter)) => Envelope {
                topic: Topic::DeadLetters,
                received_at: letter.received_at,
                reason: Some(format!("{}: {}", letter.reason, letter.detail)),
                body: letter.body.clone(),
                ..event
            },
            (None, None) => return Err(unreadable("event_id")),
        };
        Ok(Outgoing { outbox_id: self.outbox_id, envelope })
    }
}
