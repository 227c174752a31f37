//! One change to a kernel parameter or to what the ledger remembers of it, as data.

use std::fmt;

use super::SysctlKey;
use crate::record::Record;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SysctlStep {
    /// The ledger remembers these before anything is written.
    Remember(Vec<Record>),
    /// A wish is written.
    Write(Write),
    /// A value that was there before is written.
    GiveBack {
        /// The key.
        key: SysctlKey,
        /// What it shows by then.
        from: String,
        /// What it showed before.
        to: String,
    },
    /// The ledger forgets these.
    Forget(Vec<Forgotten>),
}

/// A wish to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: SysctlKey,
    /// What it shows by then.
    pub from: String,
    /// The wish.
    pub wish: String,
    /// The text for the kernel: the wish, numbers in plain decimal.
    pub text: String,
    /// Why it is written.
    pub occasion: Occasion,
}

/// Why a wish is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The wish is new, or so is the object that a glob found.
    New,
    /// It was in force or stood in the ledger already: somebody changed it back.
    Repair,
}

/// An object that the ledger forgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its name in the ledger.
    pub object: String,
    /// How it is left.
    pub left: Left,
}

/// How an object is left when the ledger forgets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// With the value that it had before.
    Original,
    /// It is gone, and its value with it.
    Gone,
    /// With a value that another program wrote since.
    ChangedByOther {
        /// That value.
        now: String,
        /// The value before ours.
        original: String,
    },
    /// The ledger was lost, so the value before ours is not known.
    OriginalUnknown,
    /// The name in the ledger is no sysctl key.
    NoKey,
}

impl fmt::Display for SysctlStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remember(records) => {
                let objects: Vec<&str> = records.iter().map(|record| record.object.as_str()).collect();
                write!(f, "ledger: remember {}", objects.join(", "))
            }
            Self::Write(write) => write!(f, "{}: {} -> {}", write.key, Text(&write.from), Text(&write.wish)),
            Self::GiveBack { key, from, to } => write!(f, "{key}: {} -> {} (given back)", Text(from), Text(to)),
            Self::Forget(forgotten) => {
                let texts: Vec<String> = forgotten.iter().map(ToString::to_string).collect();
                write!(f, "ledger: forget {}", texts.join(", "))
            }
        }
    }
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        match &self.left {
            Left::Original => Ok(()),
            Left::Gone => f.write_str(" (gone)"),
            Left::ChangedByOther { now, original } => {
                write!(f, " (left at {}, which another program wrote; it was {})", Text(now), Text(original))
            }
            Left::OriginalUnknown => f.write_str(" (left as it is; the ledger was lost)"),
            Left::NoKey => f.write_str(" (no sysctl key)"),
        }
    }
}

/// A value in one line; an empty one is visible.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = super::value::collapsed(self.0);
        if text.is_empty() { f.write_str("\"\"") } else { f.write_str(&text) }
    }
}
