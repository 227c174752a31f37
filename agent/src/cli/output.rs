//! Printing: tables for people, JSON and YAML for programs, colours on a terminal only.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::config::{ColorChoice, Output};
use crate::picture::visible;

/// Data could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// Standard output is gone or full.
    #[error("cannot write to standard output")]
    Write(#[from] io::Error),
    /// The data could not be rendered.
    #[error("cannot render the answer: {0}")]
    Render(String),
}

/// How much a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What is asked for most.
    Normal,
    /// Everything.
    Wide,
}

/// Prints data in the form that was asked for; `table` renders it for people.
///
/// # Errors
/// [`PrintError`] if standard output cannot be written.
pub fn print<T: Serialize>(output: Output, data: &T, table: impl FnOnce(&T) -> String) -> Result<(), PrintError> {
    let mut text = match output {
        Output::Table => table(data),
        Output::Json => serde_json::to_string_pretty(data).map_err(|error| PrintError::Render(error.to_string()))?,
        Output::Yaml => serde_saphyr::to_string(data).map_err(|error| PrintError::Render(error.to_string()))?,
    };
    if !text.ends_with('\n') && !text.is_empty() {
        text.push('\n');
    }
    write(text.as_bytes())
}

/// Writes to standard output; colours are dropped where it is no terminal or `NO_COLOR` is set. A reader that has gone
/// (`| head`) is no error.
///
/// # Errors
/// [`PrintError::Write`] if standard output cannot be written.
pub fn write(text: &[u8]) -> Result<(), PrintError> {
    let mut out = anstream::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells the output stream when to keep colours.
pub fn choose_color(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Columns of the terminal, and of what is written where there is none.
#[must_use]
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(terminal_size::Width(width), _)| usize::from(width.max(60)))
}

/// A table without lines, that wraps to the width of the terminal where there is one.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if let Some((terminal_size::Width(width), _)) = terminal_size::terminal_size() {
        table.set_width(width.max(60));
    }
    table
}

/// Escapes control characters and the like, so that a name from the node cannot drive the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    visible(text)
}

/// Prints an error and its causes for people on standard error.
pub fn complain(error: &anyhow::Error) {
    let style = anstyle::AnsiColor::Red.on_default();
    let _ = writeln!(anstream::stderr(), "{style}error{style:#}: {}", printable(&chain(error)));
}

/// Prints a text for people on standard error.
pub fn warn(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The error and its causes in one line; a cause that only repeats the one before it (as libraries do that wrap each
/// other) is said once.
fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.ends_with(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_repeats_the_one_before_is_said_once() {
        let error = anyhow::anyhow!("No such file").context("transport error: No such file").context("cannot connect");
        assert_eq!(chain(&error), "cannot connect: transport error: No such file");
        assert_eq!(chain(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }
}
