//! How single values are read from the file or, as text, from a variable.

use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv6Addr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Reference;

/// A whole number from `MIN` to `MAX`; as text too, which is what variables hold.
pub(super) fn within<'de, D, T, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    struct Within<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

    impl<T: TryFrom<u64>, const MIN: u64, const MAX: u64> Visitor<'_> for Within<T, MIN, MAX> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from {MIN} to {MAX}")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            Some(number)
                .filter(|number| (MIN..=MAX).contains(number))
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| E::custom(format!("`{number}` is not from {MIN} to {MAX}")))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            match u64::try_from(number) {
                Ok(number) => self.visit_u64(number),
                Err(_) => Err(E::custom(format!("`{number}` is not from {MIN} to {MAX}"))),
            }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            match text.parse() {
                Ok(number) => self.visit_u64(number),
                Err(_) => Err(E::custom(format!("must be a whole number from {MIN} to {MAX}"))),
            }
        }
    }

    deserializer.deserialize_any(Within::<T, MIN, MAX>(PhantomData))
}

/// `host:port` of one broker or of several, without the blanks around them.
pub(super) fn brokers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    match brokers.iter().find(|broker| !is_broker(broker)) {
        None => Ok(brokers.join(",")),
        Some(broker) => Err(D::Error::custom(format!(
            "`{broker}` is no broker: write `host:port`, several with commas between them"
        ))),
    }
}

fn is_broker(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_port && is_host
}

/// A name that Kafka takes for a topic.
pub(super) fn topic<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_name(&name) && name.len() <= 249 && name != "." && name != ".." {
        return Ok(name);
    }
    Err(D::Error::custom(
        "must be 1 to 249 letters, digits, `.`, `_` or `-`, as Kafka names topics",
    ))
}

/// A group of consumers.
pub(super) fn group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_name(&name) && name.len() <= 249 {
        return Ok(name);
    }
    Err(D::Error::custom("must be 1 to 249 letters, digits, `.`, `_` or `-`"))
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && text.bytes().all(fits)
}

/// For what is no secret: `file:path` and `env:NAME`, and a plain path, too.
pub(super) fn reference_or_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Reference>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text.contains('\n') {
        return Err(D::Error::custom(
            "must be a path, `file:path` or `env:NAME`, not the text itself",
        ));
    }
    Ok(Some(Reference::parse(&text).unwrap_or_else(|| Reference::file(text))))
}

/// An id that can stand in a path and in a log line.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=30).contains(&id.len()) && id.bytes().all(fits) {
        Ok(id)
    } else {
        Err(D::Error::custom("must be 1 to 30 letters, digits, `-` or `_`; Alipay's are 16 digits"))
    }
}

pub(super) fn at_least_one<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Reference>, D::Error> {
    let references = Vec::<Reference>::deserialize(deserializer)?;
    if references.is_empty() {
        return Err(D::Error::custom("lists no key; one at least is needed"));
    }
    Ok(references)
}

/// Decimal text below 1 with at most six places, as millionths: `0.006` is 6000.
pub(super) fn millionths<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    struct Rate;

    impl Visitor<'_> for Rate {
        type Value = Option<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a rate as decimal text in quotes, like \"0.006\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<u32>, E> {
            parse_millionths(text).map(Some).ok_or_else(|| {
                E::custom("must be a rate below 1 with at most six places, like \"0.006\"")
            })
        }
    }

    deserializer.deserialize_str(Rate)
}

fn parse_millionths(text: &str) -> Option<u32> {
    let places = match text.strip_prefix('0')? {
        "" => "0",
        rest => rest.strip_prefix('.')?,
    };
    let digits =
        (1..=6).contains(&places.len()) && places.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| format!("{places:0<6}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for text in ["kafka:9092", "10.0.0.1:1", "[::1]:9092", "b-1.kafka_x.example:65535"] {
            assert!(is_broker(text), "{text}");
        }
        for text in
            ["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "kafka:+1", "::1:9092"]
        {
            assert!(!is_broker(text), "{text}");
        }
        for text in ["SSL://kafka:9092", "kafka 1:9092", "[kafka]:9092", "kafka:9092/x"] {
            assert!(!is_broker(text), "{text}");
        }
    }

    #[test]
    fn a_rate_is_read_exactly_or_not_at_all() {
        for (text, millionths) in
            [("0.006", 6_000), ("0.0038", 3_800), ("0.000001", 1), ("0", 0), ("0.9", 900_000)]
        {
            assert_eq!(parse_millionths(text), Some(millionths), "{text}");
        }
        for text in
            ["", ".006", "0.", "1", "1.0", "-0.1", "0.0000001", "6e-3", "0.6%", "+0.1", "0.+1"]
        {
            assert_eq!(parse_millionths(text), None, "{text}");
        }
    }
}
