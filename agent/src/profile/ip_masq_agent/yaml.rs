//! YAML 1.1 as Go's yaml.v2 reads it and writes it again as JSON: old booleans, merge keys, tags, the first document
//! alone, keys sorted.

mod scalar;

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::value::Value;

/// Deepest nesting; a sensible file needs two.
const MAX_DEPTH: usize = 64;
/// Most values, repetitions by aliases included.
const MAX_NODES: usize = 200_000;

/// Reads the first document.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let text = decode(bytes)?;
    if let Some(bad) = text.chars().find(|c| !is_printable(*c)) {
        return Err(format!("yaml: control characters are not allowed (U+{:04X})", u32::from(bad)));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader::default();
    for next in Parser::new_from_str_with_options(&text, options) {
        let (event, span) = next.map_err(|error| format!("yaml: line {}: {}", error.marker().line(), error.kind()))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        reader.take(event).map_err(|error| format!("yaml: line {}: {error}", span.start.line()))?;
    }
    Ok(reader.root.unwrap_or(Value::Null))
}

/// UTF-8 or UTF-16 by the byte order mark.
fn decode(bytes: &[u8]) -> Result<String, String> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.as_chunks().0.iter().map(|pair| unit(*pair)).collect();
        let whole = rest.len().is_multiple_of(2);
        String::from_utf16(&units).ok().filter(|_| whole).ok_or_else(|| "yaml: invalid UTF-16".to_owned())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => {
            String::from_utf8(rest.to_vec()).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())
        }
    }
}

/// The characters that yaml.v2's reader lets in (`readerc.go`).
const fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// A list or mapping whose end has not been read yet.
struct Open {
    value: Collection,
    anchor: usize,
}

enum Collection {
    List(Vec<Value>),
    /// Keys so far, and the key whose value comes next.
    Map(BTreeMap<String, Value>, Option<Key>),
}

enum Key {
    Name(String),
    Merge,
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    root: Option<Value>,
    anchors: BTreeMap<usize, (Value, usize)>,
    nodes: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let is_merge = plain && text == "<<" && tag.as_ref().is_none_or(|tag| suffix(tag) == Some("merge"));
                if is_merge && let Some(Open { value: Collection::Map(_, key @ None), .. }) = self.open.last_mut() {
                    *key = Some(Key::Merge);
                    return Ok(());
                }
                let value = match &tag {
                    None if plain => scalar::resolve(&text),
                    None => Value::Text(text.into_owned()),
                    Some(tag) => scalar::tagged(&text, suffix(tag))?,
                };
                self.place(value, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.push(Collection::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.push(Collection::Map(BTreeMap::new(), None), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { value: Collection::List(items), anchor }) => self.place(Value::List(items), anchor, 1),
                Some(Open { value: Collection::Map(entries, _), anchor }) => {
                    self.place(Value::Map(entries.into_iter().collect()), anchor, 1)
                }
                None => Ok(()),
            },
            Event::Alias(id) => {
                let (value, size) = self.anchors.get(&id).ok_or("an anchor contains itself")?;
                let size = *size;
                if self.nodes.saturating_add(size) > MAX_NODES {
                    return Err("document contains excessive aliasing".to_owned());
                }
                let value = value.clone();
                self.place(value, 0, size)
            }
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                Err("found incompatible YAML document".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn push(&mut self, value: Collection, anchor: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} levels"));
        }
        self.open.push(Open { value, anchor });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, value: Value, anchor: usize, size: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(size);
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), count(&value)));
        }
        match self.open.last_mut().map(|open| &mut open.value) {
            None => self.root = Some(value),
            Some(Collection::List(items)) => items.push(value),
            Some(Collection::Map(entries, key)) => match key.take() {
                None => *key = Some(Key::Name(scalar::key(value)?)),
                Some(Key::Name(name)) => {
                    entries.insert(name, value);
                }
                Some(Key::Merge) => merge(entries, value)?,
            },
        }
        Ok(())
    }
}

/// A mapping, or several of which the earlier go before the later; what stands behind it goes before both.
fn merge(entries: &mut BTreeMap<String, Value>, value: Value) -> Result<(), String> {
    let maps = match value {
        Value::List(maps) => maps,
        other => vec![other],
    };
    for map in maps.into_iter().rev() {
        let Value::Map(more) = map else {
            return Err("map merge requires map or sequence of maps as the value".to_owned());
        };
        entries.extend(more);
    }
    Ok(())
}

fn count(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| 1 + count(value)).sum::<usize>(),
        _ => 1,
    }
}

/// The name of one of YAML's own tags.
fn suffix(tag: &Tag) -> Option<&str> {
    (tag.handle() == "tag:yaml.org,2002:").then(|| tag.suffix())
}
