use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

/// An amount of money in whole fen (1 yuan = 100 fen), signed.
///
/// Made from text by [`Fen::parse_yuan`], never through a float; arithmetic is checked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Fen(i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenError {
    #[error("is empty; an amount looks like `88.88`")]
    Empty,
    #[error("is not an amount in yuan; it looks like `88.88`: digits, at most two after the point")]
    NotAnAmount,
    #[error("is larger than this system can hold")]
    TooLarge,
}

impl Fen {
    pub const ZERO: Fen = Fen(0);

    pub const fn new(fen: i64) -> Self {
        Fen(fen)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads yuan as Alipay writes them: `88.88`, `-0.01`, `5`. `1e3`, `88.888`, `+1`, `.5`, `1,000`
    /// and blanks are errors, not roundings.
    pub fn parse_yuan(text: &str) -> Result<Self, FenError> {
        Self::parse_yuan_bytes(text.as_bytes())
    }

    /// The same over bytes, for rows that are never decoded.
    pub fn parse_yuan_bytes(text: &[u8]) -> Result<Self, FenError> {
        let (negative, digits) = match text.split_first() {
            None => return Err(FenError::Empty),
            Some((b'-', rest)) => (true, rest),
            Some(_) => (false, text),
        };
        let point = digits.iter().position(|byte| *byte == b'.');
        let (yuan, fen) = match point {
            None => (digits, &b""[..]),
            Some(at) => {
                let (yuan, rest) = digits.split_at(at);
                let fen = rest.get(1..).unwrap_or_default();
                if fen.is_empty() {
                    return Err(FenError::NotAnAmount);
                }
                (yuan, fen)
            }
        };
        if yuan.is_empty() || fen.len() > 2 {
            return Err(FenError::NotAnAmount);
        }
        let mut amount: i64 = 0;
        let padding = b"00".get(fen.len()..).unwrap_or_default();
        for byte in yuan.iter().chain(fen).chain(padding) {
            if !byte.is_ascii_digit() {
                return Err(FenError::NotAnAmount);
            }
            amount = amount
                .checked_mul(10)
                .and_then(|amount| amount.checked_add(i64::from(byte - b'0')))
                .ok_or(FenError::TooLarge)?;
        }
        Ok(Fen(if negative { -amount } else { amount }))
    }

    pub fn checked_add(self, other: Fen) -> Option<Fen> {
        self.0.checked_add(other.0).map(Fen)
    }

    pub fn checked_sub(self, other: Fen) -> Option<Fen> {
        self.0.checked_sub(other.0).map(Fen)
    }

    pub fn checked_neg(self) -> Option<Fen> {
        self.0.checked_neg().map(Fen)
    }

    /// The sum, or `None` where it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Fen>) -> Option<Fen> {
        amounts.into_iter().try_fold(Fen::ZERO, Fen::checked_add)
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Sum<Fen> for Option<Fen> {
    fn sum<I: Iterator<Item = Fen>>(iter: I) -> Self {
        Fen::checked_sum(iter)
    }
}

/// Yuan with two places, as Alipay prints them: `-0.01`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", fen / 100, fen % 100)
    }
}

impl From<i64> for Fen {
    fn from(fen: i64) -> Self {
        Fen(fen)
    }
}

impl From<Fen> for i64 {
    fn from(fen: Fen) -> Self {
        fen.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn yuan_are_read_exactly_or_not_at_all() {
        for (text, fen) in [("88.88", 8888), ("-0.01", -1), ("0.1", 10), ("5", 500), ("0.00", 0)] {
            assert_eq!(Fen::parse_yuan(text), Ok(Fen(fen)), "{text}");
        }
        for text in
            ["1e3", "88.888", "+1", ".5", "5.", "1,000.00", " 1", "1 ", "-", "--1", "١", "NaN"]
        {
            assert_eq!(Fen::parse_yuan(text), Err(FenError::NotAnAmount), "{text}");
        }
        assert_eq!(Fen::parse_yuan(""), Err(FenError::Empty));
        assert_eq!(Fen::parse_yuan("92233720368547758.08"), Err(FenError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(fen in -i64::MAX..=i64::MAX) {
            prop_assert_eq!(Fen::parse_yuan(&Fen(fen).to_string()), Ok(Fen(fen)));
        }
    }
}
