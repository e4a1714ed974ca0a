use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {limit} characters")]
    TooLong { limit: usize },
    #[error("has a control character or a blank at its edge")]
    NotPrintable,
}

/// One kind of id: text of 1 to `$limit` characters without control characters or blanks around it.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $limit:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub const MAX_CHARS: usize = $limit;

            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text, Self::MAX_CHARS)?;
                Ok($name(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text, Self::MAX_CHARS)?;
                Ok($name(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    )*};
}

ids! {
    /// Alipay's number of the merchant's application (`app_id`). Every table's key starts with it.
    AppId 32;
    /// Alipay's number of one notification; the same on all its retries (`notify_id`).
    NotifyId 128;
    /// The merchant's own number of an order (`out_trade_no`).
    OutTradeNo 64;
    /// The merchant's number of one refund (`out_request_no`, in notifications `out_biz_no`).
    RequestNo 64;
    /// The merchant's Alipay account (PID, `seller_id`): 2088...
    SellerId 30;
    /// Alipay's number of a trade (`trade_no`, 支付宝交易号).
    TradeNo 64;
}

fn check(text: &str, limit: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.chars().count() > limit {
        return Err(IdError::TooLong { limit });
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(IdError::NotPrintable);
    }
    Ok(())
}

/// Whose protocol a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    Alipay,
}

impl Provider {
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Alipay => "alipay",
        }
    }

    /// The provider of that name, `None` where there is none.
    pub fn named(name: &str) -> Option<Self> {
        [Provider::Alipay].into_iter().find(|provider| provider.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printable_and_bounded() {
        assert!(TradeNo::parse("2024030522001400000000000101").is_ok());
        assert_eq!(TradeNo::parse(""), Err(IdError::Empty));
        assert_eq!(TradeNo::parse("a\0b"), Err(IdError::NotPrintable));
        assert_eq!(TradeNo::parse("1\t"), Err(IdError::NotPrintable));
        assert_eq!(TradeNo::parse(&"1".repeat(65)), Err(IdError::TooLong { limit: 64 }));
    }
}
