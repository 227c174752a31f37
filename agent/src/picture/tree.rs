//! The CPUs arranged as the hardware is: sockets, NUMA nodes, caches, cores, threads.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;

use super::topology::{Cpu, Topology};
use crate::reconcile::node_view::{MemoryUse, NumaNodeView};

/// The whole machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Sockets with online CPUs, ascending by id.
    pub sockets: Vec<Socket<'a>>,
    /// NUMA nodes without online CPUs.
    pub bare: Vec<&'a NumaNodeView>,
}

/// One socket.
#[derive(Debug)]
pub struct Socket<'a> {
    /// Its id.
    pub id: u32,
    /// Its NUMA nodes, ascending by id.
    pub numas: Vec<Numa<'a>>,
}

/// The part of a NUMA node in one socket.
#[derive(Debug)]
pub struct Numa<'a> {
    /// Its id.
    pub id: u32,
    /// Its memory; empty in all sockets but the first, if it lies in several.
    pub memory: &'a [MemoryUse],
    /// Its last-level caches, ascending by id.
    pub caches: Vec<Cache<'a>>,
}

/// Cores below one last-level cache.
#[derive(Debug)]
pub struct Cache<'a> {
    /// Its id; `None`: the kernel tells of no cache that only a part of the socket shares.
    pub id: Option<u32>,
    /// Its cores, ascending by their lowest CPU.
    pub cores: Vec<Core<'a>>,
}

/// One core.
#[derive(Debug)]
pub struct Core<'a> {
    /// Its threads, ascending; never empty.
    pub cpus: Vec<&'a Cpu>,
}

type Level<T> = BTreeMap<u32, T>;
type Caches<'a> = BTreeMap<Option<u32>, Level<Vec<&'a Cpu>>>;

impl<'a> Machine<'a> {
    /// Arranges the CPUs.
    #[must_use]
    pub fn new(topology: &'a Topology) -> Self {
        let mut sockets = Level::<Level<Caches<'a>>>::new();
        for cpu in &topology.cpus {
            let numas = sockets.entry(cpu.place.socket).or_default();
            let caches = numas.entry(cpu.place.numa_node).or_default();
            let cores = caches.entry(cpu.place.uncore_cache).or_default();
            cores.entry(cpu.place.core).or_default().push(cpu);
        }
        let mut memory: Level<&'a NumaNodeView> = topology.numa_nodes.iter().map(|node| (node.id, node)).collect();
        let sockets = sockets.into_iter().map(|(id, numas)| Socket {
            id,
            numas: numas
                .into_iter()
                .map(|(id, caches)| Numa {
                    id,
                    memory: memory.remove(&id).map(|node| node.memory.as_slice()).unwrap_or_default(),
                    caches: caches.into_iter().map(|(id, cores)| Cache::new(id, cores)).collect(),
                })
                .collect(),
        });
        let sockets = sockets.collect();
        Self { sockets, bare: memory.into_values().collect() }
    }
}

impl<'a> Cache<'a> {
    fn new(id: Option<u32>, cores: Level<Vec<&'a Cpu>>) -> Self {
        let mut cores: Vec<Core<'a>> = cores.into_values().map(|cpus| Core { cpus }).collect();
        cores.sort_by_key(|core| core.cpus.first().map(|cpu| cpu.place.cpu));
        Self { id, cores }
    }

    /// Its CPUs.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        self.cores.iter().flat_map(|core| &core.cpus).map(|cpu| cpu.place.cpu).collect()
    }
}

impl Numa<'_> {
    /// Its CPUs in this socket.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        self.caches.iter().fold(CpuSet::new(), |all, cache| all.union(&cache.cpus()))
    }
}
