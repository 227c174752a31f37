//! What the node and the ledger show of the kernel parameters: everything that a plan is made from.

use std::collections::BTreeMap;

use super::{KernelVersion, SysctlKey};
pub use crate::kernel_file::{Access, Rejection, Shown};
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

/// An assignment in a sysctl.d file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSetting {
    /// The file.
    pub path: String,
    /// The value in it.
    pub value: String,
}
