//! The book: memory by NUMA node and type, and the blocks of each container.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MemoryConfigError;
use crate::hint::NumaMask;
use crate::quantity::Quantity;
use crate::topology::Machine;
use crate::workload::{PodUid, ResourceName};

/// Memory of one type that a container has on a set of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The nodes; how much lies on which is not known.
    pub nodes: NumaMask,
    /// `memory` or `hugepages-<size>`.
    pub kind: ResourceName,
    /// Bytes; for an init container what later containers have not taken over.
    pub bytes: u64,
}

/// One type of memory on one NUMA node; all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryTable {
    /// All of it.
    pub total: u64,
    /// Kept from pods.
    pub system_reserved: u64,
    /// Offered to pods.
    pub allocatable: u64,
    /// Given to pods.
    pub reserved: u64,
    /// Not given yet.
    pub free: u64,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMemory {
    /// Id.
    pub id: u32,
    /// How many blocks touch the node; memory and one size of huge pages count two.
    pub assignments: u64,
    /// The group of the node; itself if it is in none.
    pub group: NumaMask,
    /// By the order of [`MemoryState::kinds`]; absent where the node does not know the type.
    tables: Vec<Option<MemoryTable>>,
}

/// The book of a machine, and who has what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryState {
    pub(super) kinds: Arc<[ResourceName]>,
    pub(super) nodes: Vec<NodeMemory>,
    /// A container that asked for nothing has an empty list (only with `PodLevelResourceManagers`: every other
    /// Guaranteed container asks for memory).
    pub(super) blocks: BTreeMap<PodUid, BTreeMap<String, Vec<Block>>>,
    /// Blocks of pods as a whole: only these are charged, those of their containers are parts of them.
    pub(super) pods: BTreeMap<PodUid, Vec<Block>>,
}

impl Default for MemoryState {
    fn default() -> Self {
        Self { kinds: Arc::from([]), nodes: Vec::new(), blocks: BTreeMap::new(), pods: BTreeMap::new() }
    }
}

/// Bytes by NUMA node and type.
pub(crate) type PerNode = BTreeMap<u32, BTreeMap<ResourceName, u64>>;

impl MemoryState {
    /// The book of a machine without pods.
    pub(super) fn of_machine(machine: &Machine, reserved: &PerNode) -> Self {
        let pages = machine.nodes().iter().flat_map(|node| &node.hugepages);
        let mut kinds: Vec<_> = pages.map(|pages| hugepage_name(pages.page_size_bytes)).collect();
        kinds.push(ResourceName::Memory);
        kinds.sort();
        kinds.dedup();
        let mut nodes = Vec::with_capacity(machine.nodes().len());
        for node in machine.nodes() {
            let kept = |kind: &ResourceName| reserved.get(&node.id).and_then(|r| r.get(kind)).copied().unwrap_or(0);
            let mut tables = vec![None; kinds.len()];
            let mut in_pages: u64 = 0;
            for pages in &node.hugepages {
                let kind = hugepage_name(pages.page_size_bytes);
                let total = pages.page_size_bytes.saturating_mul(pages.count);
                in_pages = in_pages.saturating_add(total);
                let table = MemoryTable::new(total, kept(&kind), 0);
                set(&mut tables, &kinds, &kind, table);
            }
            let memory = ResourceName::Memory;
            let table = MemoryTable::new(node.memory_bytes, kept(&memory), in_pages);
            set(&mut tables, &kinds, &memory, table);
            let group = NumaMask::single(node.id).unwrap_or_default();
            nodes.push(NodeMemory { id: node.id, assignments: 0, group, tables });
        }
        Self { kinds: kinds.into(), nodes, blocks: BTreeMap::new(), pods: BTreeMap::new() }
    }

    /// Refuses a node of which more is taken than it has, so that its allocatable amount has wrapped round.
    pub(super) fn check_sizes(&self) -> Result<(), MemoryConfigError> {
        for node in &self.nodes {
            for (index, kind) in self.kinds.iter().enumerate() {
                let Some(table) = node.table(index) else { continue };
                if table.allocatable > table.total {
                    let taken = table.total.wrapping_sub(table.allocatable);
                    let (kind, total) = (kind.clone(), table.total);
                    return Err(MemoryConfigError::OverReserved { node: node.id, kind, total, taken });
                }
            }
        }
        Ok(())
    }

