use crate::Partition;

/// Why the log cannot be used. Never holds a record's content.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No connection to the database.
    #[error("cannot connect to the log's database")]
    Connect(#[source] diesel::ConnectionError),
    /// The database refused a statement, or the connection broke.
    #[error("cannot {action} the log")]
    Query {
        /// `read`, `append to`...
        action: &'static str,
        /// What the database says.
        #[source]
        source: diesel::result::Error,
    },
    /// The log has not been set up.
    #[error("the log has no partitions; run `suanpan migrate`")]
    NoPartitions,
    /// A partition that was there is gone.
    #[error("the log's partition {0} is missing; was the database replaced?")]
    PartitionMissing(Partition),
    /// A number that the database's columns cannot hold.
    #[error("the log is full: a number in it is larger than the database can hold")]
    TooLarge,
    /// The system gives no thread.
    #[error("cannot start the thread that appends to the log")]
    Thread(#[source] std::io::Error),
}

/// For `map_err`: what was tried.
pub(crate) fn query(action: &'static str) -> impl FnOnce(diesel::result::Error) -> StreamError {
    move |source| StreamError::Query { action, source }
}
