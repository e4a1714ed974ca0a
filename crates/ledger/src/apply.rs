use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz};
use diesel::{Connection as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use payment::{AppId, Fact, Source};

use crate::book::{self, BookError, Origin};
use crate::event::{self, Event};
use crate::outbox;
use crate::position::{self, Advance};

/// One message of the log, read and judged by the consumer.
#[derive(Clone, Debug)]
pub struct Message {
    pub app_id: AppId,
    /// The topic's real name in that log.
    pub log_topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub source: Source,
    pub received_at: DateTime<Utc>,
    pub content: Content,
    /// The raw signed bytes.
    pub body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// Verified, and addressed to us. No facts: it moves no money and is kept.
    Genuine {
        notify_id: String,
        kind: String,
        trade_no: Option<String>,
        out_trade_no: Option<String>,
        facts: Vec<Fact>,
    },
    /// Genuine, but a check failed.
    Quarantined { reason: String },
    /// Cannot be applied. `reason` is one of a few words, `detail` tells people more.
    Dead { reason: &'static str, detail: String },
}

/// Messages in the order of the log, with the steps the consumer makes by them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub messages: Vec<Message>,
    pub steps: Vec<Advance>,
}

/// How many messages had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Told at least one fact, with a `notify_id` seen for the first time.
    pub applied: u64,
    /// Genuine, first of its `notify_id`, moves no money.
    pub kept: u64,
    /// Its `notify_id` was here before.
    pub duplicate: u64,
    pub quarantined: u64,
    pub dead: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another consumer has moved on with these partitions. Nothing was written: read the positions again.
    #[error("another consumer holds these partitions now")]
    Fenced,
    /// Trying again may help: nothing was written.
    #[error("the database did not take the batch")]
    Transient(#[source] DieselError),
    /// Trying again cannot help as long as the batch holds what it holds. Nothing was written.
    #[error("the batch holds a message that the ledger refuses")]
    Refused(#[source] BookError),
}

/// Applies a batch in one transaction: inbox, quarantine, dead letters, facts, trades, journal and the consumer's
/// positions become true together or not at all. A constant number of statements, whatever the batch's size.
pub fn apply(
    conn: &mut PgConnection,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<Applied, ApplyError> {
    let applied = conn.transaction(|conn| {
        // First, so that a rival with the same partitions waits here and then sees it is late.
        if !position::advance(conn, &batch.steps).map_err(BookError::from)? {
            return Err(TransactionError::Fenced);
        }
        let mut applied = Applied::default();
        store_genuine(conn, &batch.messages, now, &mut applied)?;
        let (mut quarantined, mut dead) = (Vec::new(), Vec::new());
        for message in &batch.messages {
            match &message.content {
                Content::Quarantined { reason } => quarantined.push((message, reason.as_str())),
                Content::Dead { reason, detail } => dead.push((message, *reason, detail.as_str())),
                Content::Genuine { .. } => {}
            }
        }
        applied.quarantined = count(quarantined.len());
        applied.dead = count(dead.len());
        store_quarantined(conn, &quarantined, now)?;
        store_dead(conn, &dead, now)?;
        Ok(applied)
    });
    applied.map_err(|error| match error {
        TransactionError::Fenced => ApplyError::Fenced,
        TransactionError::Book(BookError::Database(error)) if is_transient(&error) => {
            ApplyError::Transient(error)
        }
        TransactionError::Book(error) => ApplyError::Refused(error),
    })
}

enum TransactionError {
    Fenced,
    Book(BookError),
}

impl From<DieselError> for TransactionError {
    fn from(error: DieselError) -> Self {
        TransactionError::Book(error.into())
    }
}

impl From<BookError> for TransactionError {
    fn from(error: BookError) -> Self {
        TransactionError::Book(error)
    }
}

/// Whether the same batch may succeed later. Only what the database says about the data itself is final;
/// anything else (a full disk, a lost connection, a missing table) must not set messages aside: the consumer
/// waits and tries again, and the age of the oldest unapplied message tells people.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "diesel's errors are open enums; the unknown is transient"
)]
fn is_transient(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, information) => match kind {
            // Two consumers met one `notify_id` in two partitions: the later one will see it is a duplicate.
            DatabaseErrorKind::UniqueViolation => {
                information.constraint_name() == Some("inbox_notify_id")
            }
            DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => false,
            // diesel hands over no SQLSTATE; these are the texts of class 22, data exceptions.
            _ => {
                !["out of range", "invalid byte sequence", "invalid input syntax", "value too long"]
                    .iter()
                    .any(|words| information.message().contains(words))
            }
        },
        DieselError::SerializationError(_) | DieselError::InvalidCString(_) => false,
        _ => true,
    }
}

#[derive(QueryableByName)]
struct SeenRow {
    #[diesel(sql_type = Text)]
    app_id: String,
    #[diesel(sql_type = Text)]
    notify_id: String,
}

