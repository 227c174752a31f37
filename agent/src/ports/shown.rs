//! A kernel file as a plan wants to see it: value and access, or why there is none.

use std::path::Path;

use trimtab_domain::kernel_file::{Access, Shown};

use super::{HostFiles, Mode};

/// Reads the file; whatever keeps it from being read is part of the answer.
pub fn read_shown<F: HostFiles + ?Sized>(files: &F, path: &Path) -> Shown {
    let mode = match files.mode(path) {
        Ok(Some(mode)) => mode,
        Ok(None) => return Shown::Absent,
        Err(error) => return Shown::Unreadable(error.source.to_string()),
    };
    match files.read(path) {
        Ok(Some(text)) => Shown::Value(text.strip_suffix('\n').unwrap_or(&text).to_owned(), access(mode)),
        Ok(None) => Shown::Absent,
        Err(error) => Shown::Unreadable(error.source.to_string()),
    }
}

fn access(mode: Mode) -> Access {
    match (mode.writable, mode.may_write) {
        (false, _) => Access::ReadOnly,
        (true, false) => Access::Denied,
        (true, true) => Access::Writable,
    }
}
