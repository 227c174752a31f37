//! The machine and its use as a message.

use trimtab_proto::node::v1alpha1 as wire;

use crate::picture::{Cpu, Holder, Topology, Usage};
use crate::reconcile::node_view::{MemoryUse, NumaNodeView};

pub(super) fn to_wire(topology: &Topology) -> wire::Topology {
    let holder = |holder: &Holder| wire::CpuHolder {
        namespace: holder.namespace.clone(),
        pod: holder.pod.clone(),
        container: holder.container.clone(),
        mispinned: holder.mispinned.clone(),
        waiting: holder.waiting,
    };
    wire::Topology {
        node: topology.node.clone(),
        cpus: topology.cpus.iter().map(to_cpu).collect(),
        offline_cpus: topology.offline_cpus.clone(),
        numa_nodes: topology.numa_nodes.iter().map(to_node).collect(),
        holders: topology.holders.iter().map(holder).collect(),
        sharing_containers: topology.sharing_containers,
        observe_only: topology.observe_only.clone(),
        mispinned_sharing: topology.mispinned_sharing.iter().map(holder).collect(),
    }
}

fn to_cpu(cpu: &Cpu) -> wire::Cpu {
    let usage = match cpu.usage {
        Usage::Exclusive => wire::CpuUsage::Exclusive,
        Usage::Free => wire::CpuUsage::Free,
        Usage::Shared => wire::CpuUsage::Shared,
        Usage::Reserved => wire::CpuUsage::Reserved,
        Usage::Other => wire::CpuUsage::Other,
    };
    wire::Cpu {
        cpu: cpu.place.cpu,
        core: cpu.place.core,
        socket: cpu.place.socket,
        numa_node: cpu.place.numa_node,
        uncore_cache: cpu.place.uncore_cache,
        usage: usage.into(),
        isolated: cpu.isolated,
        // There are fewer containers with CPUs than CPUs.
        holders: cpu.holders.iter().filter_map(|holder| u32::try_from(*holder).ok()).collect(),
    }
}

fn to_node(node: &NumaNodeView) -> wire::NumaNode {
    wire::NumaNode { id: node.id, memory: node.memory.iter().map(to_memory).collect() }
}

fn to_memory(kind: &MemoryUse) -> wire::MemoryUse {
    let book = kind.book.map(|book| wire::MemoryBook {
        reserved_bytes: book.reserved_bytes,
        allocatable_bytes: book.allocatable_bytes,
        held_bytes: book.held_bytes,
    });
    wire::MemoryUse { memory_type: kind.memory_type.clone(), total_bytes: kind.total_bytes, book }
}
