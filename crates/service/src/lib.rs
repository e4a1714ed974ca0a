#![doc = include_str!("../README.md")]

pub mod admin;
mod chain;
pub mod clock;
pub mod cluster;
pub mod health;
pub mod logs;
pub mod secret;
pub mod server;
pub mod settings;
pub mod shutdown;

pub use admin::Admin;
pub use chain::chain;
pub use clock::{Clock, FixedClock, SystemClock};
pub use cluster::{Cluster, ClusterError};
pub use health::Health;
pub use secret::{DatabaseUrl, Reference, ReferenceError};
pub use server::Server;
pub use settings::{Settings, SettingsError};
pub use shutdown::Shutdown;
