//! One change of the subsystem, as data.

use std::fmt;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::record::LedgerChange;

use super::writers::Via;
use crate::reconcile::Step;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinStep {
    /// All changes of the ledger of one stage, made durable together.
    Ledger(Vec<LedgerChange>),
    /// One cgroup file.
    Write(FileWrite),
    /// A look whether what others were asked to write is in force, before anybody gets the CPUs that it sets free.
    Verify(Vec<Expected>),
}

/// What must be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The object that was written.
    pub object: String,
    /// Path of the cgroup relative to the mount point.
    pub path: String,
    /// The file that shows what is in force.
    pub file: &'static str,
    /// It must not show more than this.
    pub within: CpuSet,
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
    /// Who writes.
    pub via: Via,
    /// Set if the write lets a cgroup onto more CPUs or nodes: the version of the placements that it was planned on. It
    /// is not made if they have moved on since, because somebody else may have got what it grows onto.
    pub grows_at: Option<u64>,
    /// True if the write only takes away. What the runtime has taken away meanwhile does not come back by it.
    pub narrows: bool,
    /// Set if this pins a container that has just come, to measure how late that is.
    pub first_pin: Option<FirstPin>,
}

/// The first pin of a container that ran unpinned until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstPin {
    /// Since when at most, in nanoseconds since the epoch; absent: nobody knows.
    pub since_ns: Option<i64>,
    /// It was there when the agent began to look: it came while no agent ran.
    pub at_start: bool,
}

impl Step for PinStep {
    fn object(&self) -> Option<&str> {
        match self {
            Self::Ledger(_) | Self::Verify(_) => None,
            Self::Write(write) => Some(&write.object),
        }
    }

    fn is_repair(&self) -> bool {
        matches!(self, Self::Write(write) if write.repair)
    }

    /// One whose set is fought over is reported as such; the others need not wait for the end of that.
    fn leave_out(&mut self, held: &dyn Fn(&str) -> bool) {
        if let Self::Verify(expected) = self {
            expected.retain(|expected| !held(&expected.object));
        }
    }
}

impl fmt::Display for PinStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "(empty)".to_owned() } else { text.to_owned() };
        match self {
            Self::Write(write) => {
                write!(f, "{}: {} -> {}", write.object, shown(&write.old), shown(&write.new))?;
                match &write.via {
                    Via::File => Ok(()),
                    Via::Runtime(_) | Via::Plugin(_) => f.write_str(" (by the runtime)"),
                    Via::Unit(unit) => write!(f, " (property of {unit})"),
                }
            }
            Self::Verify(expected) => write!(f, "read back {} cgroups", expected.len()),
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
