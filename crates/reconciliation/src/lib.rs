#![doc = include_str!("../README.md")]

mod bucket;
mod carried;
mod confirm;
mod day;
mod kind;
mod known;
mod matching;
mod metrics;
mod reconciler;
pub mod report;
mod run;
mod source;

pub use bucket::{Bucket, Buckets, Tally};
pub use day::{ReconcileError, reconcile};
pub use kind::Kind;
pub use matching::{Finding, Terms, compare};
pub use metrics::Metrics;
pub use reconciler::Reconciler;
pub use report::Report;
pub use run::RunError;
pub use source::{Client, Source, SourceError};
