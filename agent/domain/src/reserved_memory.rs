//! Memory that NUMA nodes keep from pods: the flag, the checks of the configuration, and the sums at a start.

mod flag;

pub use flag::{ReservedMemoryFlag, ReservedMemoryFlagError};

use std::collections::{BTreeMap, BTreeSet};

use crate::quantity::Quantity;
use crate::quote::Quoted;
use crate::topology::Machine;
use crate::workload::ResourceName;

/// Amounts by resource.
pub type ResourceList = BTreeMap<ResourceName, Quantity>;

/// What one NUMA node keeps from pods (`reservedMemory[]`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryReservation {
    /// NUMA node id; the machine may lack it.
    pub numa_node: i32,
    /// Amounts by type: `memory`, `hugepages-<size>`.
    pub limits: ResourceList,
}

/// `reservedMemory` does not agree with the machine or with what the node as a whole reserves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReservedMemoryError {
    /// A NUMA node that the machine lacks.
    #[error("the reserved memory configuration references a NUMA node {0} that does not exist on this machine")]
    UnknownNode(i32),
    /// The sum over the NUMA nodes is not what kube-reserved, system-reserved and the eviction threshold come to.
    #[error(
        "the total amount \"{reserved}\" of type \"{kind}\" is not equal to the value \"{node}\" determined by Node Allocatable feature"
    )]
    OtherSum {
        /// Type of memory.
        kind: ResourceName,
        /// Sum over the NUMA nodes.
        reserved: String,
        /// What the node reserves.
        node: String,
    },
    /// An amount that is no integer of bytes; the spelling is the kubelet's.
    #[error("could not covert a variable of type Quantity to int64")]
    NotAnInteger,
}

/// A fault of `reservedMemory` that needs no machine to be seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ReservedMemoryFault {
    /// Neither `memory` nor huge pages.
    #[error(
        "invalid configuration: the limit type {name} for NUMA node {node} is not supported, only [memory hugepages-<HugePageSize>] is accepted",
        name = Quoted(.kind.as_str())
    )]
    UnknownKind {
        /// NUMA node.
        node: i32,
        /// Type of memory.
        kind: ResourceName,
    },
    /// Nothing is reserved.
    #[error(
        "invalid configuration: reserved memory may not be zero for NUMA node {node} and resource {name}",
        name = Quoted(.kind.as_str())
    )]
    Zero {
        /// NUMA node.
        node: i32,
        /// Type of memory.
        kind: ResourceName,
    },
    /// The same node and type twice.
    #[error(
        "invalid configuration: the reserved memory has a duplicate value for NUMA node {node} and resource {name}",
        name = Quoted(.kind.as_str())
    )]
    Duplicate {
        /// NUMA node.
        node: i32,
        /// Type of memory.
        kind: ResourceName,
    },
}

/// Every fault of the reservations, in their order.
#[must_use]
pub fn faults(reservations: &[MemoryReservation]) -> Vec<ReservedMemoryFault> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for MemoryReservation { numa_node: node, limits } in reservations {
        for (kind, quantity) in limits {
            let (node, named) = (*node, || kind.clone());
            if !is_memory(kind) {
                faults.push(ReservedMemoryFault::UnknownKind { node, kind: named() });
            }
            if quantity.is_zero() {
                faults.push(ReservedMemoryFault::Zero { node, kind: named() });
            }
            if !seen.insert((node, kind)) {
                faults.push(ReservedMemoryFault::Duplicate { node, kind: named() });
            }
        }
    }
    faults
}

/// Bytes that each NUMA node keeps, by type.
///
/// Of several entries for a node and type all count for the sum and the last counts for the node: so does the kubelet.
///
/// # Errors
/// The first disagreement with the machine or with `node`, what the node as a whole reserves.
pub(crate) fn per_node(
    machine: &Machine,
    reservations: &[MemoryReservation],
    node: &ResourceList,
) -> Result<BTreeMap<u32, BTreeMap<ResourceName, u64>>, ReservedMemoryError> {
    check_sums(machine, reservations, node)?;
    let mut bytes: BTreeMap<u32, BTreeMap<ResourceName, u64>> = BTreeMap::new();
    for reservation in reservations {
        let Ok(node) = u32::try_from(reservation.numa_node) else { continue };
        for (kind, quantity) in &reservation.limits {
            let amount = quantity.as_int64().ok_or(ReservedMemoryError::NotAnInteger)?;
            // A negative amount becomes a huge one, as in the kubelet; the configuration check refuses none of them.
            bytes.entry(node).or_default().insert(kind.clone(), amount.cast_unsigned());
        }
    }
    Ok(bytes)
}

fn check_sums(
    machine: &Machine,
    reservations: &[MemoryReservation],
    node: &ResourceList,
) -> Result<(), ReservedMemoryError> {
    let mut sums = ResourceList::new();
    for reservation in reservations {
        let exists = |id: i32| u32::try_from(id).is_ok_and(|id| machine.nodes().iter().any(|node| node.id == id));
        if !exists(reservation.numa_node) {
            return Err(ReservedMemoryError::UnknownNode(reservation.numa_node));
        }
        for (kind, quantity) in &reservation.limits {
            // The format of the sum is that of the last amount.
            let sum = sums.get(kind).map_or(Some(*quantity), |sum| quantity.checked_add(sum));
            sums.insert(kind.clone(), sum.ok_or(ReservedMemoryError::NotAnInteger)?);
        }
    }
    let kinds: BTreeSet<&ResourceName> = sums.keys().chain(node.keys().filter(|kind| is_memory(kind))).collect();
    for kind in kinds {
        let amount = |list: &ResourceList| list.get(kind).copied().unwrap_or(Quantity::ZERO);
        let (reserved, node) = (amount(&sums), amount(node));
        if reserved != node {
            let (reserved, node) = (reserved.to_string(), node.to_string());
            return Err(ReservedMemoryError::OtherSum { kind: kind.clone(), reserved, node });
        }
    }
    Ok(())
}

fn is_memory(kind: &ResourceName) -> bool {
    *kind == ResourceName::Memory || kind.is_hugepages()
}
