//! The ledger on a real Postgres: one ledger whatever the order, books that add up and cannot be rewritten,
//! batches that are applied whole and once, by whoever holds the partition, and everything told once.

mod apply;
mod audit;
mod contradiction;
mod dead_letter;
mod journal;
mod order;
mod outbox;
mod position;
