//! Typed reading of a located tree: each step names what it wants, and what does not fit becomes a diagnostic.
//!
//! A reader never stops at the first problem; it yields `None` for what it cannot use and goes on.

use super::diagnostic::{Diagnostic, Position};
use super::scalar::{self, Kind};
use super::tree::{Node, Value};

/// Collects what is wrong, and what a person should know although nothing is.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// Reasons to refuse the profile.
    pub(crate) errors: Vec<Diagnostic>,
    /// How many reasons were found after [`MAX_ERRORS`].
    pub(crate) more: usize,
    /// Accepted, but probably not what was meant.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Problems that are told one by one; nobody reads more, and a report has to fit somewhere.
pub(crate) const MAX_ERRORS: usize = 100;

impl Problems {
    /// Adds a reason to refuse the profile.
    pub(crate) fn refuse(&mut self, diagnostic: Diagnostic) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, diagnostic: Diagnostic) {
        self.warnings.push(diagnostic);
    }
}

/// A value and its path in the document.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    node: &'a Node,
    path: String,
}

/// One entry of a mapping whose keys are chosen by the user.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    /// The key.
    pub(crate) key: &'a str,
    /// Where the key begins.
    pub(crate) key_at: Position,
    /// The value.
    pub(crate) value: Cursor<'a>,
}

/// A mapping with a fixed set of fields.
#[derive(Debug, Clone)]
pub(crate) struct Object<'a> {
    fields: Vec<Item<'a>>,
    at: Position,
    path: String,
}

impl<'a> Object<'a> {
    /// A field; `None` if it is absent.
    pub(crate) fn field(&self, name: &str) -> Option<Cursor<'a>> {
        self.fields.iter().find(|item| item.key == name).map(|item| item.value.clone())
    }

    /// A field that must be there.
    pub(crate) fn required(&self, name: &str, allowed: &str, problems: &mut Problems) -> Option<Cursor<'a>> {
        let field = self.field(name);
        if field.is_none() {
            let path = join(&self.path, name);
            problems.refuse(Diagnostic::at(self.at, path, "required field").found("nothing").allowed(allowed));
        }
        field
    }

    /// Path of one of its fields, present or not.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Where the field's value begins; where the object begins if the field is absent.
    pub(crate) fn position_of(&self, name: &str) -> Position {
        self.field(name).map_or(self.at, |cursor| cursor.at())
    }
}

