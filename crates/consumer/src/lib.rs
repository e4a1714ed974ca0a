#![doc = include_str!("../README.md")]

mod consumer;
mod judge;
mod metrics;

pub use self::judge::content;
pub use consumer::{Consumer, OpenError, Settings, Step, StepError};
