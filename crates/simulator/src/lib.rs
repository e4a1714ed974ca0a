#![doc = include_str!("../README.md")]

mod answer;
mod bill;
mod cast;
mod delivery;
mod dice;
mod form;
mod gateway;
mod key;
mod link;
mod notice;
mod post;
mod scenario;
mod seal;
mod server;
mod settings;
mod shop;
mod story;
#[cfg(test)]
mod testing;
mod trade;
mod world;

pub use answer::{AnswerKey, Carried, DayTotals, Planted};
pub use bill::{BillError, BillOfDay};
pub use delivery::{Delivery, DeliveryKind, Expected, Method};
pub use key::{KeyError, Keys, SimulatorKey};
pub use post::{Got, MAX_TRIES, PostError, Tally, Wrong, post_all};
pub use scenario::{Plan, PlanError, Scenario, plan};
pub use server::{Server, ServerError, start};
pub use settings::{Listen, SettingsError, open_keys, write_settings};
