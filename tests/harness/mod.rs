//! What tests stand on.

pub(crate) mod alipay;
pub(crate) mod bill;
pub(crate) mod binary;
pub(crate) mod books;
pub(crate) mod broker;
pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod feed;
pub(crate) mod form;
pub(crate) mod home;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod sql;
pub(crate) mod wait;

pub(crate) use self::alipay::{Alipay, Notice};
pub(crate) use self::broker::Broker;
pub(crate) use self::database::Database;
pub(crate) use self::feed::Feed;
pub(crate) use self::log::Log;
pub(crate) use self::proxy::Proxy;
