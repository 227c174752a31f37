//! The machine as the resource managers see it: CPUs, cores, caches, sockets, NUMA nodes and their memory.
//!
//! The model is made once from plain data ([`Machine::new`]) and never changes. How the data is read from the kernel
//! must not live here.

use std::collections::BTreeMap;

use crate::cpuset::{CpuSet, MAX_CPUS};
use crate::hint::NumaMask;

mod links;
mod unit;

pub(crate) use links::{CpuIndex, Links};
pub use unit::Unit;

/// One online logical CPU as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuInfo {
    /// Number of the logical CPU.
    pub cpu: u32,
    /// Label of the physical core; unique together with socket and NUMA node (`topology/core_id`).
    pub core: u32,
    /// `topology/physical_package_id`.
    pub socket: u32,
    /// NUMA node of the CPU.
    pub numa: u32,
    /// Id of the first last-level cache that is shared by a part of the NUMA node or by several nodes; absent if there
    /// is none, and then the socket id takes its place.
    pub uncore_cache: Option<u32>,
}

/// One NUMA node, with or without CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumaNode {
    /// Id, 0–63; ids may have gaps.
    pub id: u32,
    /// All memory of the node in bytes, huge pages included.
    pub memory_bytes: u64,
    /// Huge page sizes that the node knows, ascending by size.
    pub hugepages: Vec<HugePages>,
    /// Row of the distance matrix, in the order of the nodes; empty if the kernel shows none.
    pub distances: Vec<u32>,
}

/// Huge pages of one size on one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// Size of a page in bytes.
    pub page_size_bytes: u64,
    /// Number of pages, used or not; may be 0.
    pub count: u64,
}

/// The data does not describe a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// No online CPU.
    #[error("could not detect number of cpus")]
    NoCpus,
    /// The same CPU twice.
    #[error("CPU {0} is listed twice")]
    DuplicateCpu(u32),
    /// A CPU number of [`MAX_CPUS`] or above.
    #[error("CPU {0} is too high: numbers below {MAX_CPUS} are allowed")]
    CpuTooHigh(u32),
    /// The same NUMA node twice.
    #[error("NUMA node {0} is listed twice")]
    DuplicateNode(u32),
    /// A NUMA node id that does not fit a mask.
    #[error("NUMA node {0} is too high: ids 0-63 are allowed")]
    NodeTooHigh(u32),
    /// A CPU of a NUMA node that is not listed.
    #[error("CPU {cpu} is on NUMA node {numa}, which does not exist")]
    UnknownNode {
        /// The CPU.
        cpu: u32,
        /// Its NUMA node.
        numa: u32,
    },
}

/// Where one online CPU is; all ids as the policies use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuPlace {
    /// NUMA node id.
    pub numa: u32,
    /// Socket id.
    pub socket: u32,
    /// Lowest online CPU among the threads of the core: unique on the machine.
    pub core: u32,
    /// Id of the uncore cache, or else of the socket.
    pub uncore: u32,
}

/// A machine: the CPU topology, the NUMA nodes, and the CPUs that the kernel isolates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    online: CpuSet,
    isolated: CpuSet,
    places: Vec<Option<CpuPlace>>,
    indexes: Vec<CpuIndex>,
    links: Links,
    cores: Vec<Unit>,
    uncores: Vec<Unit>,
    sockets: Vec<Unit>,
    numas: Vec<Unit>,
    num_sockets: usize,
    nodes: Vec<NumaNode>,
}

