//! The machine as the answers show it: places of the CPUs, and the book of memory of whoever keeps one.

use std::collections::BTreeMap;

use trimtab_domain::memory::MemoryTable;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::quantity::Quantity;
use trimtab_domain::topology::NumaNode;
use trimtab_domain::workload::{PodUid, ResourceName};

use crate::ports::kubelet::KubeletBlock;
use crate::ports::machine::Hardware;
use crate::reconcile::node_view::{CpuView, MachineView, MemoryBook, MemoryUse, NumaNodeView};

/// Blocks of containers in the record of another manager.
type Recorded = BTreeMap<(PodUid, String), Vec<KubeletBlock>>;

/// Makes the view. `managers` keep the book of memory; `recorded` are the blocks that fill it where it is not their own.
pub(super) fn machine(
    hardware: &Hardware,
    managers: Option<&ResourceManagers>,
    recorded: Option<&Recorded>,
) -> MachineView {
    let mut cpus: Vec<CpuView> = hardware
        .cpus
        .iter()
        .map(|info| CpuView {
            cpu: info.cpu,
            core: info.core,
            socket: info.socket,
            numa_node: info.numa,
            uncore_cache: info.uncore_cache,
        })
        .collect();
    cpus.sort_by_key(|view| view.cpu);
    let isolated = cpus.iter().map(|view| view.cpu).filter(|cpu| hardware.isolated.contains(*cpu)).collect();
    let mut numa_nodes: Vec<NumaNodeView> = hardware.nodes.iter().map(|node| numa_node(node, managers)).collect();
    numa_nodes.sort_by_key(|node| node.id);
    for block in recorded.into_iter().flat_map(BTreeMap::values).flatten() {
        charge(&mut numa_nodes, block);
    }
    MachineView { cpus, offline_cpus: hardware.offline.iter().collect(), isolated_cpus: isolated, numa_nodes }
}

fn numa_node(node: &NumaNode, managers: Option<&ResourceManagers>) -> NumaNodeView {
    let memory = (ResourceName::Memory, node.memory_bytes);
    let pages = node.hugepages.iter().map(|pages| {
        let size = Quantity::from_bytes(i64::try_from(pages.page_size_bytes).unwrap_or(i64::MAX));
        let name = ResourceName::from(format!("hugepages-{size}").as_str());
        (name, pages.page_size_bytes.saturating_mul(pages.count))
    });
    let memory = std::iter::once(memory).chain(pages).map(|(kind, total_bytes)| {
        let table = managers.and_then(|managers| managers.memory().state().table(node.id, &kind));
        MemoryUse { memory_type: kind.to_string(), total_bytes, book: table.map(|table| book(table, total_bytes)) }
    });
    NumaNodeView { id: node.id, memory: memory.collect() }
}

/// The tables follow the kubelet's unsigned arithmetic, which wraps where more is reserved than there is.
fn book(table: MemoryTable, total: u64) -> MemoryBook {
    let allocatable = if table.allocatable > total { 0 } else { table.allocatable };
    MemoryBook {
        reserved_bytes: table.system_reserved.min(total),
        allocatable_bytes: allocatable,
        held_bytes: table.reserved.min(allocatable),
    }
}

/// Charges a block of several nodes to the lowest node first, as the kubelet does.
fn charge(nodes: &mut [NumaNodeView], block: &KubeletBlock) {
    let mut left = block.size_bytes;
    for node in nodes.iter_mut().filter(|node| block.nodes.contains(&node.id)) {
        let kinds = node.memory.iter_mut().filter(|kind| kind.memory_type == block.memory_type);
        for book in kinds.filter_map(|kind| kind.book.as_mut()) {
            let taken = left.min(book.allocatable_bytes - book.held_bytes);
            book.held_bytes += taken;
            left -= taken;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

    use super::*;

    fn node(id: u32, book: Option<MemoryBook>) -> NumaNodeView {
        NumaNodeView { id, memory: vec![MemoryUse { memory_type: "memory".into(), total_bytes: 16, book }] }
    }

    fn held(nodes: &[NumaNodeView]) -> Vec<Option<u64>> {
        nodes.iter().map(|node| node.memory.first().unwrap().book.map(|book| book.held_bytes)).collect()
    }

    #[test]
    fn a_block_of_two_nodes_fills_the_lower_one_first() {
        let empty = MemoryBook { reserved_bytes: 1, allocatable_bytes: 10, held_bytes: 0 };
        let mut nodes = vec![node(0, Some(empty)), node(1, Some(empty)), node(2, None)];
        let block = |size_bytes, nodes: &[u32], memory_type: &str| KubeletBlock {
            nodes: nodes.to_vec(),
            memory_type: memory_type.into(),
            size_bytes,
        };
        charge(&mut nodes, &block(12, &[0, 1], "memory"));
        assert_eq!(held(&nodes), [Some(10), Some(2), None]);
        charge(&mut nodes, &block(100, &[1, 2], "memory"));
        charge(&mut nodes, &block(1, &[0], "hugepages-1Gi"));
        assert_eq!(held(&nodes), [Some(10), Some(10), None], "never more than is offered");
    }

    #[test]
    fn amounts_that_wrapped_are_shown_as_nothing_offered() {
        let table = MemoryTable { total: 4, system_reserved: 6, allocatable: u64::MAX - 1, reserved: 0, free: 0 };
        assert_eq!(book(table, 4), MemoryBook { reserved_bytes: 4, allocatable_bytes: 0, held_bytes: 0 });
    }

    #[test]
    fn without_managers_totals_are_shown_and_no_book() {
        let nodes = vec![NumaNode {
            id: 0,
            memory_bytes: 8 << 30,
            hugepages: vec![trimtab_domain::topology::HugePages { page_size_bytes: 2 << 20, count: 3 }],
            distances: Vec::new(),
        }];
        let hardware = Hardware { nodes, offline: [3].into_iter().collect(), ..Hardware::default() };
        let view = machine(&hardware, None, None);
        let kinds: Vec<_> = view.numa_nodes.iter().flat_map(|node| &node.memory).collect();
        let kinds: Vec<_> = kinds.iter().map(|kind| (kind.memory_type.as_str(), kind.total_bytes, kind.book)).collect();
        assert_eq!(kinds, [("memory", 8 << 30, None), ("hugepages-2Mi", 6 << 20, None)]);
        assert_eq!(view.offline_cpus, [3]);
    }
}
