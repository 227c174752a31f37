//! What the node and the ledger show of the kernel parameters: everything that a plan is made from.

use std::collections::BTreeMap;

use super::{KernelVersion, SysctlKey};
use crate::plan::Cause;
use crate::record::Record;

/// All that one pass read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// Every key that is wished for, recorded in the ledger, or reached by a wish.
    pub shown: BTreeMap<SysctlKey, Shown>,
    /// Pattern in dot form to the keys that it matches now.
    pub expansions: BTreeMap<String, Vec<SysctlKey>>,
    /// Names below a globbed directory that no key can spell, for instance an interface called `a*`.
    pub unspellable: Vec<String>,
    /// The ledger's records.
    pub records: Vec<Record>,
    /// Writes that the kernel rejected lately.
    pub rejections: BTreeMap<SysctlKey, Rejection>,
    /// What the node's sysctl.d files set the wished keys to.
    pub files: BTreeMap<SysctlKey, FileSetting>,
    /// Version of the running kernel; `None`: it could not be read.
    pub kernel: Option<KernelVersion>,
}

/// One key as the node shows it.
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

/// What may be done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The agent may write it.
    Writable,
    /// It has no write bit: no one may.
    ReadOnly,
    /// The agent may not: a user namespace, a read-only `/proc/sys`.
    Denied,
}

/// A write that the kernel rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The wish.
    pub wish: String,
    /// What kind of rejection.
    pub cause: Cause,
    /// What the kernel said.
    pub detail: String,
}

/// An assignment in a sysctl.d file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSetting {
    /// The file.
    pub path: String,
    /// The value in it.
    pub value: String,
}
