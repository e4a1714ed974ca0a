use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::prelude::Insertable;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, Text};
use diesel::{
    Connection as _, ExecuteCopyFromDsl as _, PgConnection, QueryResult, QueryableByName,
    RunQueryDsl,
};
use payment::{AppId, Fact, Source};

use crate::book::{self, BookError, Origin};
use crate::event::{self, Event};
use crate::outbox;
use crate::position::{self, Advance};
use crate::schema::{dead_letter, inbox, quarantine};
use crate::statement::statement;

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

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, more: Applied) {
        self.applied += more.applied;
        self.kept += more.kept;
        self.duplicate += more.duplicate;
        self.quarantined += more.quarantined;
        self.dead += more.dead;
    }
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
            // Two consumers met one `notify_id`, or one new trade, in two partitions: the later one will see it.
            DatabaseErrorKind::UniqueViolation => {
                matches!(information.constraint_name(), Some("inbox_notify_id" | "trade_pkey"))
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

/// Inbox rows and facts. Facts of a duplicate are recorded too: they are a set, so it costs nothing when they
/// are the same, and a `notify_id` that comes back with other content cannot hide it.
fn store_genuine(
    conn: &mut PgConnection,
    messages: &[Message],
    now: DateTime<Utc>,
    applied: &mut Applied,
) -> Result<(), BookError> {
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
    let mut seen = already_seen(conn, &genuine)?;
    let rows: Vec<InboxRow<'_>> = genuine
        .iter()
        .map(|g| {
            let first = seen.insert((g.message.app_id.as_str().into(), g.notify_id.into()));
            let outcome = match (first, g.facts.is_empty()) {
                (false, _) => "duplicate",
                (true, true) => "kept",
                (true, false) => "applied",
            };
            InboxRow {
                app_id: g.message.app_id.as_str(),
                log_topic: &g.message.log_topic,
                log_partition: g.message.partition,
                log_offset: g.message.offset,
                notify_id: g.notify_id,
                kind: g.kind,
                source: g.message.source.as_str(),
                outcome,
                trade_no: g.trade_no,
                out_trade_no: g.out_trade_no,
                received_at: g.message.received_at,
                recorded_at: now,
                body: &g.message.body,
            }
        })
        .collect();
    let with = |outcome: &str| count(rows.iter().filter(|row| row.outcome == outcome).count());
    applied.applied = with("applied");
    applied.kept = with("kept");
    applied.duplicate = with("duplicate");
    diesel::copy_from(inbox::table).from_insertable(rows).execute(conn)?;

    let facts = genuine.iter().flat_map(|g| {
        let origin = match g.message.source {
            Source::Notification => Origin::Notification,
            // An event of our own tells no facts.
            Source::Query | Source::Ledger => Origin::Query,
        };
        g.facts.iter().map(move |fact| (fact, origin))
    });
    book::record_each(conn, facts, now)?;
    Ok(())
}

/// A genuine message, taken apart.
struct Genuine<'m> {
    message: &'m Message,
    notify_id: &'m str,
    kind: &'m str,
    trade_no: Option<&'m str>,
    out_trade_no: Option<&'m str>,
    facts: &'m [Fact],
}

/// Those of the messages' (app_id, notify_id) that the inbox has.
fn already_seen<'m>(
    conn: &mut PgConnection,
    genuine: &[Genuine<'m>],
) -> QueryResult<HashSet<(Cow<'m, str>, Cow<'m, str>)>> {
    #[derive(QueryableByName)]
    struct SeenRow {
        #[diesel(sql_type = Text)]
        app_id: String,
        #[diesel(sql_type = Text)]
        notify_id: String,
    }
    let rows: Vec<SeenRow> = statement(
        "SELECT i.app_id, i.notify_id
           FROM unnest($1, $2) AS asked (app_id, notify_id) CROSS JOIN LATERAL (
                SELECT inbox.app_id, inbox.notify_id FROM inbox
                 WHERE inbox.app_id = asked.app_id AND inbox.notify_id = asked.notify_id
                   AND inbox.outcome <> 'duplicate' OFFSET 0) AS i",
    )
    .bind::<Array<Text>, _>(genuine.iter().map(|g| g.message.app_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(genuine.iter().map(|g| g.notify_id).collect::<Vec<_>>())
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.app_id.into(), row.notify_id.into())).collect())
}

#[derive(Insertable)]
#[diesel(table_name = inbox, treat_none_as_default_value = false)]
struct InboxRow<'m> {
    app_id: &'m str,
    log_topic: &'m str,
    log_partition: i32,
    log_offset: i64,
    notify_id: &'m str,
    kind: &'m str,
    source: &'static str,
    outcome: &'static str,
    trade_no: Option<&'m str>,
    out_trade_no: Option<&'m str>,
    received_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    body: &'m [u8],
}

#[derive(Insertable)]
#[diesel(table_name = quarantine, treat_none_as_default_value = false)]
struct QuarantineRow<'m> {
    app_id: &'m str,
    log_topic: &'m str,
    log_partition: i32,
    log_offset: i64,
    reason: &'m str,
    received_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    body: &'m [u8],
}

fn store_quarantined(
    conn: &mut PgConnection,
    messages: &[(&Message, &str)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows: Vec<QuarantineRow<'_>> = messages
        .iter()
        .map(|(message, reason)| QuarantineRow {
            app_id: message.app_id.as_str(),
            log_topic: &message.log_topic,
            log_partition: message.partition,
            log_offset: message.offset,
            reason,
            received_at: message.received_at,
            recorded_at: now,
            body: &message.body,
        })
        .collect();
    diesel::copy_from(quarantine::table).from_insertable(rows).execute(conn)?;
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = dead_letter, treat_none_as_default_value = false)]
struct DeadRow<'m> {
    app_id: &'m str,
    log_topic: &'m str,
    log_partition: i32,
    log_offset: i64,
    reason: &'static str,
    detail: &'m str,
    received_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    body: &'m [u8],
}

/// Keeps them, and has the world told.
fn store_dead(
    conn: &mut PgConnection,
    messages: &[(&Message, &'static str, &str)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows: Vec<DeadRow<'_>> = messages
        .iter()
        .map(|(message, reason, detail)| DeadRow {
            app_id: message.app_id.as_str(),
            log_topic: &message.log_topic,
            log_partition: message.partition,
            log_offset: message.offset,
            reason,
            detail,
            received_at: message.received_at,
            recorded_at: now,
            body: &message.body,
        })
        .collect();
    diesel::copy_from(dead_letter::table).from_insertable(rows).execute(conn)?;
    let events: Vec<Event> = messages.iter().map(|(message, ..)| event::dead(message)).collect();
    outbox::put(conn, &events, now)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
