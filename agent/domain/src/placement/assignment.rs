//! What a container has, in the words of whoever applies or shows it.

use crate::cpuset::CpuSet;
use crate::hint::{NumaMask, TopologyHint};
use crate::memory::Block;
use crate::workload::PodUid;

/// What one container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its pod.
    pub pod: PodUid,
    /// Its name in the pod.
    pub container: String,
    /// Exclusive CPUs; absent if it runs on the shared CPUs.
    pub cpus: Option<CpuSet>,
    /// NUMA nodes of its memory (`cpuset.mems`); absent if it may use all nodes.
    pub memory_nodes: Option<NumaMask>,
    /// Its memory, block by block; none if it may use all nodes.
    pub memory: Vec<Block>,
    /// The merged hint it was admitted with; absent under policy `none`, and after a restart until the pod is admitted
    /// again.
    pub hint: Option<TopologyHint>,
}

/// What already runs contradicts what is known, so it is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// CPUs that belong to another pod.
    #[error("CPUs {cpus} of container {container} of pod {pod} are already owned by another pod")]
    Owned {
        /// Pod of the container that runs.
        pod: PodUid,
        /// The container that runs.
        container: String,
        /// The CPUs in question.
        cpus: CpuSet,
    },
    /// CPUs of another container of the same pod that runs beside this one.
    #[error("CPUs {cpus} of container {container} of pod {pod} are already owned by another container of the pod")]
    OwnedBySibling {
        /// Pod of the container that runs.
        pod: PodUid,
        /// The container that runs.
        container: String,
        /// The CPUs in question.
        cpus: CpuSet,
    },
    /// CPUs that no container may own: reserved, offline, or all CPUs while the CPU policy is `none`.
    #[error("CPUs {cpus} of container {container} of pod {pod} cannot be owned: they are reserved or not online")]
    NotAllocatable {
        /// Pod of the container that runs.
        pod: PodUid,
        /// The container that runs.
        container: String,
        /// The CPUs in question.
        cpus: CpuSet,
    },
    /// The container is recorded with other CPUs.
    #[error("container {container} of pod {pod} is recorded with CPUs {recorded} and runs on {running}")]
    OtherCpus {
        /// Its pod.
        pod: PodUid,
        /// Its name.
        container: String,
        /// What is recorded.
        recorded: CpuSet,
        /// What was found.
        running: CpuSet,
    },
    /// NUMA nodes that the machine lacks, or that cannot hold the memory beside what is recorded.
    #[error("memory of container {container} of pod {pod} cannot be recorded on NUMA nodes {nodes:?}")]
    Memory {
        /// Pod of the container that runs.
        pod: PodUid,
        /// The container that runs.
        container: String,
        /// The nodes in question.
        nodes: NumaMask,
    },
}
