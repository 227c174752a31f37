//! Transparent huge pages: files that show every word with the one in force in brackets
//! (admin-guide/mm/transhuge.rst).

use std::fmt;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThpFile {
    /// Whether huge pages are used at all: `always`, `madvise`, `never`.
    Enabled,
    /// How hard the kernel tries when there is none: `always`, `defer`, `defer+madvise`, `madvise`, `never`.
    Defrag,
}

impl ThpFile {
    /// Both files.
    pub const ALL: [Self; 2] = [Self::Enabled, Self::Defrag];

    /// The name of the object in reports and the ledger.
    #[must_use]
    pub const fn object(self) -> &'static str {
        match self {
            Self::Enabled => "transparent_hugepage/enabled",
            Self::Defrag => "transparent_hugepage/defrag",
        }
    }

    /// The file.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Enabled => "/sys/kernel/mm/transparent_hugepage/enabled",
            Self::Defrag => "/sys/kernel/mm/transparent_hugepage/defrag",
        }
    }
}

impl fmt::Display for ThpFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.object())
    }
}

/// The words that a file takes, and the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// All, in the kernel's order.
    pub words: Vec<&'a str>,
    /// The one in brackets.
    pub active: &'a str,
}

/// A text that shows no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No word stands in brackets.
    #[error("no word of {0:?} stands in brackets")]
    NoneActive(String),
    /// More than one does.
    #[error("more than one word of {0:?} stands in brackets")]
    ManyActive(String),
    /// Brackets within a word, or around nothing.
    #[error("{0:?} has brackets that enclose no word")]
    Brackets(String),
}

impl<'a> Choice<'a> {
    /// Reads `always [madvise] never`.
    ///
    /// # Errors
    /// [`ChoiceError`] unless exactly one word stands in brackets.
    pub fn parse(text: &'a str) -> Result<Self, ChoiceError> {
        let mut words = Vec::new();
        let mut active = None;
        for field in text.split_ascii_whitespace() {
            let inner = field.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let word = inner.unwrap_or(field);
            if word.is_empty() || word.contains(['[', ']']) {
                return Err(ChoiceError::Brackets(text.to_owned()));
            }
            if inner.is_some() && active.replace(word).is_some() {
                return Err(ChoiceError::ManyActive(text.to_owned()));
            }
            words.push(word);
        }
        active.map(|active| Self { words, active }).ok_or_else(|| ChoiceError::NoneActive(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_word_in_brackets_is_in_force() {
        let rows = [
            ("always [madvise] never\n", "madvise", 3),
            ("[always] madvise never", "always", 3),
            ("always defer defer+madvise [madvise] never", "madvise", 5),
            ("[never]", "never", 1),
        ];
        for (text, active, words) in rows {
            let choice = Choice::parse(text).unwrap();
            assert_eq!((choice.active, choice.words.len()), (active, words), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let rows = [
            ("", ChoiceError::NoneActive("".into())),
            ("\n", ChoiceError::NoneActive("\n".into())),
            ("always madvise never", ChoiceError::NoneActive("always madvise never".into())),
            ("[always] [never]", ChoiceError::ManyActive("[always] [never]".into())),
            ("[] never", ChoiceError::Brackets("[] never".into())),
            ("[always never", ChoiceError::Brackets("[always never".into())),
            ("[[always]]", ChoiceError::Brackets("[[always]]".into())),
            ("al[w]ays", ChoiceError::Brackets("al[w]ays".into())),
        ];
        for (text, error) in rows {
            assert_eq!(Choice::parse(text), Err(error), "{text:?}");
        }
    }
}
