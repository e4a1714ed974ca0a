#![doc = include_str!("../README.md")]

pub mod apply;
pub mod audit;
pub mod bill;
pub mod book;
pub mod carry;
mod connection;
mod cursor;
pub mod day;
pub mod dead_letter;
pub mod difference;
mod event;
mod fact;
mod journal;
pub mod migrate;
pub mod outbox;
mod place;
pub mod position;
pub mod quarantine;
pub mod run;
mod schema;
pub mod side;
mod statement;
pub mod trade;

pub use apply::{Applied, ApplyError, Batch, Content, Message, apply};
pub use connection::{ConnectError, connect, connect_to_apply};
pub use migrate::{MigrateError, check_schema, migrate};
pub use place::{Place, PlaceError};

/// The database's connection, as every function here takes it first. The caller owns the transaction
/// unless the function says otherwise.
pub use diesel::pg::PgConnection as Connection;
/// What a query of this crate fails with where only SQL can fail.
pub use diesel::result::Error as QueryError;
