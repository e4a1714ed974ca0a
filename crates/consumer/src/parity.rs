//! Whether what is in the log is in the ledger, once each, and the books are what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::audit::{self, Finding, Recorded, Totals};
use payment::AppId;
use sha2::{Digest, Sha256};
use stream::{Defect, Log, Partition, Reader, Record, StreamError};

/// What was found. [`holds`](Parity::holds) says whether all of it is as it should be.
#[derive(Clone, Debug)]
pub struct Parity {
    /// One each, in order.
    pub partitions: Vec<PartitionParity>,
    /// What the books amount to.
    pub books: Totals,
    /// The first [`FINDINGS_MAX`] things that are wrong in the books.
    pub findings: Vec<Finding>,
    /// Notifications that a sender was answered `success` for and that are not in the inbox.
    pub unkept: Vec<(AppId, String)>,
    /// How many such notifications were given.
    pub answered: u64,
}

/// One partition of the log, held against the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionParity {
    /// The topic's name in this log.
    pub log_topic: String,
    /// Counted from 0.
    pub partition: i32,
    /// The first record that the log still has.
    pub first: i64,
    /// The offset that its next record will get, when this began.
    pub end: i64,
    /// The next offset that the ledger will apply.
    pub position: i64,
    /// Records compared: those of the log below the position.
    pub records: u64,
    /// Of them, in the ledger exactly once and with the same bytes.
    pub kept: u64,
    /// Of them, in the ledger nowhere.
    pub missing: Vec<i64>,
    /// Of them, in the ledger more than once.
    pub repeated: Vec<i64>,
    /// Of them, in the ledger with other bytes.
    pub altered: Vec<i64>,
    /// Rows of the ledger at places where the log has, or had, no record: at and after the position.
    pub made_up: i64,
}