impl<'a> Cursor<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// Where the value begins.
    pub(crate) fn at(&self) -> Position {
        self.node.at
    }

    /// Path of the value.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A diagnostic about this value, with what was found.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.at(), &self.path, message).found(self.describe())
    }

    /// What kind of single value this is; `None` for lists and mappings.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some(scalar::kind(text, *plain)),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The text of a single value as it was written; empty for lists and mappings.
    pub(crate) fn raw(&self) -> &'a str {
        match &self.node.value {
            Value::Scalar { text, .. } => text,
            Value::List(_) | Value::Map(_) => "",
        }
    }

    /// True if the value stands without quotes.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.node.value, Value::Scalar { plain: true, .. })
    }

    /// True for a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// The value in words, shortened.
    pub(crate) fn describe(&self) -> String {
        match (&self.node.value, self.kind()) {
            (Value::List(items), _) => format!("a list of {}", items.len()),
            (Value::Map(entries), _) => format!("a mapping of {}", entries.len()),
            (_, Some(Kind::Null)) => "null".to_owned(),
            (_, Some(Kind::Boolean(_) | Kind::Integer | Kind::OtherNumber)) => short(self.raw()),
            _ => format!("{:?}", short(self.raw())),
        }
    }

    fn wrong_type(&self, allowed: &str, problems: &mut Problems) {
        let mut problem = self.problem("wrong type").allowed(allowed);
        let optional = self.path.contains('.') && !self.path.ends_with(']');
        if self.kind() == Some(Kind::Null) && optional {
            problem = problem.hint("leave the field out if it is not wanted");
        }
        problems.refuse(problem);
    }

    /// A mapping with these fields and no others.
    pub(crate) fn object(&self, known: &[&str], problems: &mut Problems) -> Option<Object<'a>> {
        let fields = self.mapping(&format!("a mapping with {}", known.join(", ")), problems)?;
        for item in &fields {
            if !known.contains(&item.key) {
                let unknown = Diagnostic::at(item.key_at, item.value.path(), "unknown field")
                    .found(format!("{:?}", short(item.key)))
                    .allowed(known.join(", "));
                problems.refuse(if problems.errors.len() < MAX_ERRORS {
                    unknown.suggest(item.key, known.iter().copied())
                } else {
                    unknown
                });
            }
        }
        Some(Object { fields, at: self.at(), path: self.path.clone() })
    }

    /// A mapping with keys of the user's choice, in the order of the text.
    pub(crate) fn mapping(&self, allowed: &str, problems: &mut Problems) -> Option<Vec<Item<'a>>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_type(allowed, problems);
            return None;
        };
        let item = |entry: &'a super::tree::Entry| Item {
            key: &entry.key,
            key_at: entry.key_at,
            value: Self { node: &entry.value, path: join(&self.path, &entry.key) },
        };
        Some(entries.iter().map(item).collect())
    }

    /// A list.
    pub(crate) fn list(&self, allowed: &str, problems: &mut Problems) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else {
            self.wrong_type(allowed, problems);
            return None;
        };
        let numbered = items.iter().enumerate();
        Some(numbered.map(|(index, node)| Self { node, path: format!("{}[{index}]", self.path) }).collect())
    }

    /// Text; numbers and truth values need quotes.
    pub(crate) fn text(&self, allowed: &str, problems: &mut Problems) -> Option<&'a str> {
        match self.kind() {
            Some(Kind::Text) => Some(self.raw()),
            Some(Kind::Boolean(_) | Kind::Integer | Kind::OtherNumber) => {
                let quoted = format!("write it in quotes: {:?}", short(self.raw()));
                problems.refuse(self.problem("wrong type").allowed(allowed).hint(quoted));
                None
            }
            Some(Kind::Null) | None => {
                self.wrong_type(allowed, problems);
                None
            }
        }
    }

    /// Text that stands for an amount; a number without quotes will do, as it does in Kubernetes.
    pub(crate) fn quantity_text(&self, allowed: &str, problems: &mut Problems) -> Option<&'a str> {
        match self.kind() {
            Some(Kind::Text | Kind::Integer | Kind::OtherNumber) => Some(self.raw()),
            _ => {
                self.wrong_type(allowed, problems);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        match self.kind() {
            Some(Kind::Boolean(value)) => Some(value),
            Some(Kind::Text) if ["true", "false"].contains(&self.raw()) => {
                problems.refuse(self.problem("wrong type").allowed("true or false").hint("without quotes"));
                None
            }
            _ => {
                self.wrong_type("true or false", problems);
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn integer(&self, least: u64, most: u64, problems: &mut Problems) -> Option<u64> {
        let allowed = format!("a whole number from {least} to {most}");
        if self.kind() != Some(Kind::Integer) {
            self.wrong_type(&allowed, problems);
            return None;
        }
        match self.raw().parse() {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            _ => {
                problems.refuse(self.problem("out of range").allowed(allowed));
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn choice(&self, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
        let allowed = words.join(", ");
        if matches!(self.kind(), Some(Kind::Null) | None) {
            self.wrong_type(&allowed, problems);
            return None;
        }
        let known = words.iter().find(|word| **word == self.raw()).copied();
        if known.is_none() {
            let refused = self.problem("unknown value").allowed(allowed).suggest(self.raw(), words.iter().copied());
            problems.refuse(refused);
        }
        known
    }
}

/// Path of a field below another.
fn join(path: &str, name: &str) -> String {
    let name = short(name).replace(char::is_control, "\u{fffd}");
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Text for a message, cut where it gets too long to be read.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}
