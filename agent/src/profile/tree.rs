//! Text to a tree whose every node knows its place; the bounds of a document are kept here.
//!
//! YAML 1.2; JSON is a part of it. What would read differently elsewhere (tags, merge keys, several documents) is
//! refused, so that a profile means the same to every reader.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Diagnostic, Position};
use super::syntax::{Fatal, fatal, syntax, too_deep};
use super::text;

/// Deepest nesting of lists and mappings; a valid profile needs six.
pub const MAX_DEPTH: usize = 32;
/// Most values in a document, repetitions by aliases included.
pub const MAX_NODES: usize = 50_000;

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// Where it begins.
    pub(crate) at: Position,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A single value.
    Scalar {
        /// Its text without quotes.
        text: String,
        /// False: it stands in quotes or is a block, so it is text whatever it looks like.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the text; a key occurs once.
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name.
    pub(crate) key: String,
    /// Where the name begins.
    pub(crate) key_at: Position,
    /// Value.
    pub(crate) value: Node,
}

/// Reads one document. The tree is `None` if the text cannot be followed to its end; problems that leave the rest
/// readable, such as a key that occurs twice, are collected beside the tree.
pub(crate) fn read(bytes: &[u8]) -> (Option<Node>, Vec<Diagnostic>) {
    match text::checked(bytes).map_err(|problem| vec![*problem]).and_then(|text| Builder::default().run(text)) {
        Ok((root, problems)) => (Some(root), problems),
        Err(problems) => (None, problems),
    }
}

/// A list or mapping whose end has not been read yet.
struct Open {
    node: Node,
    anchor: usize,
    /// Mapping: the key whose value comes next.
    key: Option<(String, Position)>,
    /// Mapping: the keys so far, with the place of each.
    seen: BTreeMap<String, Position>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    problems: Vec<Diagnostic>,
}

impl Builder {
    fn run(mut self, text: &str) -> Result<(Node, Vec<Diagnostic>), Vec<Diagnostic>> {
        match self.read_events(text) {
            Ok(()) => {}
            Err(fatal) => {
                self.problems.push(*fatal);
                return Err(self.problems);
            }
        }
        match self.root {
            Some(root) => Ok((root, self.problems)),
            None => {
                let empty = Diagnostic::at(Position::START, "", "empty document")
                    .found("nothing")
                    .allowed("a mapping with apiVersion, kind, metadata and spec");
                self.problems.push(empty);
                Err(self.problems)
            }
        }
    }

    fn read_events(&mut self, text: &str) -> Result<(), Fatal> {
        let options = granit_parser::options! {
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut documents = 0_u32;
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| syntax(&error))?;
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    return Err(fatal(start(&span), "several documents", "a second document", "one document per file"));
                }
            }
            self.take(event, &span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fatal> {
        let at = start(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                self.count(1, at)?;
                let node =
                    Node { value: Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, at };
                self.place(node, anchor, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                self.push(Value::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), at)?;
                self.push(Value::Map(Vec::new()), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => {
                    let size = if done.anchor == 0 { 0 } else { size(&done.node) };
                    self.place(done.node, done.anchor, size)
                }
                None => Ok(()),
            },
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(fatal(
                        at,
                        "endless repetition",
                        "an alias inside the value that it repeats",
                        "finished values",
                    ));
                };
                let (size, mut copy) = (*size, None);
                if self.nodes.saturating_add(size) <= MAX_NODES {
                    copy = Some(Node { at, ..node.clone() });
                }
                self.count(size, at)?;
                copy.map_or(Ok(()), |node| self.place(node, 0, size))
            }
            _ => Ok(()),
        }
    }

    /// Begins a list or mapping.
    fn push(&mut self, value: Value, anchor: usize, at: Position) -> Result<(), Fatal> {
        self.count(1, at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        if self.open.last().is_some_and(|parent| matches!(parent.node.value, Value::Map(_)) && parent.key.is_none()) {
            return Err(fatal(at, "not a key", "a list or mapping", "text in front of the colon"));
        }
        self.open.push(Open { node: Node { value, at }, anchor, key: None, seen: BTreeMap::new() });
        Ok(())
    }

    /// Counts values against the bound, before memory is taken for them.
    fn count(&mut self, more: usize, at: Position) -> Result<(), Fatal> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(fatal(
                at,
                "too many values",
                &format!("more than {MAX_NODES}, repetitions by aliases included"),
                &format!("at most {MAX_NODES}"),
            ));
        }
        Ok(())
    }

    /// The field whose value comes next, for instance `spec.sysctls`.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match (&open.node.value, &open.key) {
                (Value::Map(_), Some((key, _))) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                (Value::List(items), _) => path.push_str(&format!("[{}]", items.len())),
                _ => {}
            }
        }
        path
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fatal> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let duplicate = self
            .open
            .last()
            .is_some_and(|parent| parent.key.as_ref().is_some_and(|(key, _)| parent.seen.contains_key(key)));
        let path = if duplicate { self.path() } else { String::new() };
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Map(entries), Some((key, key_at))) => {
                if let Some(first) = parent.seen.get(&key) {
                    let again = Diagnostic::at(key_at, path, "duplicate key")
                        .found(format!("{key:?} again, first in line {}", first.line))
                        .allowed("each key once");
                    self.problems.push(again);
                } else {
                    parent.seen.insert(key.clone(), key_at);
                    entries.push(Entry { key, key_at, value: node });
                }
            }
            (Value::Map(_), None) => parent.key = Some((key_text(&node)?, node.at)),
            (Value::List(items), _) => items.push(node),
            (Value::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

/// The name in front of a colon.
fn key_text(node: &Node) -> Result<String, Fatal> {
    match &node.value {
        Value::Scalar { text, plain: true } if text == "<<" => {
            Err(fatal(node.at, "merge key", "\"<<\"", "aliases as values, but no merge keys"))
        }
        Value::Scalar { text, plain: true } if text.is_empty() => {
            Err(fatal(node.at, "not a key", "nothing", "text in front of the colon"))
        }
        Value::Scalar { text, .. } => Ok(text.clone()),
        Value::List(_) | Value::Map(_) => {
            Err(fatal(node.at, "not a key", "a list or mapping", "text in front of the colon"))
        }
    }
}

/// Number of values below and including a node.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
    }
}

fn refuse_tag(tagged: bool, at: Position) -> Result<(), Fatal> {
    if tagged {
        return Err(fatal(at, "tag", "a value with a tag such as !!str", "values without tags; quotes make text"));
    }
    Ok(())
}

fn start(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}
