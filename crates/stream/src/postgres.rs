//! The log as tables.

mod append;
pub(crate) mod partition;
mod read;
mod retention;

use diesel::{Connection, PgConnection};

use crate::StreamError;

pub(crate) use append::Appender;
pub(crate) use partition::create_partitions;
pub(crate) use read::Reader;

pub(crate) fn connect(database_url: &str) -> Result<PgConnection, StreamError> {
    PgConnection::establish(database_url).map_err(StreamError::Connect)
}