    /// Types of memory of the machine, sorted by name.
    #[must_use]
    pub fn kinds(&self) -> &[ResourceName] {
        &self.kinds
    }

    /// NUMA nodes, ascending by id.
    #[must_use]
    pub fn nodes(&self) -> &[NodeMemory] {
        &self.nodes
    }

    /// The amounts of one type on one node.
    #[must_use]
    pub fn table(&self, node: u32, kind: &ResourceName) -> Option<MemoryTable> {
        self.nodes.iter().find(|n| n.id == node)?.table(self.kind_index(kind)?)
    }

    /// The blocks of a container, in the order in which they were recorded; never empty.
    #[must_use]
    pub fn blocks_of(&self, pod: &PodUid, container: &str) -> Option<&[Block]> {
        self.blocks.get(pod)?.get(container).map(Vec::as_slice).filter(|blocks| !blocks.is_empty())
    }

    /// The blocks of a pod as a whole; absent for nearly all pods.
    #[must_use]
    pub fn pod_blocks(&self, pod: &PodUid) -> Option<&[Block]> {
        self.pods.get(pod).map(Vec::as_slice)
    }

    /// Every pod that has blocks as a whole.
    pub fn pods(&self) -> impl Iterator<Item = (&PodUid, &[Block])> {
        self.pods.iter().map(|(pod, blocks)| (pod, blocks.as_slice()))
    }

    /// Names of the containers of a pod that have blocks.
    pub fn containers_of(&self, pod: &PodUid) -> impl Iterator<Item = &str> {
        self.blocks.get(pod).into_iter().flat_map(|containers| containers.keys().map(String::as_str))
    }

    /// Every container with its blocks, in the order of pods and names; one that asked for nothing has none.
    pub fn iter(&self) -> impl Iterator<Item = (&PodUid, &str, &[Block])> {
        self.blocks.iter().flat_map(|(pod, containers)| {
            containers.iter().map(move |(name, blocks)| (pod, name.as_str(), blocks.as_slice()))
        })
    }

