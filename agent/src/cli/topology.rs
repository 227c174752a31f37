//! What `topology` prints.

use serde::Serialize;
use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::node::v1alpha1 as wire;

use super::output::{self, Detail};
use crate::picture::{Cpu, Holder, Topology, Usage, text};
use crate::reconcile::node_view::{CpuView, MemoryBook, MemoryUse, NumaNodeView};

/// The machine and who uses it, as JSON and YAML show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologyData {
    /// Name of the node.
    pub node: String,
    /// Online CPUs, ascending; empty: not read yet.
    pub cpus: Vec<CpuData>,
    /// CPUs that exist and are offline, list form.
    pub offline_cpus: String,
    /// NUMA nodes, ascending by id.
    pub numa_nodes: Vec<NumaNodeData>,
    /// Containers that hold CPUs.
    pub holders: Vec<HolderData>,
    /// Containers that run in the shared pool.
    pub sharing_containers: u64,
    /// Those of them that do not run as ordered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mispinned_sharing: Vec<HolderData>,
    /// Why pins are only observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe_only: Option<String>,
}

/// One online CPU.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuData {
    /// Its number.
    pub cpu: u32,
    /// Label of its core; unique together with socket and NUMA node.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its NUMA node.
    pub numa_node: u32,
    /// Its last-level cache, if only a part of the socket shares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncore_cache: Option<u32>,
    /// `exclusive`, `free`, `shared`, `reserved` or `other`.
    pub usage: &'static str,
    /// Kept free of ordinary tasks by the kernel.
    pub isolated: bool,
    /// Positions in `holders`, counted from 0.
    pub holders: Vec<usize>,
}

/// A container that holds CPUs.
#[derive(Debug, Serialize)]
pub struct HolderData {
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// Its CPUs, list form.
    pub cpus: String,
    /// Why it does not run as ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mispinned: Option<String>,
    /// True while it does not run and keeps its CPUs for its next start; absent: it runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}

/// One NUMA node.
#[derive(Debug, Serialize)]
pub struct NumaNodeData {
    /// Its id.
    pub id: u32,
    /// Its memory by type.
    pub memory: Vec<MemoryData>,
}

/// Memory of one type; the last three are absent where nobody keeps a book.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryData {
    /// `memory`, `hugepages-2Mi` …
    pub memory_type: String,
    /// All of it; for `memory` huge pages included.
    pub total_bytes: u64,
    /// Kept from pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_bytes: Option<u64>,
    /// Offered to pods, held or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocatable_bytes: Option<u64>,
    /// Held by containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_bytes: Option<u64>,
}

impl From<&Topology> for TopologyData {
    fn from(topology: &Topology) -> Self {
        let data = |holder: &Holder, cpus: String| HolderData {
            namespace: holder.namespace.clone(),
            pod: holder.pod.clone(),
            container: holder.container.clone(),
            cpus,
            mispinned: holder.mispinned.clone(),
            waiting: holder.waiting,
        };
        let holders = topology.holders.iter().enumerate();
        let holders = holders.map(|(index, holder)| data(holder, topology.cpus_of(index).to_string()));
        Self {
            node: topology.node.clone(),
            cpus: topology.cpus.iter().map(CpuData::from).collect(),
            offline_cpus: topology.offline_cpus.iter().copied().collect::<CpuSet>().to_string(),
            numa_nodes: topology.numa_nodes.iter().map(NumaNodeData::from).collect(),
            holders: holders.collect(),
            sharing_containers: topology.sharing_containers,
            mispinned_sharing: topology.mispinned_sharing.iter().map(|holder| data(holder, String::new())).collect(),
            observe_only: topology.observe_only.clone(),
        }
    }
}

impl From<&Cpu> for CpuData {
    fn from(cpu: &Cpu) -> Self {
        let CpuView { cpu: number, core, socket, numa_node, uncore_cache } = cpu.place;
        let usage = cpu.usage.as_str();
        let holders = cpu.holders.clone();
        Self { cpu: number, core, socket, numa_node, uncore_cache, usage, isolated: cpu.isolated, holders }
    }
}

impl From<&NumaNodeView> for NumaNodeData {
    fn from(node: &NumaNodeView) -> Self {
        let memory = node.memory.iter().map(|kind| MemoryData {
            memory_type: kind.memory_type.clone(),
            total_bytes: kind.total_bytes,
            reserved_bytes: kind.book.map(|book| book.reserved_bytes),
            allocatable_bytes: kind.book.map(|book| book.allocatable_bytes),
            held_bytes: kind.book.map(|book| book.held_bytes),
        });
        Self { id: node.id, memory: memory.collect() }
    }
}

/// The facts of an answer. What a later version of the agent might add is left out; positions that lead nowhere too.
#[must_use]
pub fn from_wire(answer: wire::Topology) -> Topology {
    let holder = |holder: wire::CpuHolder| Holder {
        namespace: holder.namespace,
        pod: holder.pod,
        container: holder.container,
        mispinned: holder.mispinned,
        waiting: holder.waiting,
    };
    let holders: Vec<Holder> = answer.holders.into_iter().map(holder).collect();
    Topology {
        node: answer.node,
        cpus: answer.cpus.iter().map(|cpu| to_cpu(cpu, holders.len())).collect(),
        offline_cpus: answer.offline_cpus,
        numa_nodes: answer.numa_nodes.into_iter().map(to_node).collect(),
        holders,
        sharing_containers: answer.sharing_containers,
        mispinned_sharing: answer.mispinned_sharing.into_iter().map(holder).collect(),
        observe_only: answer.observe_only,
    }
}

fn to_cpu(cpu: &wire::Cpu, known: usize) -> Cpu {
    let usage = match cpu.usage() {
        wire::CpuUsage::Exclusive => Usage::Exclusive,
        wire::CpuUsage::Free => Usage::Free,
        wire::CpuUsage::Shared => Usage::Shared,
        wire::CpuUsage::Reserved => Usage::Reserved,
        wire::CpuUsage::Other | wire::CpuUsage::Unspecified => Usage::Other,
    };
    let holders = cpu.holders.iter().filter_map(|holder| usize::try_from(*holder).ok());
    Cpu {
        place: CpuView {
            cpu: cpu.cpu,
            core: cpu.core,
            socket: cpu.socket,
            numa_node: cpu.numa_node,
            uncore_cache: cpu.uncore_cache,
        },
        usage,
        isolated: cpu.isolated,
        holders: holders.filter(|holder| *holder < known).collect(),
    }
}

fn to_node(node: wire::NumaNode) -> NumaNodeView {
    let memory = node.memory.into_iter().map(|kind| MemoryUse {
        memory_type: kind.memory_type,
        total_bytes: kind.total_bytes,
        book: kind.book.map(|book| MemoryBook {
            reserved_bytes: book.reserved_bytes,
            allocatable_bytes: book.allocatable_bytes,
            held_bytes: book.held_bytes,
        }),
    });
    NumaNodeView { id: node.id, memory: memory.collect() }
}

/// Draws for people: as wide as the terminal; if wide, with the number of each CPU.
#[must_use]
pub fn render(topology: &Topology, detail: Detail) -> String {
    let detail = if detail == Detail::Wide { text::Detail::Numbers } else { text::Detail::Marks };
    text::render(topology, output::width(), detail)
}
