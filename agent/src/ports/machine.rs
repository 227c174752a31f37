//! The hardware of the node.

use trimtab_domain::cpuset::{CpuSet, CpuSetError};
use trimtab_domain::topology::{CpuInfo, NumaNode};

use super::FileError;

/// Where the topology comes from.
pub trait MachineSource: Send + Sync + 'static {
    /// Reads CPUs, caches, NUMA nodes and their memory.
    ///
    /// # Errors
    /// [`TopologyError`] when the CPUs cannot be told; what is merely missing (caches, memory, distances) is left out,
    /// as the kubelet does.
    fn read(&self) -> Result<Hardware, TopologyError>;
}

/// Hardware as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hardware {
    /// Online CPUs.
    pub cpus: Vec<CpuInfo>,
    /// NUMA nodes, those without CPUs among them; without NUMA support one per package, with no memory.
    pub nodes: Vec<NumaNode>,
    /// Sockets that `/proc/cpuinfo` tells; absent where it tells none.
    pub sockets: Option<usize>,
    /// CPUs that exist and are offline.
    pub offline: CpuSet,
    /// CPUs that the kernel isolates (`isolcpus=`).
    pub isolated: CpuSet,
    /// All memory in bytes (`/proc/meminfo`, `MemTotal`).
    pub memory_bytes: u64,
}

/// The topology could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file or directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// A list of CPUs is none.
    #[error("{path} holds {text:?}, which is no list of CPUs")]
    CpuList {
        /// The file.
        path: String,
        /// Its text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: CpuSetError,
    },
    /// A number is none.
    #[error("{path} holds {text:?}, which is no number")]
    Number {
        /// The file.
        path: String,
        /// Its text.
        text: String,
    },
}
