use std::time::Duration;

use chrono::{DateTime, Utc};
use payment::{AppId, Envelope};

use crate::{Log, Partition, StreamError, kafka, postgres};

/// Reads the consumed topics of the log on from given positions. Remembers no position that counts.
pub struct Reader(Inner);

enum Inner {
    Postgres(Box<postgres::Reader>),
    Kafka(Box<kafka::Reader>),
}

/// One record where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub partition: Partition,
    /// Counted from 0 in its partition.
    pub offset: i64,
    /// What.
    pub envelope: Envelope,
    /// What is wrong with it, where something is: the log is a place that others may write to, and one such
    /// record must not keep its neighbours from being read.
    pub defect: Option<Defect>,
}

/// Why a record is not what we wrote. The body is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The column, or header, that no version of ours writes so.
    Field(&'static str),
    /// The log has dropped the records from `first` to this one before they were read. No body.
    Missing {
        /// The first that is gone.
        first: i64,
    },
}

/// Which partitions are a reader's to read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Grows with every change.
    pub generation: u64,
    /// In order.
    pub partitions: Vec<Partition>,
    /// Whether others have them, too.
    pub sharing: Sharing,
}

/// Whether partitions are given to one reader at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else's: whoever had them before must not write any more.
    Exclusive,
    /// Every reader has all of them, and the first to write wins.
    Shared,
}

impl Reader {
    /// Connects; a reader of Kafka joins its group.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub fn open(log: &Log) -> Result<Reader, StreamError> {
        Ok(Reader(match log {
            Log::Postgres { database_url, .. } => {
                Inner::Postgres(Box::new(postgres::Reader::open(database_url)?))
            }
            Log::Kafka(settings) => Inner::Kafka(Box::new(kafka::Reader::open(settings)?)),
        }))
    }

    /// Reads beside whoever reads: every partition is this reader's, no group is joined, nobody is told.
    ///
    /// # Errors
    /// When the log cannot be reached, or has not been set up.
    pub fn beside(log: &Log) -> Result<Reader, StreamError> {
        match log {
            Log::Postgres { .. } => Reader::open(log),
            Log::Kafka(settings) => {
                Ok(Reader(Inner::Kafka(Box::new(kafka::Reader::beside(settings)?))))
            }
        }
    }

    /// What is this reader's to read now. Look at it before every read: a read answers nothing while there
    /// is a change that was not looked at.
    ///
    /// # Errors
    /// When the log fails, or has not been set up.
    pub fn assignment(&mut self) -> Result<Assignment, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.assignment(),
            Inner::Kafka(reader) => Ok(reader.assignment()),
        }
    }

    /// At most `limit` records at or after the positions `from`, by partition and offset. Partitions
    /// that have more take turns, so that none waits for another to be done. Where there is nothing,
    /// waits up to `wait` for the first; empty if none came.
    ///
    /// # Errors
    /// When the log fails, or does not go as far as `from`. After [`StreamError::Away`] the reader may be
    /// used on; after any other error, open a new one.
    pub fn read(
        &mut self,
        from: &[(Partition, i64)],
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.read(from, limit, wait),
            Inner::Kafka(reader) => reader.read(from, limit, wait),
        }
    }

    /// Keeps what is this reader's for up to `wait` without reading: what a reader that cannot use records calls
    /// instead of [`read`](Self::read), again and again. Returns early when there is a change to look at.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn stay(&mut self, wait: Duration) -> Result<(), StreamError> {
        match &mut self.0 {
            Inner::Postgres(_) => Ok(()),
            Inner::Kafka(reader) => reader.stay(wait),
        }
    }

    /// Whether the log still holds what was assigned to be this reader's, asked anew: a process that slept may not
    /// have heard otherwise yet. Tells the log the positions by the way.
    ///
    /// # Errors
    /// When the log fails.
    pub fn confirm(&mut self, positions: &[(Partition, i64)]) -> Result<bool, StreamError> {
        match &mut self.0 {
            Inner::Postgres(_) => Ok(true),
            Inner::Kafka(reader) => reader.confirm(positions),
        }
    }

    /// The given partitions with the offset of the first record that is still there, in order.
    ///
    /// # Errors
    /// When the log fails, or has not been set up.
    pub fn starts(&mut self, of: &[Partition]) -> Result<Vec<(Partition, i64)>, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.starts(of),
            Inner::Kafka(reader) => reader.starts(of),
        }
    }

    /// The given partitions with the offset that their next record will get, in order.
    ///
    /// # Errors
    /// When the log fails, or has not been set up.
    pub fn ends(&mut self, of: &[Partition]) -> Result<Vec<(Partition, i64)>, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.ends(of),
            Inner::Kafka(reader) => reader.ends(of),
        }
    }

    /// When the first record at or after each position was received; partitions without one are left out.
    ///
    /// # Errors
    /// When the log fails.
    pub fn oldest_unread(
        &mut self,
        from: &[(Partition, i64)],
    ) -> Result<Vec<(Partition, DateTime<Utc>)>, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.oldest_unread(from),
            Inner::Kafka(reader) => reader.oldest_unread(from),
        }
    }

    /// Tells the log how far the ledger has come, for those who watch the log and not the ledger. Cheap,
    /// never waits, and nothing rests on it.
    pub fn applied(&mut self, positions: &[(Partition, i64)]) {
        match &mut self.0 {
            Inner::Postgres(_) => {}
            Inner::Kafka(reader) => reader.applied(positions),
        }
    }

    /// Drops records below the positions `before` that were appended before `older_than`, in steps that each
    /// hold little, and those of topics that nobody here reads by their age alone. Returns how many. A Kafka
    /// does that by itself: 0.
    ///
    /// Give it only positions that every reader has passed.
    ///
    /// # Errors
    /// When the log fails; what was dropped by then stays dropped.
    pub fn drop_read(
        &mut self,
        before: &[(Partition, i64)],
        older_than: DateTime<Utc>,
    ) -> Result<u64, StreamError> {
        match &mut self.0 {
            Inner::Postgres(reader) => reader.drop_read(before, older_than),
            Inner::Kafka(_) => Ok(0),
        }
    }

    /// Tells the log the last positions, and leaves: what was this reader's goes to others at once.
    pub fn close(self, positions: &[(Partition, i64)]) {
        match self.0 {
            Inner::Postgres(_) => {}
            Inner::Kafka(reader) => reader.close(positions),
        }
    }
}

/// Whose a record is that does not say it readably.
pub(crate) fn unknown_app() -> Result<AppId, StreamError> {
    AppId::parse("unknown").map_err(|_| StreamError::NoPartitions)
}
