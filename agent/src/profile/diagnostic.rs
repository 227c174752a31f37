//! What is wrong with a profile, and where: the only kind of error that a reader of profiles makes.

use std::fmt;

/// A place in the text, both counted from 1; the column counts characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong with a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Diagnostic {
    /// Name of the file as the caller gave it.
    pub file: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field, for instance `spec.ipMasq.nonMasqueradeCIDRs[2]`; empty: the document as a whole.
    pub path: String,
    /// What is wrong, in a few words.
    pub message: String,
    /// What the document has; empty where the message says it.
    pub found: String,
    /// What it may have; empty where the message says it.
    pub allowed: String,
    /// A likely correction; empty: none is known.
    pub hint: String,
}

/// A key may hold a tab, and a path is made of keys; what is printed must not drive a terminal.
fn printable(path: String) -> String {
    if !path.contains(char::is_control) {
        return path;
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    path.chars().map(escaped).collect()
}

impl Diagnostic {
    /// A problem at a place; the file is filled in by whoever knows it.
    pub(crate) fn at(position: Position, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            line: position.line,
            column: position.column,
            path: printable(path.into()),
            message: message.into(),
            found: String::new(),
            allowed: String::new(),
            hint: String::new(),
        }
    }

    /// Adds what the document has.
    #[must_use]
    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    /// Adds what it may have.
    #[must_use]
    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = allowed.into();
        self
    }

    /// Adds a likely correction.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds `did you mean …?` if one of `candidates` is close to `word`.
    #[must_use]
    pub(crate) fn suggest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match super::suggest::closest(word, candidates) {
            Some(name) => self.hint(format!("did you mean {name:?}?")),
            None => self,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.found.is_empty() {
            write!(f, ": found {}", self.found)?;
        }
        if !self.allowed.is_empty() {
            let separator = if self.found.is_empty() { ": " } else { ", " };
            write!(f, "{separator}allowed {}", self.allowed)?;
        }
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// A profile was refused; every problem that was found, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(diagnostics))]
pub struct Rejected {
    /// The problems; at least one.
    pub diagnostics: Vec<Diagnostic>,
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
