//! Settings of the memory manager, and what the static policy makes of them.

use std::sync::Arc;

use super::masks::MaskOrder;
use super::state::MemoryState;
use crate::reserved_memory::{self, MemoryReservation, ReservedMemoryError};
use crate::topology::Machine;
use crate::workload::ResourceName;

/// Settings of the memory manager, in the words of the kubelet configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryConfig {
    /// `memoryManagerPolicy`: `None` or `Static`.
    pub policy: String,
    /// `reservedMemory`: what each NUMA node keeps from pods.
    pub reserved: Vec<MemoryReservation>,
    /// What the node as a whole keeps from pods; must agree with `reserved`, type by type.
    pub node_reservation: reserved_memory::ResourceList,
    /// Gate `PodLevelResourceManagers` (alpha): pods with resources of their own have memory too.
    pub pod_level: bool,
    /// What to make of a node that has less than what is reserved on it.
    pub over_reserved: OverReserved,
}

/// What to make of a NUMA node that has less memory than what is reserved and in huge pages on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverReserved {
    /// The allocatable amount wraps round to a huge one, as in the kubelet: memory that does not exist is handed out.
    #[default]
    Wraps,
    /// The manager is not made.
    Refused,
}

/// The memory manager cannot be made; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryConfigError {
    /// Neither `None` nor `Static`.
    #[error("unknown policy: {0:?}")]
    UnknownPolicy(String),
    /// A policy of Windows.
    #[error("policy \"BestEffort\" is not available for platform \"linux\"")]
    NotOnLinux,
    /// The reservations do not agree with the machine or with one another.
    #[error(transparent)]
    Reserved(#[from] ReservedMemoryError),
    /// The static policy without reserved memory.
    #[error("[memorymanager] you should specify the system reserved memory")]
    NothingReserved,
    /// More is reserved, and bound in huge pages, than the node has, and [`OverReserved::Refused`].
    #[error(
        "[memorymanager] NUMA node {node} has {total} bytes of {kind}, less than the {taken} bytes that are reserved or in huge pages"
    )]
    OverReserved {
        /// NUMA node.
        node: u32,
        /// Type of memory.
        kind: ResourceName,
        /// Bytes that the node has.
        total: u64,
        /// Bytes that are taken from it.
        taken: u64,
    },
}

/// What the static policy needs to know beside the state.
#[derive(Debug, Clone)]
pub(super) struct StaticPolicy {
    /// The book of the machine without any pod.
    pub(super) empty: MemoryState,
    pub(super) order: Arc<MaskOrder>,
    /// Pods with resources of their own have memory too.
    pub(super) pod_level: bool,
}

impl StaticPolicy {
    pub(super) fn new(machine: &Machine, config: &MemoryConfig) -> Result<Self, MemoryConfigError> {
        let reserved = reserved_memory::per_node(machine, &config.reserved, &config.node_reservation)?;
        let of_memory = reserved.values().filter_map(|node| node.get(&ResourceName::Memory));
        // The kubelet keeps negative reservations as huge numbers, which wrap in its sums.
        if of_memory.fold(0_u64, |sum, bytes| sum.wrapping_add(*bytes)) == 0 {
            return Err(MemoryConfigError::NothingReserved);
        }
        let empty = MemoryState::of_machine(machine, &reserved);
        if config.over_reserved == OverReserved::Refused {
            empty.check_sizes()?;
        }
        let order = Arc::new(MaskOrder::new(empty.nodes().iter().map(|node| node.id)));
        Ok(Self { empty, order, pod_level: config.pod_level })
    }
}
