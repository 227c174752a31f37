//! What a node keeps from pods: kube-reserved, system-reserved and the hard eviction threshold of memory.

mod allocatable;
mod eviction;
mod validation;

pub use allocatable::{AllocatableRow, Capacity, allocatable, pods_limit, reserved_amounts};
pub use eviction::EvictionError;
pub use validation::config_errors;

use std::collections::BTreeMap;

use crate::cpu::CpuReservation;
use crate::cpuset::{CpuSet, CpuSetError};
use crate::quantity::{Quantity, QuantityError};
use crate::quote::Quoted;
use crate::reserved_memory::{MemoryReservation, ResourceList};
use crate::spec::ResourceManagersSpec;
use crate::spec::resource_managers::ReservedMemory;
use crate::topology::Machine;
use crate::workload::{MilliCpu, ResourceName};

/// CPU and memory that the node keeps from pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeReservation {
    /// Sums by resource; a sum of zero has no entry.
    pub amounts: ResourceList,
    /// CPUs that are reserved by name; empty if only their number is.
    pub listed_cpus: CpuSet,
}

/// The reservations cannot be read, or do not suit the machine; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReservationError {
    /// `reservedSystemCPUs` is no CPU list.
    #[error("unable to parse reserved-cpus list: {0}")]
    CpuList(CpuSetError),
    /// `reservedSystemCPUs` names CPUs that are not online.
    #[error("reserved-cpus: {listed} is not a subset of online-cpus: {online}")]
    CpusOffline {
        /// The list.
        listed: CpuSet,
        /// Online CPUs.
        online: CpuSet,
    },
    /// A fault in `kubeReserved`.
    #[error("--kube-reserved value failed to parse: {0}")]
    Kube(AmountError),
    /// A fault in `systemReserved`.
    #[error("--system-reserved value failed to parse: {0}")]
    System(AmountError),
    /// A fault in `evictionHard`.
    #[error(transparent)]
    Eviction(#[from] EvictionError),
    /// A fault in the amounts of `reservedMemory`.
    #[error("failed to parse quantity {text} for NUMA node {node}: {cause}", text = Quoted(.text))]
    ReservedMemory {
        /// NUMA node.
        node: u32,
        /// The text.
        text: String,
        /// Why.
        cause: QuantityError,
    },
    /// More digits than can be added up.
    #[error("reservations of resource \"{0}\" are too large to be added")]
    TooLarge(ResourceName),
    /// More is reserved than the machine has.
    #[error(
        "invalid Node Allocatable configuration. Resource \"{resource}\" has a reservation of {reserved} but capacity of {capacity}. Expected capacity >= reservation."
    )]
    OverCapacity {
        /// The resource.
        resource: ResourceName,
        /// What is reserved.
        reserved: String,
        /// What there is.
        capacity: String,
    },
}

/// One entry of `kubeReserved` or `systemReserved` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not `cpu`, `memory`, `ephemeral-storage` or `pid`.
    #[error("cannot reserve {} resource", Quoted(.0))]
    Resource(String),
    /// No quantity.
    #[error("failed to parse quantity {text} for {resource} resource: {cause}",
        text = Quoted(.text), resource = Quoted(.resource))]
    Quantity {
        /// The resource.
        resource: String,
        /// The text.
        text: String,
        /// Why.
        cause: QuantityError,
    },
    /// Below zero.
    #[error("resource quantity for {resource} cannot be negative: {text}", resource = Quoted(.resource))]
    Negative {
        /// The resource.
        resource: String,
        /// The text.
        text: String,
    },
}

impl NodeReservation {
    /// Adds up what the settings reserve on the machine. A CPU list replaces every reserved number of CPUs.
    ///
    /// # Errors
    /// The first fault, in the order of the kubelet: CPU list, kube-reserved, system-reserved, eviction thresholds.
    pub fn new(spec: &ResourceManagersSpec, machine: &Machine) -> Result<Self, ReservationError> {
        let listed_cpus = listed_cpus(&spec.reserved_system_cpus, machine.online())?;
        let (kube, system) = parse_reserved(spec, &listed_cpus)?;
        let memory = memory_capacity(machine);
        let eviction = eviction::memory_reservation(&spec.eviction_hard, &memory)?;
        let eviction = ResourceList::from_iter(eviction.map(|amount| (ResourceName::Memory, amount)));
        let mut amounts = ResourceList::new();
        for resource in [ResourceName::Cpu, ResourceName::Memory] {
            let mut sum = Quantity::ZERO;
            for amount in [&system, &kube, &eviction].into_iter().filter_map(|list| list.get(&resource)) {
                sum = sum.checked_add(amount).ok_or_else(|| ReservationError::TooLarge(resource.clone()))?;
            }
            if !sum.is_zero() {
                amounts.insert(resource, sum);
            }
        }
        Ok(Self { amounts, listed_cpus })
    }

