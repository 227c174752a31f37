//! What the node and the ledger show of the kernel settings: everything that a plan is made from.

use std::collections::BTreeMap;

use super::huge_pages::{Counts, Pool};
use super::module::{ModuleName, ModuleState};
use super::thp::ThpFile;
use crate::kernel_file::{Access, Rejection, Shown};
use crate::record::Record;

/// All that one pass read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The files of transparent huge pages.
    pub thp: BTreeMap<ThpFile, Shown>,
    /// Every pool that is wished for or recorded.
    pub pools: BTreeMap<Pool, PoolShown>,
    /// NUMA nodes of this machine, ascending.
    pub numa_nodes: Vec<u32>,
    /// Huge page sizes of this machine in bytes, ascending.
    pub page_sizes: Vec<u64>,
    /// Every module that is wished for, blocked or recorded.
    pub modules: BTreeMap<ModuleName, ModuleState>,
    /// Whether this kernel can load modules at all.
    pub loadable: bool,
    /// Text of the blocklist file; `None`: there is none.
    pub blocklist: Option<String>,
    /// Whether the directory for it exists.
    pub has_modprobe_d: bool,
    /// The ledger's records.
    pub records: Vec<Record>,
    /// Changes that the kernel rejected lately, by object.
    pub rejections: BTreeMap<String, Rejection>,
}

/// A pool as the node shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolShown {
    /// There is no such node, or no pages of this size.
    Absent,
    /// It is there and cannot be understood; why.
    Unreadable(String),
    /// What it holds.
    Value {
        /// In pages.
        counts: Counts,
        /// What may be done with it.
        access: Access,
        /// Free memory of the node in bytes; `None`: unknown.
        free_bytes: Option<u64>,
    },
}
