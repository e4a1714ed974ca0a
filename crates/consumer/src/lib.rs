#![doc = include_str!("../README.md")]

mod consumer;
mod held;
mod judge;
mod metrics;
pub mod parity;
mod relay;

pub use self::judge::content;
pub use consumer::{Consumer, OpenError, Settings, Step, StepError};
pub use relay::{Relay, RelayError};
