//! The log on a real Postgres: nothing acknowledged is lost, nothing is skipped, nothing unread is dropped.

mod postgres;
mod read;
