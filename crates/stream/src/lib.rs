#![doc = include_str!("../README.md")]

mod append;
mod error;
mod kafka;
mod log;
mod partition;
mod postgres;
mod read;
mod set_up;

pub use append::{AppendError, AppendSettings, Appender};
pub use error::StreamError;
pub use log::{KafkaSettings, Log, TopicNames};
pub use partition::Partition;
pub use read::{Assignment, Defect, Reader, Record, Sharing};
pub use set_up::{check, set_up};
