//! The steps of a choice, noted if somebody wants to know.

use crate::cpuset::CpuSet;

/// CPUs that were taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickStep {
    /// Why these.
    pub reason: PickReason,
    /// The CPUs.
    pub cpus: CpuSet,
}

/// Why CPUs were taken; the ids are those of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PickReason {
    /// A wholly free NUMA node that the need was not smaller than.
    WholeNumaNode(u32),
    /// A wholly free socket that the need was not smaller than.
    WholeSocket(u32),
    /// A wholly free uncore cache that the need was not smaller than.
    WholeUncore(u32),
    /// The lowest cores of an uncore cache, which were exactly what was needed.
    PartOfUncore(u32),
    /// A wholly free core.
    WholeCore(u32),
    /// CPUs of the core that had the fewest free ones.
    PartOfCore(u32),
    /// The lowest CPUs of the socket (`distribute-cpus-across-cores`).
    LowestOfSocket(u32),
}

/// Part of a NUMA node in an even distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeShare {
    /// The node.
    pub node: u32,
    /// CPUs from it.
    pub cpus: usize,
}

/// Takes down the steps of a choice, or nothing at no cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trace {
    on: bool,
    pub(super) steps: Vec<PickStep>,
    pub(super) shares: Vec<NodeShare>,
}

impl Trace {
    /// Nobody wants to know.
    pub(super) const fn off() -> Self {
        Self { on: false, steps: Vec::new(), shares: Vec::new() }
    }

    /// Somebody does.
    pub(super) const fn on() -> Self {
        Self { on: true, steps: Vec::new(), shares: Vec::new() }
    }

    pub(super) fn step(&mut self, reason: PickReason, cpus: impl FnOnce() -> CpuSet) {
        if self.on {
            let cpus = cpus();
            if !cpus.is_empty() {
                self.steps.push(PickStep { reason, cpus });
            }
        }
    }

    pub(super) fn share(&mut self, node: u32, cpus: usize) {
        if !self.on {
            return;
        }
        match self.shares.iter_mut().find(|share| share.node == node) {
            Some(share) => share.cpus += cpus,
            None => self.shares.push(NodeShare { node, cpus }),
        }
    }
}
