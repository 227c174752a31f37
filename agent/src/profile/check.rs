//! `trimtab check FILE`: the verdict on a profile, without a node.

use super::diagnostic::Diagnostic;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Name of the file as the caller gave it.
    pub file: String,
    /// True: the agent would use it.
    pub valid: bool,
    /// `metadata.name`; empty unless valid.
    pub name: String,
    /// Reasons to refuse it, in the order of the text.
    pub errors: Vec<Diagnostic>,
    /// Accepted, but probably not what was meant.
    pub warnings: Vec<Diagnostic>,
}

/// Validates the text of a profile; `file` only names it in messages.
#[must_use]
pub fn check(file: &str, text: &[u8]) -> Verdict {
    let file = file.to_owned();
    match super::parse(&file, text) {
        Ok(profile) => {
            let (name, warnings) = (profile.spec.name, profile.warnings);
            Verdict { file, valid: true, name, errors: Vec::new(), warnings }
        }
        Err(rejected) => {
            Verdict { file, valid: false, name: String::new(), errors: rejected.diagnostics, warnings: Vec::new() }
        }
    }
}
