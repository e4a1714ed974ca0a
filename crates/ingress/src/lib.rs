#![doc = include_str!("../README.md")]

mod body;
mod ingress;
mod metrics;
mod notify;
mod outcome;

pub use ingress::{Ingress, Settings, StartError, start};
