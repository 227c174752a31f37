//! Bytes to a tree of plain values: JSON if the first character is `{`, else YAML.

use super::{json, yaml};

/// Largest file, in bytes (what Kubernetes allows in a ConfigMap).
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A value as JSON knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it stands in JSON.
    Number(String),
    Text(String),
    List(Vec<Self>),
    /// In the order in which the keys take effect; a later one wins.
    Map(Vec<(String, Self)>),
}

impl Value {
    /// Go's name for the kind of value, as its messages have it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }
}

/// Why a text gives no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// As YAML.
    Yaml(String),
    /// As JSON.
    Json(String),
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Unreadable> {
    if bytes.len() > MAX_BYTES {
        return Err(Unreadable::Yaml(format!("the file has {} bytes, more than {MAX_BYTES}", bytes.len())));
    }
    // Go's decoder of JSON replaces bytes that are no UTF-8; the character then fails where it matters.
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start().starts_with('{') {
        return json::read(&text).map_err(Unreadable::Json);
    }
    yaml::read(bytes).map_err(Unreadable::Yaml)
}
