//! One change to a kernel setting or to what the ledger remembers of it, as data.

use std::fmt;

use super::blocklist;
use super::huge_pages::Pool;
use super::module::ModuleName;
use super::thp::ThpFile;
use crate::record::Record;

/// One change, and the object that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelStep {
    object: Option<String>,
    change: Change,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The ledger remembers these before anything is changed.
    Remember(Vec<Record>),
    /// A word of transparent huge pages.
    SetThp {
        /// The file.
        file: ThpFile,
        /// The word in force.
        from: String,
        /// The word to be in force.
        to: String,
        /// Why.
        occasion: Occasion,
    },
    /// The number of pages of a pool.
    SetPages {
        /// The pool.
        pool: Pool,
        /// Pages ordered so far.
        from: u64,
        /// Pages to be ordered.
        to: u64,
        /// Why.
        occasion: Occasion,
    },
    /// A module is loaded.
    Load(ModuleName),
    /// A module that we loaded is unloaded.
    Unload(ModuleName),
    /// The blocklist file is written.
    WriteBlocklist {
        /// The text there is; `None`: no file.
        from: Option<String>,
        /// The text to be.
        to: String,
    },
    /// The blocklist file is removed.
    RemoveBlocklist,
    /// The ledger forgets this object; how it is left, if that is worth a word.
    Forget {
        /// Its name in the ledger.
        object: String,
        /// In words; empty: with the value that it had before.
        left: String,
    },
}

/// Why a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The profile asks for it.
    Wish,
    /// It was there before and the profile names it no more.
    GiveBack,
}

impl KernelStep {
    /// What is done.
    #[must_use]
    pub const fn change(&self) -> &Change {
        &self.change
    }

    /// The object that is changed; `None` for the ledger's steps.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }
}

impl From<Change> for KernelStep {
    fn from(change: Change) -> Self {
        let object = match &change {
            Change::SetThp { file, .. } => Some(file.object().to_owned()),
            Change::SetPages { pool, .. } => Some(pool.to_string()),
            Change::Load(module) | Change::Unload(module) => Some(module.object()),
            Change::WriteBlocklist { .. } | Change::RemoveBlocklist => Some(blocklist::PATH.to_owned()),
            Change::Remember(_) | Change::Forget { .. } => None,
        };
        Self { object, change }
    }
}

impl fmt::Display for KernelStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wish => "",
            Self::GiveBack => " (given back)",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remember(records) => {
                let objects: Vec<&str> = records.iter().map(|record| record.object.as_str()).collect();
                write!(f, "ledger: remember {}", objects.join(", "))
            }
            Self::SetThp { file, from, to, occasion } => write!(f, "{file}: {from} -> {to}{occasion}"),
            Self::SetPages { pool, from, to, occasion } => write!(f, "{pool}: {from} -> {to}{occasion}"),
            Self::Load(module) => write!(f, "module/{module}: not loaded -> loaded"),
            Self::Unload(module) => write!(f, "module/{module}: loaded -> not loaded (given back)"),
            Self::WriteBlocklist { from, to } => {
                let list = |text: &str| format!("[{}]", blocklist::blocked(text).join(" "));
                let from = from.as_deref().map_or_else(|| "absent".to_owned(), list);
                write!(f, "{}: {from} -> {}", blocklist::PATH, list(to))
            }
            Self::RemoveBlocklist => write!(f, "{}: removed", blocklist::PATH),
            Self::Forget { object, left } if left.is_empty() => write!(f, "ledger: forget {object}"),
            Self::Forget { object, left } => write!(f, "ledger: forget {object} ({left})"),
        }
    }
}
