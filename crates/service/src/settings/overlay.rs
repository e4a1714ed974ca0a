//! The file and the variables laid over it become one tree before anything is read from it.
//!
//! The tree keeps where each value stands in the file. A variable's value is given a position behind
//! the file's end, one position for each variable, so that any later error leads back to the line or to the
//! variable it came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Settings, SettingsError, properties};

const PREFIX: &str = "SUANPAN__";

pub(super) fn read(
    text: &str,
    file: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let mut variables: Vec<Variable> = env.filter_map(Variable::of).collect();
    // Elements are added to an array in order.
    variables.sort_by(|a, b| a.order().cmp(b.order()));
    let origin = Origin { text, file, variables: &variables };

    let mut tree = DeTable::parse(text).map_err(|error| origin.explain(error))?;
    properties::flatten(tree.get_mut())
        .map_err(|(span, message)| origin.refuse(Some(span), message))?;
    for (number, variable) in variables.iter().enumerate() {
        let span = origin.span_of(number);
        variable
            .lay_over(tree.get_mut(), &span)
            .map_err(|message| SettingsError::Variable { name: variable.name.clone(), message })?;
    }
    nothing_of_other_versions(tree.get_ref(), &origin)?;
    no_app_twice(tree.get_ref(), &origin)?;
    let places = Places::of(tree.get_ref());
    let settings = Settings::deserialize(toml::Deserializer::from(tree))
        .map_err(|error| origin.explain(error))?;
    match settings.contradiction(|key| places.0.contains_key(key)) {
        None => Ok(settings),
        Some(Contradiction { key, message }) => {
            Err(origin.refuse(places.near(key), format!("{message} in `{key}`")))
        }
    }
}

/// Settings that are each allowed, but not together.
pub(super) struct Contradiction {
    /// `log.kafka.security`: where it is told.
    key: &'static str,
    message: String,
}

impl Contradiction {
    pub(super) fn at(key: &'static str, message: &str) -> Contradiction {
        Contradiction { key, message: message.to_owned() }
    }
}

/// Where every key that is not in a list stands, by its dotted name.
struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    fn of(tree: &DeTable<'_>) -> Places {
        let mut places = BTreeMap::new();
        let mut tables = vec![(String::new(), tree)];
        while let Some((prefix, table)) = tables.pop() {
            for (key, value) in table {
                let name = format!("{prefix}{}", key.get_ref());
                if let DeValue::Table(table) = value.get_ref() {
                    tables.push((format!("{name}."), table));
                }
                places.insert(name, key.span());
            }
        }
        Places(places)
    }

    /// The key's place, or that of the section that should hold it.
    fn near(&self, key: &str) -> Option<Range<usize>> {
        let holders =
            std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(of, _)| of));
        holders.filter_map(|key| self.0.get(key)).next().cloned()
    }
}

struct Variable {
    name: String,
    value: String,
    /// `app`, `0`, `seller_id`
    path: Vec<String>,
}

impl Variable {
    fn of((name, value): (String, String)) -> Option<Self> {
        let path = name.strip_prefix(PREFIX)?;
        let mut path: Vec<_> = path.split("__").map(str::to_ascii_lowercase).collect();
        if let [log, kafka, properties, names @ ..] = path.as_mut_slice()
            && (log.as_str(), kafka.as_str(), properties.as_str()) == ("log", "kafka", "properties")
        {
            // Most shells allow no `.` in a variable, and librdkafka's names have no `_`.
            names.iter_mut().for_each(|name| *name = name.replace('_', "."));
        }
        Some(Variable { name, value, path })
    }

    /// Numbers by size, so that the tenth element comes after the ninth.
    fn order(&self) -> impl Iterator<Item = (u32, &str)> {
        self.path.iter().map(|part| (part.parse().unwrap_or(0), part.as_str()))
    }

    fn lay_over<'v>(&'v self, tree: &mut DeTable<'v>, span: &Range<usize>) -> Result<(), String> {
        let value = if self.value.trim_start().starts_with('[') {
            let array =
                DeValue::parse(self.value.trim()).map_err(|error| error.message().to_owned())?;
            moved(array.into_inner(), span)
        } else {
            DeValue::String(self.value.as_str().into())
        };
        let (first, rest) = self.path.split_first().ok_or("names no key")?;
        put(in_table(tree, first, rest, span), rest, value, span)
    }
}

/// Where a value came from.
struct Origin<'a> {
    text: &'a str,
    file: &'a Path,
    variables: &'a [Variable],
}

