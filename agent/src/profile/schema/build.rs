//! Pieces of an OpenAPI v3 schema that is structural, as CustomResourceDefinitions ask.

use serde_json::{Map, Value, json};

/// A piece, being built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schema(Map<String, Value>);

impl Schema {
    fn of(kind: &str, description: &str) -> Self {
        let mut map = Map::new();
        map.insert("description".into(), description.into());
        map.insert("type".into(), kind.into());
        Self(map)
    }

    /// A mapping with fixed fields; none yet.
    pub(crate) fn object(description: &str) -> Self {
        Self::of("object", description)
    }

    /// Text.
    pub(crate) fn text(description: &str) -> Self {
        Self::of("string", description)
    }

    /// One of a few words.
    pub(crate) fn choice(description: &str, words: &[&str]) -> Self {
        Self::of("string", description).with("enum", json!(words))
    }

    /// A truth value.
    pub(crate) fn boolean(description: &str) -> Self {
        Self::of("boolean", description)
    }

    /// A whole number.
    pub(crate) fn integer(description: &str, least: u64, most: u64) -> Self {
        let number = Self::of("integer", description).with("minimum", json!(least)).with("maximum", json!(most));
        if most > u64::from(u32::MAX >> 1) { number.with("format", json!("int64")) } else { number }
    }

    /// A list.
    pub(crate) fn list(description: &str, items: Self) -> Self {
        Self::of("array", description).with("items", items.into_value())
    }

    /// A mapping with keys of the user's choice.
    pub(crate) fn map(description: &str, values: Self) -> Self {
        Self::of("object", description).with("additionalProperties", values.into_value())
    }

    /// An amount: a whole number or text.
    pub(crate) fn amount(description: &str) -> Self {
        let mut map = Map::new();
        map.insert("description".into(), description.into());
        map.insert("x-kubernetes-int-or-string".into(), true.into());
        Self(map)
    }

    /// Anything; the agent's reader judges alone.
    pub(crate) fn anything(description: &str) -> Self {
        let mut map = Map::new();
        map.insert("description".into(), description.into());
        map.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        Self(map)
    }

    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, field: Self) -> Self {
        let properties = self.0.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert(name.to_owned(), field.into_value());
        }
        self
    }

    /// Says that fields must be there.
    pub(crate) fn required(self, names: &[&str]) -> Self {
        self.with("required", json!(names))
    }

    /// What an absent value means, written into the object by the API server.
    pub(crate) fn default(self, value: impl Into<Value>) -> Self {
        self.with("default", value.into())
    }

    /// Most bytes of a text.
    pub(crate) fn max_length(self, most: u32) -> Self {
        self.with("maxLength", json!(most))
    }

    /// Most items of a list.
    pub(crate) fn max_items(self, most: u32) -> Self {
        self.with("maxItems", json!(most))
    }

    /// Most entries of a mapping.
    pub(crate) fn max_entries(self, most: u32) -> Self {
        self.with("maxProperties", json!(most))
    }

    /// Form of a text (RE2).
    pub(crate) fn pattern(self, pattern: &str) -> Self {
        self.with("pattern", json!(pattern))
    }

    /// A rule in CEL that must hold, with what is said if it does not.
    pub(crate) fn rule(mut self, rule: &str, message: &str) -> Self {
        let rules = self.0.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        if let Some(rules) = rules.as_array_mut() {
            rules.push(json!({"rule": rule, "message": message}));
        }
        self
    }

    /// Any other keyword.
    pub(crate) fn with(mut self, keyword: &str, value: Value) -> Self {
        self.0.insert(keyword.to_owned(), value);
        self
    }

    /// A piece that is built already.
    pub(crate) fn from_value(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            _ => Self(Map::new()),
        }
    }

    /// The schema as JSON.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}
