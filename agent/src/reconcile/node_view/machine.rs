//! The machine that the workloads share: where each CPU is, and what is known of the memory of each NUMA node.

/// CPUs and memory of the node; without CPUs where no pass could read them yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineView {
    /// Online CPUs, ascending by number.
    pub cpus: Vec<CpuView>,
    /// CPUs that exist and are offline, ascending.
    pub offline_cpus: Vec<u32>,
    /// Online CPUs that the kernel keeps free of ordinary tasks (`isolcpus=`), ascending.
    pub isolated_cpus: Vec<u32>,
    /// NUMA nodes, those without CPUs among them, ascending by id.
    pub numa_nodes: Vec<NumaNodeView>,
}

/// Where one online CPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuView {
    /// Number of the logical CPU.
    pub cpu: u32,
    /// Label of its core; unique together with socket and NUMA node.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its NUMA node.
    pub numa_node: u32,
    /// Id of its last-level cache; `None`: the kernel tells of none that only a part of the socket shares.
    pub uncore_cache: Option<u32>,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumaNodeView {
    /// Its id.
    pub id: u32,
    /// Its memory by type: `memory` first, then huge pages by size.
    pub memory: Vec<MemoryUse>,
}

/// Memory of one type on one NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryUse {
    /// `memory`, `hugepages-2Mi` …
    pub memory_type: String,
    /// All of it in bytes; for `memory` huge pages included.
    pub total_bytes: u64,
    /// Who has how much; `None`: nobody keeps a book, as under policy `None`.
    pub book: Option<MemoryBook>,
}

/// What a memory manager has written down about one type of memory on one NUMA node; all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryBook {
    /// Kept from pods.
    pub reserved_bytes: u64,
    /// Offered to pods, held or not.
    pub allocatable_bytes: u64,
    /// Held by containers; at most what is offered.
    pub held_bytes: u64,
}
