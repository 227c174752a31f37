//! Problems behind which nothing more can be read, in words better than the parser's where a common mistake is behind.

use granit_parser::{ErrorKind, ScanError};

use super::diagnostic::{Diagnostic, Position};
use super::tree::MAX_DEPTH;

/// A problem behind which nothing more can be read.
pub(super) type Fatal = Box<Diagnostic>;

pub(super) fn fatal(at: Position, message: &str, found: &str, allowed: &str) -> Fatal {
    Box::new(Diagnostic::at(at, "", message).found(found).allowed(allowed))
}

pub(super) fn too_deep(at: Position) -> Fatal {
    fatal(at, "nested too deeply", &format!("more than {MAX_DEPTH} levels"), &format!("at most {MAX_DEPTH}"))
}

/// The parser's own words, better ones where a common mistake is behind them.
pub(super) fn syntax(error: &ScanError) -> Fatal {
    let marker = error.marker();
    let at = Position { line: marker.line(), column: marker.col() + 1 };
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => fatal(at, "not valid YAML", "a tab as indentation", "spaces"),
        ErrorKind::RecursionLimitExceeded => too_deep(at),
        ErrorKind::DirectiveDisallowed => fatal(at, "directive", "a line with %", "a document without directives"),
        kind => Box::new(Diagnostic::at(at, "", format!("not valid YAML: {kind}"))),
    }
}