impl Machine {
    /// Builds the model.
    ///
    /// `sockets` is the number of sockets that `/proc/cpuinfo` tells; absent where it tells none, and then the distinct
    /// sockets of the online CPUs count.
    ///
    /// # Errors
    /// When there is no CPU, when ids are repeated or out of range, or when a CPU is on an unlisted NUMA node.
    pub fn new(cpus: &[CpuInfo], mut nodes: Vec<NumaNode>, sockets: Option<usize>) -> Result<Self, MachineError> {
        nodes.sort_by_key(|node| node.id);
        for (node, next) in nodes.iter().zip(nodes.iter().skip(1)) {
            if node.id == next.id {
                return Err(MachineError::DuplicateNode(node.id));
            }
        }
        if let Some(node) = nodes.iter().find(|node| NumaMask::single(node.id).is_none()) {
            return Err(MachineError::NodeTooHigh(node.id));
        }
        let places = place_cpus(cpus, &nodes)?;
        let unit_of = |id: fn(&CpuPlace) -> u32| unit::group(&places, id);
        let highest = places.keys().next_back().map_or(0, |cpu| *cpu as usize + 1);
        let mut by_number = vec![None; highest];
        for (cpu, place) in &places {
            if let Some(slot) = by_number.get_mut(*cpu as usize) {
                *slot = Some(*place);
            }
        }
        let (cores, uncores) = (unit_of(|place| place.core), unit_of(|place| place.uncore));
        let (socket_units, numas) = (unit_of(|place| place.socket), unit_of(|place| place.numa));
        Ok(Self {
            online: places.keys().copied().collect(),
            isolated: CpuSet::new(),
            num_sockets: sockets.unwrap_or(socket_units.len()),
            indexes: links::index(&places, [&cores, &uncores, &socket_units, &numas]),
            links: Links::new(&cores, &uncores, &socket_units, &numas),
            cores,
            uncores,
            sockets: socket_units,
            numas,
            places: by_number,
            nodes,
        })
    }

    /// Notes the CPUs that the kernel keeps free of ordinary tasks (`/sys/devices/system/cpu/isolated`); only those
    /// that are online count.
    #[must_use]
    pub fn with_isolated(mut self, isolated: &CpuSet) -> Self {
        self.isolated = isolated.intersection(&self.online);
        self
    }

    /// Online CPUs.
    #[must_use]
    pub const fn online(&self) -> &CpuSet {
        &self.online
    }

    /// Online CPUs that the kernel keeps free of ordinary tasks; empty if unknown.
    #[must_use]
    pub const fn isolated(&self) -> &CpuSet {
        &self.isolated
    }

    /// Every NUMA node, those without CPUs included, ascending by id.
    #[must_use]
    pub fn nodes(&self) -> &[NumaNode] {
        &self.nodes
    }

    /// Ids of all NUMA nodes, those without CPUs included.
    #[must_use]
    pub fn node_mask(&self) -> NumaMask {
        let single = |id| NumaMask::single(id).unwrap_or(NumaMask::EMPTY);
        self.nodes.iter().fold(NumaMask::EMPTY, |mask, node| mask.union(single(node.id)))
    }

    /// Where an online CPU is.
    #[must_use]
    pub fn place(&self, cpu: u32) -> Option<CpuPlace> {
        self.places.get(cpu as usize).copied().flatten()
    }

    /// Positions of a CPU's units in the lists below; meaningless for a CPU that is not online.
    pub(crate) fn index(&self, cpu: u32) -> CpuIndex {
        self.indexes.get(cpu as usize).copied().unwrap_or_default()
    }

    /// Which unit lies in which.
    pub(crate) const fn links(&self) -> &Links {
        &self.links
    }

    /// Physical cores, ascending by id.
    #[must_use]
    pub fn cores(&self) -> &[Unit] {
        &self.cores
    }

    /// Uncore caches (or sockets in their place), ascending by id.
    #[must_use]
    pub fn uncores(&self) -> &[Unit] {
        &self.uncores
    }

    /// Sockets with online CPUs, ascending by id.
    #[must_use]
    pub fn sockets(&self) -> &[Unit] {
        &self.sockets
    }

    /// NUMA nodes with online CPUs, ascending by id.
    #[must_use]
    pub fn numas(&self) -> &[Unit] {
        &self.numas
    }

    /// Number of online CPUs.
    #[must_use]
    pub fn num_cpus(&self) -> usize {
        self.online.len()
    }

