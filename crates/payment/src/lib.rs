#![doc = include_str!("../README.md")]

mod bill;
mod day;
mod envelope;
mod fact;
mod fen;
mod id;

pub use bill::{BillRow, Business};
pub use day::{BillDay, DayError, parse_local, to_local};
pub use envelope::{Envelope, Kind, Source, Topic};
pub use fact::{Fact, Reported, Told};
pub use fen::{Fen, FenError};
pub use id::{AppId, IdError, NotifyId, OutTradeNo, Provider, RequestNo, SellerId, TradeNo};