    /// The reservation as the CPU manager needs it.
    #[must_use]
    pub fn cpu(&self) -> CpuReservation {
        let milli = |amount: &Quantity| MilliCpu(u64::try_from(amount.milli_value()).unwrap_or(0));
        CpuReservation { total: self.amounts.get(&ResourceName::Cpu).map(milli), listed: self.listed_cpus.clone() }
    }

    /// Checks that the machine has what is reserved.
    ///
    /// # Errors
    /// [`ReservationError::OverCapacity`] for the first resource of which it has less.
    pub fn check_capacity(&self, machine: &Machine) -> Result<(), ReservationError> {
        let cpus = i64::try_from(machine.num_cpus()).unwrap_or(i64::MAX);
        let capacity =
            [(ResourceName::Cpu, Quantity::from_count(cpus)), (ResourceName::Memory, memory_capacity(machine))];
        for (resource, capacity) in capacity {
            if let Some(reserved) = self.amounts.get(&resource).filter(|reserved| **reserved > capacity) {
                let (reserved, capacity) = (reserved.to_string(), capacity.to_string());
                return Err(ReservationError::OverCapacity { resource, reserved, capacity });
            }
        }
        Ok(())
    }
}

/// The reservations of NUMA nodes with their amounts read.
///
/// # Errors
/// [`ReservationError::ReservedMemory`] for the first text that is no quantity.
pub fn memory_reservations(reserved: &[ReservedMemory]) -> Result<Vec<MemoryReservation>, ReservationError> {
    let entry = |entry: &ReservedMemory| {
        let limit = |(kind, text): (&String, &String)| -> Result<_, ReservationError> {
            let wrong = |cause| ReservationError::ReservedMemory { node: entry.numa_node, text: text.clone(), cause };
            Ok((ResourceName::from(kind.as_str()), Quantity::parse(text).map_err(wrong)?))
        };
        let numa_node = i32::try_from(entry.numa_node).unwrap_or(i32::MAX);
        Ok(MemoryReservation { numa_node, limits: entry.limits.iter().map(limit).collect::<Result<_, _>>()? })
    };
    reserved.iter().map(entry).collect()
}

/// Memory of all NUMA nodes; huge pages included.
fn memory_capacity(machine: &Machine) -> Quantity {
    let bytes = machine.nodes().iter().fold(0_u64, |sum, node| sum.saturating_add(node.memory_bytes));
    Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// The CPUs that `reservedSystemCPUs` names; empty if it names none.
///
/// # Errors
/// [`ReservationError::CpuList`] and [`ReservationError::CpusOffline`].
pub fn listed_cpus(text: &str, online: &CpuSet) -> Result<CpuSet, ReservationError> {
    let listed = CpuSet::parse(text).map_err(ReservationError::CpuList)?;
    if listed.is_subset(online) {
        return Ok(listed);
    }
    Err(ReservationError::CpusOffline { listed, online: online.clone() })
}

/// `kubeReserved` and `systemReserved`; CPUs reserved by name stand in place of every reserved number of them.
fn parse_reserved(
    spec: &ResourceManagersSpec,
    listed_cpus: &CpuSet,
) -> Result<(ResourceList, ResourceList), ReservationError> {
    let (mut kube, mut system) = (spec.kube_reserved.clone(), spec.system_reserved.clone());
    if !listed_cpus.is_empty() {
        kube.remove("cpu");
        system.insert("cpu".to_owned(), listed_cpus.len().to_string());
    }
    let kube = parse_amounts(&kube).map_err(ReservationError::Kube)?;
    Ok((kube, parse_amounts(&system).map_err(ReservationError::System)?))
}

fn parse_amounts(amounts: &BTreeMap<String, String>) -> Result<ResourceList, AmountError> {
    let parse = |(resource, text): (&String, &String)| {
        if !["cpu", "memory", "ephemeral-storage", "pid"].contains(&resource.as_str()) {
            return Err(AmountError::Resource(resource.clone()));
        }
        let owned = || (resource.clone(), text.clone());
        let amount = Quantity::parse(text).map_err(|cause| {
            let (resource, text) = owned();
            AmountError::Quantity { resource, text, cause }
        })?;
        if amount.is_negative() {
            let (resource, text) = owned();
            return Err(AmountError::Negative { resource, text });
        }
        Ok((ResourceName::from(resource.as_str()), amount))
    };
    amounts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
