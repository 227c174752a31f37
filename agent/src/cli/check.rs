//! What `check` prints.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::output::printable;
use crate::profile::check::Verdict;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Renders for people: one line per problem, then the verdict.
#[must_use]
pub fn render(verdict: &Verdict) -> String {
    let mut text = String::new();
    for error in &verdict.errors {
        let _ = writeln!(text, "{BAD}error{BAD:#} {}", printable(&error.to_string()));
    }
    for warning in &verdict.warnings {
        let _ = writeln!(text, "{DOUBT}warning{DOUBT:#} {}", printable(&warning.to_string()));
    }
    let file = printable(&verdict.file);
    let _ = if verdict.valid {
        writeln!(text, "{GOOD}valid{GOOD:#}: {file} is the profile {:?}", verdict.name)
    } else {
        let count = verdict.errors.len();
        let noun = if count == 1 { "error" } else { "errors" };
        writeln!(text, "{BAD}not valid{BAD:#}: {file} has {count} {noun}; an agent would keep the profile in force")
    };
    text
}
