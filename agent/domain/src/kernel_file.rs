//! A file through which the kernel shows and takes a setting, as the node shows it.

use crate::plan::Cause;

/// What the file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The kernel does not have it.
    Absent,
    /// It is there and cannot be read; why.
    Unreadable(String),
    /// Its value, without the last line feed.
    Value(String, Access),
}

impl Shown {
    /// The value, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Value(text, _) => Some(text),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// What may be done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The agent may write it.
    Writable,
    /// It has no write bit: no one may.
    ReadOnly,
    /// The agent may not: a user namespace, a read-only mount.
    Denied,
}

impl Access {
    /// Why a file at this path cannot be written, with a remedy; `None`: it can.
    #[must_use]
    pub fn obstacle(self, path: &str) -> Option<(Cause, String)> {
        match self {
            Self::Writable => None,
            Self::ReadOnly => Some((
                Cause::ReadOnly,
                format!(
                    "{path} has no write bit, so no one may write it here; some keys of net can be written in the host's \
                     network namespace only"
                ),
            )),
            Self::Denied => Some((
                Cause::NotPermitted,
                format!(
                    "this process may not write {path}: it is in a user namespace or behind a read-only mount; run the \
                     agent as root of the host, with the host's /proc and /sys writable"
                ),
            )),
        }
    }
}

/// A change that the kernel rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The wish.
    pub wish: String,
    /// What kind of rejection.
    pub cause: Cause,
    /// What the kernel said.
    pub detail: String,
}
