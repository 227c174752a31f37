//! One change to a bound or to what the ledger remembers of it, as data.

use std::fmt;

use super::interrupt::Interrupt;
use super::knob::Knob;
use crate::kernel::step::Occasion;
use crate::record::Record;

/// One change, and the object that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatableStep {
    object: Option<String>,
    change: Change,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The ledger remembers these before anything is changed.
    Remember(Vec<Record>),
    /// A bound of a cgroup.
    SetBound {
        /// The bound.
        knob: Knob,
        /// The text in force.
        from: String,
        /// The text to be in force.
        to: String,
        /// Through systemd, because the cgroup is a unit of its own.
        through_systemd: bool,
        /// Why.
        occasion: Occasion,
    },
    /// The CPUs of an interrupt, as list.
    SetInterrupt {
        /// The interrupt.
        interrupt: Interrupt,
        /// The CPUs in force.
        from: String,
        /// The CPUs to be in force.
        to: String,
        /// Why.
        occasion: Occasion,
    },
    /// The ledger forgets this object; how it is left, if that is worth a word.
    Forget {
        /// Its name in the ledger.
        object: String,
        /// In words; empty: with the value that it had before.
        left: String,
    },
}

impl AllocatableStep {
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

impl From<Change> for AllocatableStep {
    fn from(change: Change) -> Self {
        let object = match &change {
            Change::SetBound { knob, .. } => Some(knob.to_string()),
            Change::SetInterrupt { interrupt, .. } => Some(interrupt.to_string()),
            Change::Remember(_) | Change::Forget { .. } => None,
        };
        Self { object, change }
    }
}

impl fmt::Display for AllocatableStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "all".to_owned() } else { text.to_owned() };
        match &self.change {
            Change::Remember(records) => {
                let objects: Vec<&str> = records.iter().map(|record| record.object.as_str()).collect();
                write!(f, "ledger: remember {}", objects.join(", "))
            }
            Change::SetBound { knob, from, to, through_systemd, occasion } => {
                let by = if *through_systemd { " (through systemd)" } else { "" };
                write!(f, "{knob}: {} -> {}{by}{occasion}", shown(from), shown(to))
            }
            Change::SetInterrupt { interrupt, from, to, occasion } => {
                write!(f, "{interrupt}: {from} -> {to}{occasion}")
            }
            Change::Forget { object, left } if left.is_empty() => write!(f, "ledger: forget {object}"),
            Change::Forget { object, left } => write!(f, "ledger: forget {object} ({left})"),
        }
    }
}
