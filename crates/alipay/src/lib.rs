#![doc = include_str!("../README.md")]

mod app;
pub mod bill;
mod charset;
mod excerpt;
mod form;
mod gateway;
mod key;
mod notification;
mod response;
#[cfg(test)]
mod samples;
mod signature;

pub use app::{App, SetAside, Verdict, receive};
pub use form::{FormError, MAX_PARAMETERS, UnverifiedForm};
pub use gateway::{
    BILL_DOWNLOAD_URL, BillAddress, Environment, Gateway, GatewayError, Timeouts, TransportFault,
};
pub use key::{KeyError, KeyFault, KeyRing, SigningKey, VerificationKey};
pub use notification::{
    Kind, Notification, NotificationError, RefundFee, RefundTold, TradeState, TradeStatus,
};
pub use response::ResponseError;
pub use signature::{EmptyValues, Proof, Refusal, Rule, SignType, Trust, VerifiedForm, verify};
