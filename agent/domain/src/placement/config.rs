//! The settings of the managers, and what each manager needs of them.

use crate::cpu::{CpuConfig, CpuExtensions, CpuGates, CpuReservation};
use crate::hint::{TopologyConfig, TopologyConfigError, TopologyManager};
use crate::memory::{MemoryConfig, OverReserved};
use crate::reservation::{self, NodeReservation, ReservationError};
use crate::spec::ResourceManagersSpec;
use crate::topology::Machine;

/// Settings of the managers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManagersConfig {
    /// What the kubelet knows.
    pub kubelet: ResourceManagersSpec,
    /// What goes beyond the kubelet.
    pub extensions: Extensions,
}

/// Abilities that the kubelet does not have. Each is off by default, and changes no decision while it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// Machines with up to 64 NUMA nodes, whatever `max-allowable-numa-nodes` says.
    pub wide_machines: bool,
    /// Reservations beyond what the machine, or a NUMA node, has are refused at the start. The kubelet computes a huge
    /// amount of allocatable memory on such a NUMA node, and hands out what does not exist.
    pub strict_reservations: bool,
    /// Those of the CPU manager.
    pub cpu: CpuExtensions,
}

/// Checks the topology settings against the machine.
pub(super) fn start_topology(
    machine: &Machine,
    config: &ManagersConfig,
) -> Result<TopologyManager, TopologyConfigError> {
    let or_default = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let topology = TopologyConfig {
        policy: or_default(&config.kubelet.topology_manager_policy, "none"),
        scope: or_default(&config.kubelet.topology_manager_scope, "container"),
        options: config.kubelet.topology_manager_policy_options.clone(),
        wide_machines: config.extensions.wide_machines.then_some(64),
    };
    let nodes: Vec<(u32, &[u32])> = machine.nodes().iter().map(|node| (node.id, node.distances.as_slice())).collect();
    TopologyManager::new(&topology, &nodes)
}

/// A feature gate, or what it is if nobody says otherwise.
pub(super) fn gate(config: &ManagersConfig, name: &str, default: bool) -> bool {
    config.kubelet.feature_gates.get(name).copied().unwrap_or(default)
}

/// The CPU settings, with the reservation.
pub(super) fn cpu_config(config: &ManagersConfig, reservation: CpuReservation) -> CpuConfig {
    let kubelet = &config.kubelet;
    let policy = if kubelet.cpu_manager_policy.is_empty() { "none" } else { &kubelet.cpu_manager_policy };
    CpuConfig {
        policy: policy.to_owned(),
        options: kubelet.cpu_manager_policy_options.clone(),
        single_numa_node: kubelet.topology_manager_policy == "single-numa-node",
        reservation,
        extensions: config.extensions.cpu,
        gates: CpuGates {
            alpha_options: gate(config, "CPUManagerPolicyAlphaOptions", false),
            beta_options: gate(config, "CPUManagerPolicyBetaOptions", true),
            pod_level: gate(config, "PodLevelResourceManagers", false),
        },
    }
}

/// The memory settings, with the reservation.
pub(super) fn memory_config(
    config: &ManagersConfig,
    reservation: &NodeReservation,
) -> Result<MemoryConfig, ReservationError> {
    let kubelet = &config.kubelet;
    let policy = if kubelet.memory_manager_policy.is_empty() { "None" } else { &kubelet.memory_manager_policy };
    Ok(MemoryConfig {
        policy: policy.to_owned(),
        reserved: reservation::memory_reservations(&kubelet.reserved_memory)?,
        node_reservation: reservation.amounts.clone(),
        pod_level: gate(config, "PodLevelResourceManagers", false),
        over_reserved: if config.extensions.strict_reservations { OverReserved::Refused } else { OverReserved::Wraps },
    })
}