/// Inbox rows and facts. Facts of a duplicate are recorded too: they are a set, so it costs nothing when they
/// are the same, and a `notify_id` that comes back with other content cannot hide it.
fn store_genuine(
    conn: &mut PgConnection,
    messages: &[Message],
    now: DateTime<Utc>,
    applied: &mut Applied,
) -> Result<(), BookError> {
    struct Genuine<'m> {
        message: &'m Message,
        notify_id: &'m str,
        kind: &'m str,
        trade_no: Option<&'m str>,
        out_trade_no: Option<&'m str>,
        facts: &'m [Fact],
    }
    let genuine: Vec<Genuine<'_>> = messages
        .iter()
        .filter_map(|message| match &message.content {
            Content::Genuine { notify_id, kind, trade_no, out_trade_no, facts } => Some(Genuine {
                message,
                notify_id,
                kind,
                trade_no: trade_no.as_deref(),
                out_trade_no: out_trade_no.as_deref(),
                facts,
            }),
            Content::Quarantined { .. } | Content::Dead { .. } => None,
        })
        .collect();
    if genuine.is_empty() {
        return Ok(());
    }
    let apps: Vec<&str> = genuine.iter().map(|g| g.message.app_id.as_str()).collect();
    let notify_ids: Vec<&str> = genuine.iter().map(|g| g.notify_id).collect();
    let seen: Vec<SeenRow> = sql_query(
        "SELECT i.app_id, i.notify_id
           FROM unnest($1, $2) AS asked (app_id, notify_id) CROSS JOIN LATERAL (
                SELECT * FROM inbox WHERE inbox.app_id = asked.app_id AND inbox.notify_id = asked.notify_id
                   AND inbox.outcome <> 'duplicate' OFFSET 0) AS i",
    )
    .bind::<Array<Text>, _>(&apps)
    .bind::<Array<Text>, _>(&notify_ids)
    .load(conn)?;
    let mut seen: HashSet<(String, String)> =
        seen.into_iter().map(|row| (row.app_id, row.notify_id)).collect();
    let outcomes: Vec<&str> = genuine
        .iter()
        .map(|g| {
            let first = seen.insert((g.message.app_id.to_string(), g.notify_id.to_owned()));
            match (first, g.facts.is_empty()) {
                (false, _) => "duplicate",
                (true, true) => "kept",
                (true, false) => "applied",
            }
        })
        .collect();
    let with = |outcome: &str| count(outcomes.iter().filter(|is| **is == outcome).count());
    applied.applied = with("applied");
    applied.kept = with("kept");
    applied.duplicate = with("duplicate");

    let of: Vec<&Message> = genuine.iter().map(|g| g.message).collect();
    sql_query(
        "INSERT INTO inbox (app_id, log_topic, log_partition, log_offset, notify_id, kind, source, outcome,
                            trade_no, out_trade_no, received_at, body, recorded_at)
         SELECT new.*, $13 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS new",
    )
    .bind::<Array<Text>, _>(apps)
    .bind::<Array<Text>, _>(of.iter().map(|m| &*m.log_topic).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(of.iter().map(|m| m.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(of.iter().map(|m| m.offset).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(notify_ids)
    .bind::<Array<Text>, _>(genuine.iter().map(|g| g.kind).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(of.iter().map(|m| m.source.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(outcomes)
    .bind::<Array<Nullable<Text>>, _>(genuine.iter().map(|g| g.trade_no).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(genuine.iter().map(|g| g.out_trade_no).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(of.iter().map(|m| m.received_at).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(of.iter().map(|m| m.body.as_slice()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;

    let facts: Vec<(Fact, Origin)> = genuine
        .iter()
        .flat_map(|g| {
            let origin = match g.message.source {
                Source::Notification => Origin::Notification,
                // An event of our own tells no facts.
                Source::Query | Source::Ledger => Origin::Query,
            };
            g.facts.iter().map(move |fact| (fact.clone(), origin))
        })
        .collect();
    book::record(conn, &facts, now)?;
    Ok(())
}

fn store_quarantined(
    conn: &mut PgConnection,
    messages: &[(&Message, &str)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    sql_query(
        "INSERT INTO quarantine (app_id, log_topic, log_partition, log_offset, reason, received_at, body,
                                 recorded_at)
         SELECT new.*, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7) AS new",
    )
    .bind::<Array<Text>, _>(messages.iter().map(|(m, _)| m.app_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(messages.iter().map(|(m, _)| &*m.log_topic).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(messages.iter().map(|(m, _)| m.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(messages.iter().map(|(m, _)| m.offset).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(messages.iter().map(|(_, reason)| *reason).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(messages.iter().map(|(m, _)| m.received_at).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(messages.iter().map(|(m, _)| m.body.as_slice()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    Ok(())
}

fn store_dead(
    conn: &mut PgConnection,
    messages: &[(&Message, &str, &str)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    sql_query(
        "INSERT INTO dead_letter (app_id, log_topic, log_partition, log_offset, reason, detail, received_at,
                                  body, recorded_at)
         SELECT new.*, $9 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS new",
    )
    .bind::<Array<Text>, _>(messages.iter().map(|(m, ..)| m.app_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(messages.iter().map(|(m, ..)| &*m.log_topic).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(messages.iter().map(|(m, ..)| m.partition).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(messages.iter().map(|(m, ..)| m.offset).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(messages.iter().map(|(_, reason, _)| *reason).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(messages.iter().map(|(.., detail)| *detail).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(messages.iter().map(|(m, ..)| m.received_at).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(messages.iter().map(|(m, ..)| m.body.as_slice()).collect::<Vec<_>>())
    .bind::<Timestamptz, _>(now)
    .execute(conn)?;
    let events: Vec<Event> = messages.iter().map(|(message, ..)| event::dead(message)).collect();
    outbox::put(conn, &events, now)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