    /// Number of cores.
    #[must_use]
    pub const fn num_cores(&self) -> usize {
        self.cores.len()
    }

    /// Number of sockets as the machine tells it; may differ from `sockets().len()`.
    #[must_use]
    pub const fn num_sockets(&self) -> usize {
        self.num_sockets
    }

    /// Number of NUMA nodes with CPUs.
    #[must_use]
    pub const fn num_numas(&self) -> usize {
        self.numas.len()
    }

    /// CPUs per core: the average, rounded down. The policies of the kubelet decide by it.
    #[must_use]
    pub fn cpus_per_core(&self) -> usize {
        self.num_cpus().checked_div(self.num_cores()).unwrap_or(0)
    }

    /// CPUs per socket: the average, rounded down.
    #[must_use]
    pub fn cpus_per_socket(&self) -> usize {
        self.num_cpus().checked_div(self.num_sockets).unwrap_or(0)
    }

    /// CPUs per uncore cache: the average, rounded down.
    #[must_use]
    pub fn cpus_per_uncore(&self) -> usize {
        self.num_cpus().checked_div(self.uncores.len()).unwrap_or(0)
    }

    /// CPUs of the NUMA nodes in the mask.
    #[must_use]
    pub fn cpus_in_numas(&self, mask: NumaMask) -> CpuSet {
        let mut cpus = CpuSet::new();
        for unit in self.numas.iter().filter(|unit| mask.contains(unit.id())) {
            cpus.insert_all(unit.cpus());
        }
        cpus
    }

    /// CPUs of every socket that has a CPU on a NUMA node of the mask.
    #[must_use]
    pub fn cpus_in_sockets_of(&self, mask: NumaMask) -> CpuSet {
        let inside = self.cpus_in_numas(mask);
        let mut cpus = CpuSet::new();
        for unit in self.sockets.iter().filter(|unit| !unit.cpus().is_disjoint(&inside)) {
            cpus.insert_all(unit.cpus());
        }
        cpus
    }

    /// The given CPUs with all their sibling threads.
    #[must_use]
    pub fn with_siblings(&self, cpus: &CpuSet) -> CpuSet {
        let mut all = CpuSet::new();
        for place in cpus.iter().filter_map(|cpu| self.place(cpu)) {
            if let Ok(index) = self.cores.binary_search_by_key(&place.core, Unit::id)
                && let Some(core) = self.cores.get(index)
            {
                all.insert_all(core.cpus());
            }
        }
        all
    }
}

/// Names every core by its lowest online CPU and fills in the cache.
fn place_cpus(cpus: &[CpuInfo], nodes: &[NumaNode]) -> Result<BTreeMap<u32, CpuPlace>, MachineError> {
    let mut lowest = BTreeMap::new();
    for info in cpus {
        let core: &mut u32 = lowest.entry((info.numa, info.socket, info.core)).or_insert(info.cpu);
        *core = info.cpu.min(*core);
    }
    let mut places = BTreeMap::new();
    for info in cpus {
        if info.cpu >= MAX_CPUS {
            return Err(MachineError::CpuTooHigh(info.cpu));
        }
        if nodes.binary_search_by_key(&info.numa, |node| node.id).is_err() {
            return Err(MachineError::UnknownNode { cpu: info.cpu, numa: info.numa });
        }
        let core = lowest.get(&(info.numa, info.socket, info.core)).copied().unwrap_or(info.cpu);
        let uncore = info.uncore_cache.unwrap_or(info.socket);
        let place = CpuPlace { numa: info.numa, socket: info.socket, core, uncore };
        if places.insert(info.cpu, place).is_some() {
            return Err(MachineError::DuplicateCpu(info.cpu));
        }
    }
    if places.is_empty() { Err(MachineError::NoCpus) } else { Ok(places) }
}

#[cfg(test)]
pub(crate) mod shape;
#[cfg(test)]
mod tests;
