//! The AsyncAPI document, and what it says of a message.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Draft, Validator};
use payment::{Business, Kind, Topic};
use serde_json::{Value, json};
use stream::TopicNames;

pub(super) struct Document {
    whole: Value,
    /// The messages, by their CloudEvents type.
    messages: BTreeMap<String, Value>,
}

/// Which part of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Headers,
    Payload,
}

impl Document {
    pub(super) fn read() -> Document {
        let text = include_str!("../../deploy/asyncapi.yaml");
        let whole: Value = serde_saphyr::from_str(text).unwrap();
        let messages = whole["components"]["messages"].as_object().unwrap().values();
        let messages =
            messages.map(|message| (string(&message["name"]), message.clone())).collect();
        Document { whole, messages }
    }

    /// Every CloudEvents type that it describes.
    pub(super) fn kinds(&self) -> BTreeSet<String> {
        self.messages.keys().cloned().collect()
    }

    pub(super) fn content_type(&self, kind: &str) -> &str {
        self.messages[kind]["contentType"].as_str().unwrap()
    }

    /// Checks against the schema of that part of the messages of this type.
    pub(super) fn validator(&self, kind: &str, part: Part) -> Validator {
        self.validator_of(self.schema(kind, part))
    }

    /// Checks against a schema of the document.
    pub(super) fn validator_of(&self, schema: &Value) -> Validator {
        let mut root = self.whole.clone();
        // It finds the schemas that it refers to in the document, as its own.
        root.as_object_mut().unwrap().remove("id");
        root["allOf"] = json!([schema]);
        jsonschema::options()
            .with_draft(Draft::Draft7)
            .should_validate_formats(true)
            .build(&root)
            .unwrap()
    }

    pub(super) fn schema_named(&self, name: &str) -> &Value {
        &self.whole["components"]["schemas"][name]
    }

    /// The fields that the part may have.
    pub(super) fn fields(&self, kind: &str, part: Part) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        self.collect_fields(self.schema(kind, part), &mut fields);
        fields
    }

    fn collect_fields(&self, schema: &Value, fields: &mut BTreeSet<String>) {
        if let Some(target) = schema["$ref"].as_str() {
            let target = self.whole.pointer(target.strip_prefix('#').unwrap()).unwrap();
            self.collect_fields(target, fields);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.collect_fields(part, fields);
        }
        fields.extend(
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()),
        );
    }

    fn schema(&self, kind: &str, part: Part) -> &Value {
        let message = self.messages.get(kind);
        let message = message.unwrap_or_else(|| panic!("`{kind}` is not in the document"));
        match part {
            Part::Headers => &message["headers"],
            Part::Payload => &message["payload"],
        }
    }
}

/// Panics with what is wrong, and in what.
#[track_caller]
pub(super) fn assert_valid(validator: &Validator, value: &Value) {
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\nin {value:#}");
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn strings(values: &Value) -> BTreeSet<String> {
    values.as_array().unwrap().iter().map(string).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_document_names_what_the_code_names() {
    let document = Document::read();
    assert_eq!(document.kinds(), names(Kind::ALL.map(Kind::as_str)));

    let channels = document.whole["channels"].as_object().unwrap();
    let addresses: BTreeSet<String> =
        channels.values().map(|channel| string(&channel["address"])).collect();
    let topics = TopicNames::default();
    assert_eq!(addresses, names(Topic::ALL.map(|topic| topics.of(topic))));

    let schema = |name| document.schema_named(name);
    let record = &schema("LogRecord")["properties"];
    assert_eq!(strings(&record["topic"]["enum"]), names(Topic::ALL.map(Topic::as_str)));
    let sources = payment::Source::ALL.map(payment::Source::as_str);
    assert_eq!(strings(&record["source"]["enum"]), names(sources));
    let kinds = reconciliation::Kind::ALL.map(reconciliation::Kind::as_str);
    assert_eq!(strings(&schema("Difference")["properties"]["kind"]["enum"]), names(kinds));
    let businesses = [Business::Payment, Business::Refund].map(Business::as_str);
    assert_eq!(strings(&schema("Business")["enum"]), names(businesses));
}

#[test]
fn a_message_is_described_in_the_channel_in_which_it_is_sent() {
    let document = Document::read();
    let kinds = |channel: &str| -> BTreeSet<String> {
        let messages = &document.whole["channels"][channel]["messages"];
        let references = messages.as_object().unwrap().values();
        references
            .map(|reference| {
                let target = reference["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
                string(&document.whole.pointer(target).unwrap()["name"])
            })
            .collect()
    };
    let types = &document.schema_named("LedgerEventHeaders")["properties"]["ce_type"]["enum"];
    assert_eq!(kinds("ledgerEvents"), strings(types));
    assert_eq!(kinds("notifications"), names([Kind::NotificationReceived.as_str()]));
    assert_eq!(kinds("quarantine"), names([Kind::NotificationQuarantined.as_str()]));
    assert_eq!(kinds("deadLetters"), names([Kind::MessageDead.as_str()]));
}

#[test]
fn the_documents_own_examples_are_as_it_says() {
    let document = Document::read();
    let mut seen = 0;
    for (kind, message) in &document.messages {
        for example in message["examples"].as_array().into_iter().flatten() {
            assert_valid(&document.validator(kind, Part::Payload), &example["payload"]);
            if let Some(headers) = example.get("headers") {
                assert_valid(&document.validator(kind, Part::Headers), headers);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 7, "one of each event of the ledger");
}
