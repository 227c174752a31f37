//! TOML as JSON values, which merge in one way for all.

use serde_json::{Map, Value as Json};
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Parses a text; the error is one line.
pub(super) fn parse(text: &str) -> Result<Map<String, Json>, String> {
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        format!("{line}: {}", error.message())
    })?;
    Ok(table(document.as_table()))
}

fn table(table: &dyn TableLike) -> Map<String, Json> {
    table.iter().filter_map(|(key, item)| Some((key.to_owned(), json(item)?))).collect()
}

fn json(item: &Item) -> Option<Json> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(scalar(value)),
        Item::Table(inner) => Some(Json::Object(table(inner))),
        Item::ArrayOfTables(tables) => Some(tables.iter().map(|inner| Json::Object(table(inner))).collect()),
    }
}

fn scalar(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.value().as_str()),
        Value::Integer(number) => Json::from(*number.value()),
        Value::Float(number) => Json::from(*number.value()),
        Value::Boolean(state) => Json::from(*state.value()),
        Value::Datetime(time) => Json::from(time.value().to_string()),
        Value::Array(items) => items.iter().map(scalar).collect(),
        Value::InlineTable(inner) => Json::Object(table(inner)),
    }
}

/// Lays `patch` over `target`: tables by key, everything else replaces.
pub(super) fn merge(target: &mut Map<String, Json>, patch: Map<String, Json>) {
    for (key, value) in patch {
        match (target.get_mut(&key), value) {
            (Some(Json::Object(old)), Json::Object(new)) => merge(old, new),
            (_, value) => {
                target.insert(key, value);
            }
        }
    }
}

/// The value below a path of keys.
pub(super) fn at<'a>(root: &'a Map<String, Json>, path: &[&str]) -> Option<&'a Json> {
    let (last, tables) = path.split_last()?;
    let mut current = root;
    for key in tables {
        current = current.get(*key)?.as_object()?;
    }
    current.get(*last)
}
