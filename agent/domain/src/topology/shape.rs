//! Machines for tests, regular ones and damaged ones.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::{CpuInfo, Machine, NumaNode};
use crate::cpuset::CpuSet;

/// A regular machine; every number counts units inside one unit of the level above.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sockets: u32,
    pub(crate) numas: u32,
    pub(crate) caches: u32,
    pub(crate) cores: u32,
    pub(crate) threads: u32,
}

impl Shape {
    /// Cores of the whole machine.
    pub(crate) fn total_cores(self) -> u32 {
        self.sockets * self.numas * self.caches * self.cores
    }

    /// All CPUs online, first threads of all cores numbered before the second ones.
    pub(crate) fn machine(self) -> Machine {
        self.machine_without(&CpuSet::new())
    }

    /// The same with some CPUs offline; at least one must be left.
    pub(crate) fn machine_without(self, offline: &CpuSet) -> Machine {
        let total = self.total_cores();
        let cpu = |cpu: u32| {
            let core = cpu % total;
            let cache = core / self.cores;
            let numa = cache / self.caches;
            CpuInfo { cpu, core, socket: numa / self.numas, numa, uncore_cache: Some(cache) }
        };
        let cpus: Vec<_> = (0..total * self.threads).filter(|id| !offline.contains(*id)).map(cpu).collect();
        let nodes = (0..self.sockets * self.numas).map(|id| NumaNode { id, ..NumaNode::default() }).collect();
        Machine::new(&cpus, nodes, None).unwrap()
    }
}

/// One socket, four cores of two threads.
pub(crate) const A: Shape = Shape { sockets: 1, numas: 1, caches: 1, cores: 4, threads: 2 };
/// Two sockets of one node each, four cores of two threads on each.
pub(crate) const B: Shape = Shape { sockets: 2, ..A };
/// Two sockets of two nodes each, four cores of two threads on each node.
pub(crate) const C: Shape = Shape { sockets: 2, numas: 2, ..A };
/// One socket, four caches of four cores of two threads.
pub(crate) const D: Shape = Shape { caches: 4, ..A };
/// One socket, two caches of four cores of one thread.
pub(crate) const E: Shape = Shape { caches: 2, threads: 1, ..A };
