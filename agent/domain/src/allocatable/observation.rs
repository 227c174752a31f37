//! What the node and the ledger show of the bounds: everything that a plan is made from.

use std::collections::{BTreeMap, BTreeSet};

use super::interrupt::Interrupt;
use super::knob::Knob;
use crate::cgroup::Version;
use crate::cpuset::CpuSet;
use crate::kernel_file::{Rejection, Shown};
use crate::record::Record;
use crate::reservation::Capacity;
use crate::spec::cgroup::CgroupDriver;

/// What the node is, whatever is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The driver whose names the kubelet uses for reserved cgroups.
    pub driver: CgroupDriver,
    /// Version of the hierarchy by controller; a controller that no hierarchy has is absent.
    pub versions: BTreeMap<String, Version>,
    /// The cgroup of all pods; absent: there is none.
    pub pods_root: Option<String>,
    /// A kubelet runs, and then it owns the cgroup of all pods.
    pub kubelet_runs: bool,
    /// systemd manages the host and answers, so units are bounded through it.
    pub systemd: bool,
    /// What the node has.
    pub capacity: Capacity,
    /// CPUs that the kernel isolates.
    pub isolated: CpuSet,
    /// Huge page sizes in bytes, ascending.
    pub page_sizes: BTreeSet<u64>,
    /// irqbalance runs, which moves interrupts itself.
    pub irqbalance_runs: bool,
}

/// All that one pass read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The node.
    pub facts: Facts,
    /// Every bound that is wished for or recorded.
    pub bounds: BTreeMap<Knob, Bound>,
    /// Every interrupt, if any are to be moved or are recorded.
    pub interrupts: BTreeMap<Interrupt, Shown>,
    /// The ledger's records.
    pub records: Vec<Record>,
    /// Changes that the kernel or systemd rejected lately, by object.
    pub rejections: BTreeMap<String, Rejection>,
}

/// A bound as the node shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Whether the cgroup exists where the controller is.
    pub has_cgroup: bool,
    /// The file.
    pub file: Shown,
    /// What is in use, in the unit of the bound; absent where nothing is counted.
    pub usage: Option<u64>,
}