impl Origin<'_> {
    fn span_of(&self, variable: usize) -> Range<usize> {
        let position = self.text.len().saturating_add(1).saturating_add(variable);
        position..position
    }

    fn explain(&self, mut error: toml::de::Error) -> SettingsError {
        // Without the input the error names the key and leaves out the line's text.
        error.set_input(None);
        let message = error.to_string().trim().replace("\nin `", " in `");
        self.refuse(error.span(), message)
    }

    fn refuse(&self, span: Option<Range<usize>>, message: String) -> SettingsError {
        let start = span.map_or(0, |span| span.start);
        let behind = start.checked_sub(self.text.len().saturating_add(1));
        match behind.and_then(|number| self.variables.get(number)) {
            Some(variable) => SettingsError::Variable { name: variable.name.clone(), message },
            None => {
                let before = self.text.get(..start).unwrap_or(self.text);
                let line = before.matches('\n').count().saturating_add(1);
                SettingsError::File { file: self.file.to_owned(), line, message }
            }
        }
    }
}

/// Documented names whose rooms are not built yet: refused with words instead of "unknown field".
fn nothing_of_other_versions(tree: &DeTable<'_>, origin: &Origin<'_>) -> Result<(), SettingsError> {
    let refuse = |table: &DeTable<'_>, key: &str, words: &str| match table.get_key_value(key) {
        Some((key, _)) => {
            Err(origin.refuse(Some(key.span()), format!("`{}`: {words}", key.get_ref())))
        }
        None => Ok(()),
    };
    for app in apps(tree) {
        for key in ["verification_certificates", "root_certificate", "app_certificate"] {
            refuse(app, key, "certificate mode is not in this version; give `verification_keys`")?;
        }
    }
    Ok(())
}

fn no_app_twice(tree: &DeTable<'_>, origin: &Origin<'_>) -> Result<(), SettingsError> {
    let mut seen = BTreeMap::new();
    for (number, app) in apps(tree).enumerate() {
        let Some(id) = app.get("id") else { continue };
        let DeValue::String(text) = id.get_ref() else { continue };
        if let Some(earlier) = seen.insert(text.as_ref(), number) {
            let nth = |number: usize| number.saturating_add(1);
            let message = format!(
                "app {} has the id `{text}` of app {}; an app is listed once, with all its keys",
                nth(number),
                nth(earlier)
            );
            return Err(origin.refuse(Some(id.span()), message));
        }
    }
    Ok(())
}

fn apps<'t, 'v>(tree: &'t DeTable<'v>) -> impl Iterator<Item = &'t DeTable<'v>> {
    let apps = tree.get("app").and_then(|apps| apps.get_ref().as_array());
    apps.into_iter().flat_map(|apps| apps.iter()).filter_map(|app| app.get_ref().as_table())
}

/// Puts `value` where `path` leads from `node`, making what is missing on the way.
fn put<'v>(
    node: &mut Spanned<DeValue<'v>>,
    path: &'v [String],
    value: DeValue<'v>,
    span: &Range<usize>,
) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        *node = Spanned::new(span.clone(), value);
        return Ok(());
    };
    let next = match node.get_mut() {
        DeValue::Table(table) => in_table(table, first, rest, span),
        DeValue::Array(array) => in_array(array, first, rest, span)?,
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            return Err(format!("there is nothing below a value, so no `{first}`"));
        }
    };
    put(next, rest, value, span)
}

fn in_table<'t, 'v>(
    table: &'t mut DeTable<'v>,
    key: &'v str,
    rest: &[String],
    span: &Range<usize>,
) -> &'t mut Spanned<DeValue<'v>> {
    table
        .entry(Spanned::new(span.clone(), key.into()))
        .or_insert_with(|| Spanned::new(span.clone(), room_for(rest)))
}

fn in_array<'t, 'v>(
    array: &'t mut DeArray<'v>,
    index: &str,
    rest: &[String],
    span: &Range<usize>,
) -> Result<&'t mut Spanned<DeValue<'v>>, String> {
    let length = array.len();
    let index: usize = index.parse().ok().filter(|index| *index <= length).ok_or_else(|| {
        format!("`{index}` must be a number from 0 to {length}: the place in the list")
    })?;
    if index == length {
        array.push(Spanned::new(span.clone(), room_for(rest)));
    }
    array.get_mut(index).ok_or_else(|| "the list is too long".to_owned())
}

/// What must stand where `rest` goes on: a list where it begins with a number.
fn room_for<'v>(rest: &[String]) -> DeValue<'v> {
    match rest.first() {
        Some(key) if key.parse::<usize>().is_ok() => DeValue::Array(DeArray::new()),
        Some(_) => DeValue::Table(DeTable::new()),
        None => DeValue::String("".into()),
    }
}

/// The same value, standing at `span` with all it holds.
fn moved<'v>(value: DeValue<'v>, span: &Range<usize>) -> DeValue<'v> {
    let here =
        |value: Spanned<DeValue<'v>>| Spanned::new(span.clone(), moved(value.into_inner(), span));
    match value {
        DeValue::Array(array) => {
            let mut copy = DeArray::new();
            array.into_iter().for_each(|element| copy.push(here(element)));
            DeValue::Array(copy)
        }
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), here(value)))
                .collect(),
        ),
        value @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => value,
    }
}