    /// Ids of all nodes.
    pub(super) fn node_mask(&self) -> NumaMask {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub(super) fn kind_index(&self, kind: &ResourceName) -> Option<usize> {
        self.kinds.iter().position(|known| known == kind)
    }

    /// Free bytes of a type on a node set.
    pub(super) fn free(&self, nodes: NumaMask, kind: &ResourceName) -> u64 {
        let Some(kind) = self.kind_index(kind) else { return 0 };
        let tables = self.nodes.iter().filter(|n| nodes.contains(n.id)).filter_map(|n| n.table(kind));
        tables.fold(0, |sum: u64, table| sum.wrapping_add(table.free))
    }

    /// True if memory on these nodes would mix a group with something else. A single node is never refused here, though
    /// it may be in a group: the kubelet does not look either.
    pub(super) fn violates_group(&self, nodes: NumaMask) -> bool {
        let members = self.nodes.iter().filter(|n| nodes.contains(n.id));
        nodes.len() > 1 && members.filter(|n| n.assignments > 0).any(|n| n.group != nodes)
    }

    /// Takes memory from the nodes, the lowest first, as far as they have it; they become one group.
    pub(super) fn charge(&mut self, nodes: NumaMask, kind: &ResourceName, bytes: u64) {
        let kind = self.kind_index(kind);
        let mut left = bytes;
        for node in self.nodes.iter_mut().filter(|n| nodes.contains(n.id)) {
            node.assignments += 1;
            node.group = nodes;
            if let Some(table) = kind.and_then(|kind| node.table_mut(kind)) {
                let taken = left.min(table.free);
                table.free -= taken;
                table.reserved = table.reserved.saturating_add(taken);
                left -= taken;
            }
        }
    }

    /// Takes its blocks from a container and gives them back; if they were parts of the pod's own blocks, these are given
    /// back with the last container.
    pub(super) fn release(&mut self, pod: &PodUid, container: &str) {
        let Some(containers) = self.blocks.get_mut(pod) else { return };
        let Some(blocks) = containers.remove(container) else { return };
        let last = containers.is_empty();
        if last {
            self.blocks.remove(pod);
        }
        if !self.pods.contains_key(pod) {
            self.give_back(blocks);
        } else if last {
            let whole = self.pods.remove(pod);
            self.give_back(whole.unwrap_or_default());
        }
    }

    /// To the lowest node first, whichever node was charged.
    fn give_back(&mut self, blocks: Vec<Block>) {
        for block in blocks {
            let kind = self.kind_index(&block.kind);
            let mut left = block.bytes;
            for node in self.nodes.iter_mut().filter(|n| block.nodes.contains(n.id)) {
                node.assignments = node.assignments.saturating_sub(1);
                if node.assignments == 0 {
                    node.group = NumaMask::single(node.id).unwrap_or_default();
                }
                if let Some(table) = kind.and_then(|kind| node.table_mut(kind)) {
                    let given = left.min(table.reserved);
                    table.reserved -= given;
                    table.free = table.free.saturating_add(given);
                    left -= given;
                }
            }
        }
    }

    /// Records blocks; their memory must have been charged.
    pub(super) fn insert(&mut self, pod: &PodUid, container: &str, blocks: Vec<Block>) {
        self.blocks.entry(pod.clone()).or_default().insert(container.to_owned(), blocks);
    }

    /// Records blocks of a pod as a whole; their memory must have been charged.
    pub(super) fn insert_pod(&mut self, pod: &PodUid, blocks: Vec<Block>) {
        self.pods.insert(pod.clone(), blocks);
    }

    /// Takes what a later container uses again off the blocks of an init container, so that nothing counts twice.
    pub(super) fn shrink(&mut self, pod: &PodUid, container: &str, used: &Block, left: &mut u64) {
        let blocks = self.blocks.get_mut(pod).and_then(|containers| containers.get_mut(container));
        for block in blocks.into_iter().flatten().filter(|b| b.kind == used.kind && b.nodes == used.nodes) {
            let taken = block.bytes.min(*left);
            block.bytes -= taken;
            *left -= taken;
        }
    }

    /// Replaces the amounts given out and free on a node: those of a restored state may be spread otherwise.
    pub(super) fn set_spread(&mut self, node: u32, kind: &ResourceName, (reserved, free): (u64, u64)) {
        let kind = self.kind_index(kind);
        let node = self.nodes.iter_mut().find(|n| n.id == node);
        if let Some(table) = node.zip(kind).and_then(|(node, kind)| node.table_mut(kind)) {
            (table.reserved, table.free) = (reserved, free);
        }
    }
}

impl NodeMemory {
    /// The amounts of one type, by its place in [`MemoryState::kinds`].
    #[must_use]
    pub fn table(&self, kind: usize) -> Option<MemoryTable> {
        self.tables.get(kind).copied().flatten()
    }

    fn table_mut(&mut self, kind: usize) -> Option<&mut MemoryTable> {
        self.tables.get_mut(kind)?.as_mut()
    }
}

impl MemoryTable {
    const fn new(total: u64, system_reserved: u64, in_pages: u64) -> Self {
        let allocatable = total.wrapping_sub(system_reserved).wrapping_sub(in_pages);
        Self { total, system_reserved, allocatable, reserved: 0, free: allocatable }
    }
}

fn set(tables: &mut [Option<MemoryTable>], kinds: &[ResourceName], kind: &ResourceName, table: MemoryTable) {
    if let Some(slot) = kinds.iter().position(|known| known == kind).and_then(|index| tables.get_mut(index)) {
        *slot = Some(table);
    }
}

/// `hugepages-<size>`, the size as a binary quantity.
fn hugepage_name(page_size_bytes: u64) -> ResourceName {
    let size = Quantity::from_bytes(i64::try_from(page_size_bytes).unwrap_or(i64::MAX));
    ResourceName::from(format!("hugepages-{size}").as_str())
}
