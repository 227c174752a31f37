//! One change of the subsystem, as data.

use std::fmt;

use trimtab_domain::record::LedgerChange;

use crate::reconcile::Step;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinStep {
    /// All changes of the ledger of one stage, made durable together.
    Ledger(Vec<LedgerChange>),
    /// One cgroup file.
    Write(FileWrite),
}

/// A write to one cgroup file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWrite {
    /// Path of the file relative to the mount point; the object.
    pub object: String,
    /// Path of the cgroup relative to the mount point.
    pub path: String,
    /// Name of the file.
    pub file: &'static str,
    /// Text before; empty: on version 2 inherited from the cgroup above, on version 1 nothing.
    pub old: String,
    /// Text to write; may be empty.
    pub new: String,
    /// What is written instead of an empty text if processes run in the cgroup: then the kernel refuses the empty one
    /// (ENOSPC).
    pub when_populated: Option<String>,
    /// True if this had been ordered before, and somebody changed it.
    pub repair: bool,
}

impl Step for PinStep {
    fn object(&self) -> Option<&str> {
        match self {
            Self::Ledger(_) => None,
            Self::Write(write) => Some(&write.object),
        }
    }

    fn is_repair(&self) -> bool {
        matches!(self, Self::Write(write) if write.repair)
    }
}

impl fmt::Display for PinStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "(empty)".to_owned() } else { text.to_owned() };
        match self {
            Self::Write(write) => write!(f, "{}: {} -> {}", write.object, shown(&write.old), shown(&write.new)),
            Self::Ledger(changes) => {
                let forgotten = changes.iter().filter(|change| matches!(change, LedgerChange::Forget { .. })).count();
                match (changes.len() - forgotten, forgotten) {
                    (promised, 0) => write!(f, "ledger: remember {promised}"),
                    (0, forgotten) => write!(f, "ledger: forget {forgotten}"),
                    (promised, forgotten) => write!(f, "ledger: remember {promised}, forget {forgotten}"),
                }
            }
        }
    }
}
