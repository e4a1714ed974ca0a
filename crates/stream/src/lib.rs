#![doc = include_str!("../README.md")]

mod append;
mod error;
mod log;
mod partition;
mod read;
mod retention;

pub use append::{AppendError, AppendSettings, Appender};
pub use error::StreamError;
pub use log::{KafkaSettings, Log, TopicNames};
pub use partition::{Partition, create_partitions};
pub use read::{Reader, Record};
