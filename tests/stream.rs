//! The log, in Postgres and in Kafka: nothing acknowledged is lost, nothing is skipped, nothing unread is dropped.

pub(crate) mod kafka;
mod postgres;
mod read;