/// Why the comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The log cannot be read.
    #[error("cannot read the log")]
    Log(#[from] StreamError),
    /// The ledger cannot be read.
    #[error("cannot read the ledger")]
    Ledger(#[from] ledger::QueryError),
    /// The books cannot be gone through.
    #[error("cannot go through the books")]
    Books(#[from] audit::AuditError),
}

/// So many findings are kept; all are counted.
pub const FINDINGS_MAX: usize = 1_000;
/// So many records are compared at once.
const AT_ONCE: usize = 2_000;
/// How long the log may be silent though it has more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares, while everything runs on: what is appended and applied meanwhile is left out. `answered` are
/// notifications, as (app, `notify_id`), that somebody was answered `success` for. Memory does not grow with the log.
///
/// # Errors
/// When log or ledger cannot be read.
pub fn check(
    log: &Log,
    conn: &mut ledger::Connection,
    answered: impl Iterator<Item = (AppId, String)>,
) -> Result<Parity, ParityError> {
    let mut reader = Reader::beside(log)?;
    let partitions = reader.assignment()?.partitions;
    let mut compared = Vec::new();
    for partition in partitions {
        compared.push(compare(log, &mut reader, conn, partition)?);
    }
    let mut findings = Vec::new();
    let books = audit::books(conn, |finding| {
        if findings.len() < FINDINGS_MAX {
            findings.push(finding.clone());
        }
    })?;
    let (answered, unkept) = unkept(conn, answered)?;
    Ok(Parity { partitions: compared, books, findings, unkept, answered })
}

/// Refuses a log that ends before what the ledger has applied of it: it was replaced, and new records would take the
/// places of old ones.
///
/// # Errors
/// When it does, or when log or ledger cannot be read.
pub fn check_positions(log: &Log, conn: &mut ledger::Connection) -> Result<(), ParityError> {
    let mut reader = Reader::beside(log)?;
    let partitions = reader.assignment()?.partitions;
    let asked: Vec<(&str, i32)> = partitions
        .iter()
        .map(|partition| (log.topic_name(partition.topic), partition.number))
        .collect();
    // The positions first: what is applied meanwhile is in the log by then.
    let positions = ledger::position::read(conn, &asked)?;
    for ((partition, end), position) in reader.ends(&partitions)?.into_iter().zip(positions) {
        if position > end {
            return Err(StreamError::Shrunk { partition, end, position }.into());
        }
    }
    Ok(())
}

/// How many records of the log are not applied yet.
///
/// # Errors
/// When log or ledger cannot be read.
pub fn unapplied(
    log: &Log,
    reader: &mut Reader,
    conn: &mut ledger::Connection,
) -> Result<i64, ParityError> {
    let partitions = reader.assignment()?.partitions;
    let ends = reader.ends(&partitions)?;
    let asked: Vec<(&str, i32)> = ends
        .iter()
        .map(|(partition, _)| (log.topic_name(partition.topic), partition.number))
        .collect();
    let positions = ledger::position::read(conn, &asked)?;
    Ok(ends.iter().zip(positions).map(|((_, end), position)| (end - position).max(0)).sum())
}

impl Parity {
    /// Nothing is missing, repeated, altered or made up, and the books are sound.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
            && self.unkept.is_empty()
            && self.partitions.iter().all(PartitionParity::holds)
    }
}

impl PartitionParity {
    /// Every record below the position stands in the ledger once, as it is in the log.
    pub fn holds(&self) -> bool {
        self.missing.is_empty()
            && self.repeated.is_empty()
            && self.altered.is_empty()
            && self.made_up == 0
            && self.position <= self.end
    }
}

fn compare(
    log: &Log,
    reader: &mut Reader,
    conn: &mut ledger::Connection,
    partition: Partition,
) -> Result<PartitionParity, ParityError> {
    let log_topic = log.topic_name(partition.topic).to_owned();
    // The position before the end: what is applied meanwhile is in the log by then.
    let position = ledger::position::read(conn, &[(&log_topic, partition.number)])?;
    let position = position.first().copied().unwrap_or(0);
    let only = |offsets: Vec<(Partition, i64)>| offsets.first().map_or(0, |(_, offset)| *offset);
    let first = only(reader.starts(&[partition])?);
    let end = only(reader.ends(&[partition])?);
    let mut found = PartitionParity {
        partition: partition.number,
        first,
        end,
        position,
        records: 0,
        kept: 0,
        missing: Vec::new(),
        repeated: Vec::new(),
        altered: Vec::new(),
        // Nothing that was applied since stands there: the range begins where the log ended.
        made_up: audit::range(conn, &log_topic, partition.number, end.max(position), i64::MAX)?,
        log_topic,
    };
    let mut next = first;
    while next < position.min(end) {
        let mut records = reader.read(&[(partition, next)], AT_ONCE, PATIENCE)?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        records.retain(|record| record.offset < position && !is_gap(record));
        found.hold_against(conn, &records)?;
    }
    // What the log did not give is not known to be kept.
    found.missing.extend((next..position.min(end)).take(FINDINGS_MAX));
    Ok(found)
}

/// What stands for records that are gone from the log is not one.
fn is_gap(record: &Record) -> bool {
    match record.defect {
        Some(Defect::Missing { .. }) => true,
        Some(Defect::Field(_)) | None => false,
    }
}

impl PartitionParity {
    fn hold_against(
        &mut self,
        conn: &mut ledger::Connection,
        records: &[Record],
    ) -> Result<(), ParityError> {
        let asked: Vec<Recorded<'_>> = records
            .iter()
            .map(|record| Recorded {
                log_topic: &self.log_topic,
                partition: self.partition,
                offset: record.offset,
                digest: Sha256::digest(&record.envelope.body).into(),
            })
            .collect();
        let held = audit::places(conn, &asked)?;
        for (record, held) in records.iter().zip(held) {
            self.records += 1;
            let fault = match (held.rows, held.same_body) {
                (1, true) => {
                    self.kept += 1;
                    continue;
                }
                (0, _) => &mut self.missing,
                (1, false) => &mut self.altered,
                (_, _) => &mut self.repeated,
            };
            if fault.len() < FINDINGS_MAX {
                fault.push(record.offset);
            }
        }
        Ok(())
    }
}

/// How many there were, and those that are not in the inbox.
fn unkept(
    conn: &mut ledger::Connection,
    mut answered: impl Iterator<Item = (AppId, String)>,
) -> Result<(u64, Vec<(AppId, String)>), ParityError> {
    let (mut count, mut unkept) = (0, Vec::new());
    loop {
        let mut by_app: BTreeMap<AppId, Vec<String>> = BTreeMap::new();
        for (app_id, notify_id) in answered.by_ref().take(AT_ONCE) {
            by_app.entry(app_id).or_default().push(notify_id);
            count += 1;
        }
        if by_app.is_empty() {
            return Ok((count, unkept));
        }
        for (app_id, notify_ids) in by_app {
            let asked: Vec<&str> = notify_ids.iter().map(String::as_str).collect();
            let missing = audit::notify_ids(conn, &app_id, &asked)?;
            unkept.extend(missing.into_iter().map(|notify_id| (app_id.clone(), notify_id)));
        }
    }
}
