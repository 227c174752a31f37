//! From JSON to the fields of a layout, as Go's decoder does it: unknown fields are ignored, names match without
//! regard to case, the last of several wins, `null` changes nothing or empties, and the first wrong type is remembered
//! while the rest is still read.

use std::collections::BTreeMap;

use super::CheckpointError;
use super::json::Json;

/// A type of Go, as its errors name it.
pub(super) type GoType = &'static str;

/// Where the decoder is, and the first wrong type it met.
#[derive(Default)]
pub(super) struct Decoder {
    structure: Option<&'static str>,
    path: Vec<&'static str>,
    error: Option<String>,
}

impl Decoder {
    /// Notes a value of a wrong type.
    pub(super) fn mismatch(&mut self, value: &Json, go_type: GoType) {
        let shown = match value {
            Json::Null => return,
            Json::Bool => "bool",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        };
        self.note(shown, go_type);
    }

    fn note(&mut self, shown: &str, go_type: GoType) {
        let place = match self.structure {
            Some(structure) => format!("Go struct field {structure}.{}", self.path.join(".")),
            None => "Go value".to_owned(),
        };
        let text = format!("json: cannot unmarshal {shown} into {place} of type {go_type}");
        self.error.get_or_insert(text);
    }

    /// Reads the fields of a structure: `set` gets each known field in the order of the text.
    pub(super) fn structure(
        &mut self,
        value: &Json,
        (name, go_type): (&'static str, GoType),
        fields: &[&'static str],
        mut set: impl FnMut(&mut Self, &'static str, &Json),
    ) {
        let Json::Object(pairs) = value else { return self.mismatch(value, go_type) };
        for (key, value) in pairs {
            let exact = fields.iter().find(|f| *f == key);
            let Some(field) = exact.or_else(|| fields.iter().find(|f| folded_equal(f, key))) else { continue };
            let outer = self.structure.replace(name);
            self.path.push(field);
            set(self, field, value);
            self.path.pop();
            self.structure = outer;
        }
    }

    /// Reads a text; `null` changes nothing.
    pub(super) fn string(&mut self, value: &Json, go_type: GoType, target: &mut String) {
        match value {
            Json::String(text) => target.clone_from(text),
            other => self.mismatch(other, go_type),
        }
    }

    /// Reads an integer; `null` changes nothing.
    pub(super) fn integer<N: std::str::FromStr>(&mut self, value: &Json, go_type: GoType, target: &mut N) {
        match value {
            Json::Number(text) => match text.parse() {
                // Rust reads a leading plus, which JSON has not, and no exponent, as Go.
                Ok(number) => *target = number,
                Err(_) => self.note(&format!("number {text}"), go_type),
            },
            other => self.mismatch(other, go_type),
        }
    }

    /// Reads an object into a map; a second one adds to it, `null` drops it.
    pub(super) fn map<K: Ord, V>(
        &mut self,
        value: &Json,
        go_type: GoType,
        target: &mut Option<BTreeMap<K, V>>,
        mut entry: impl FnMut(&mut Self, &str, &Json) -> Option<(K, V)>,
    ) {
        match value {
            Json::Null => *target = None,
            Json::Object(pairs) => {
                let map = target.get_or_insert_with(BTreeMap::new);
                for (key, value) in pairs {
                    if let Some((key, value)) = entry(self, key, value) {
                        map.insert(key, value);
                    }
                }
            }
            other => self.mismatch(other, go_type),
        }
    }

    /// Reads an array; `null` drops it.
    pub(super) fn list<T>(
        &mut self,
        value: &Json,
        go_type: GoType,
        target: &mut Option<Vec<T>>,
        mut item: impl FnMut(&mut Self, &Json) -> T,
    ) {
        match value {
            Json::Null => *target = None,
            Json::Array(items) => *target = Some(items.iter().map(|i| item(self, i)).collect()),
            other => self.mismatch(other, go_type),
        }
    }

    /// Reads the key of a map with integer keys.
    pub(super) fn integer_key(&mut self, key: &str) -> Option<i64> {
        let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
        let number = if digits.starts_with(['+', '-']) { None } else { key.parse().ok() };
        if number.is_none() {
            self.note(&format!("number {key}"), "int");
        }
        number
    }

    /// The first wrong type, if there was one.
    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        self.error.map_or(Ok(()), |text| Err(CheckpointError::Type(text)))
    }
}

/// Equal without regard to case; Go also folds the long s and the Kelvin sign to the letters they stand for.
fn folded_equal(a: &str, b: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    a.chars().map(fold).eq(b.chars().map(fold))
}
