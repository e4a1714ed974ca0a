//! The ledger on a real Postgres: one ledger whatever the order, books that add up and cannot be rewritten,
//! batches that are applied whole and once.

mod apply;
mod contradiction;
mod journal;
mod order;
