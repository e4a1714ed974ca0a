//! `[log.kafka.properties]`: handed to librdkafka as they are, but for those that are not the operator's to set.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The values of a table that was [flattened](flatten).
pub(super) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Properties;

    impl<'de> Visitor<'de> for Properties {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of librdkafka's properties")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut properties = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let value = map.next_value_seed(Property { name: &name })?;
                properties.insert(name, value);
            }
            Ok(properties)
        }
    }

    deserializer.deserialize_map(Properties)
}

/// Makes one of the two ways to write a property: TOML takes `socket.keepalive.enable = true` for tables within
/// tables, and `"socket.keepalive.enable" = true` for one name.
///
/// # Errors
/// Where a property is written in both ways.
pub(super) fn flatten(tree: &mut DeTable<'_>) -> Result<(), (Range<usize>, String)> {
    let Some(properties) = properties(tree) else { return Ok(()) };
    let mut flat = DeTable::new();
    let mut tables = vec![(String::new(), std::mem::take(properties))];
    while let Some((prefix, table)) = tables.pop() {
        for (key, value) in table {
            let (name, span) = (format!("{prefix}{}", key.get_ref()), key.span());
            let (place, value) = (value.span(), value.into_inner());
            if let DeValue::Table(table) = value {
                tables.push((format!("{name}."), table));
                continue;
            }
            if let Some((other, _)) = flat.get_key_value(name.as_str()) {
                let later = if other.span().start > span.start { other.span() } else { span };
                return Err((later, format!("`{name}` is given twice in `log.kafka.properties`")));
            }
            flat.insert(Spanned::new(span, name.into()), Spanned::new(place, value));
        }
    }
    *properties = flat;
    Ok(())
}

fn properties<'t, 'v>(tree: &'t mut DeTable<'v>) -> Option<&'t mut DeTable<'v>> {
    ["log", "kafka", "properties"].into_iter().try_fold(tree, |table, key| {
        match table.get_mut(key)?.get_mut() {
            DeValue::Table(table) => Some(table),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => None,
        }
    })
}

/// Why a property is not the operator's to set, if it is not.
fn refusal(name: &str) -> Option<&'static str> {
    let why = match name {
        "acks" | "request.required.acks" => {
            "`success` promises that all replicas in sync have the message: it is always `all`"
        }
        "enable.idempotence" => "what is appended must not repeat or change order: it is always on",
        "enable.auto.commit" | "auto.commit.enable" | "enable.auto.offset.store" => {
            "the ledger holds the positions; the group is told of them after the ledger's commit"
        }
        "auto.offset.reset" => "reading goes on from the ledger's positions, never from a guess",
        "partition.assignment.strategy"
        | "group.protocol"
        | "group.remote.assignor"
        | "group.instance.id" => {
            "how partitions change hands is part of applying every message once"
        }
        "partitioner" => "one order's messages must stay in one partition, in their order",
        "transactional.id" => "appends are acknowledged one by one, not by transactions",
        "delivery.report.only.error" => "without a report nobody could be answered `success`",
        "test.mock.num.brokers" => "messages would be kept in this process's memory",
        "plugin.library.paths" => "no foreign code is loaded into this process",
        "message.timeout.ms" | "delivery.timeout.ms" => {
            "has a setting of its own: `[ingress] append_timeout_ms`"
        }
        "group.id" => "has a setting of its own: `[log.kafka] group`",
        "bootstrap.servers" | "metadata.broker.list" => {
            "has a setting of its own: `[log.kafka] brokers`"
        }
        "security.protocol" => "has a setting of its own: `[log.kafka] security`",
        "sasl.mechanism" | "sasl.mechanisms" => {
            "has a setting of its own: `[log.kafka] sasl_mechanism`"
        }
        "sasl.username" => "has a setting of its own: `[log.kafka] username`",
        "sasl.password" => "is a secret, and secrets are references: `[log.kafka] password`",
        "ssl.key.password" => "is a secret, and secrets are references: `[log.kafka] key_password`",
        "ssl.key.pem" => "is a secret, and secrets are references: `[log.kafka] key`",
        "ssl.ca.pem" => "has a setting of its own: `[log.kafka] ca`",
        "ssl.certificate.pem" => "has a setting of its own: `[log.kafka] certificate`",
        "ssl.keystore.password"
        | "sasl.oauthbearer.config"
        | "sasl.oauthbearer.client.secret"
        | "sasl.oauthbearer.assertion.private.key.pem"
        | "sasl.oauthbearer.assertion.private.key.passphrase" => {
            "is a secret, and no secret is written into the settings"
        }
        _ => return None,
    };
    Some(why)
}

/// The value of this property, as text.
struct Property<'a> {
    name: &'a str,
}

impl Property<'_> {
    fn check<E: Error>(&self, text: String) -> Result<String, E> {
        let name = self.name;
        if let Some(why) = refusal(name) {
            return Err(E::custom(format!("`{name}` cannot be set here: {why}")));
        }
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.';
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(E::custom(format!("`{name}` is no name of a librdkafka property")));
        }
        if text.contains('\0') {
            return Err(E::custom("holds a zero byte"));
        }
        Ok(text)
    }
}

impl<'de> DeserializeSeed<'de> for Property<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Property<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number, true or false")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        self.check(text.to_owned())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        self.check(number.to_string())
    }

    fn visit_bool<E: Error>(self, is: bool) -> Result<String, E> {
        self.check(is.to_string())
    }
}
