//! The log as topics of a Kafka cluster.

mod append;
mod client;
mod cloud_event;
mod group;
mod offsets;
mod peek;
mod read;
pub(crate) mod topics;

pub(crate) use append::Appender;
pub(crate) use read::Reader;
