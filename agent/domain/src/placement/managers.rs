//! The resource managers of one node: devices, CPUs and memory, held together by the topology manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::explanation::Explanation;
use super::hints::StoredHints;
use super::provider::HintProvider;
use super::{Assignment, Rejection, StartError, StartStage};
use crate::checkpoint::MemoryCheckpoint;
use crate::cpu::{CpuConfig, CpuExtensions, CpuGates, CpuManager, CpuReservation, CpuState};
use crate::cpuset::CpuSet;
use crate::device::DeviceManager;
use crate::hint::{NumaMask, TopologyConfig, TopologyConfigError, TopologyHint, TopologyManager};
use crate::memory::{Block, MemoryConfig, MemoryManager, OverReserved};
use crate::reservation::{self, NodeReservation, ReservationError};
use crate::spec::ResourceManagersSpec;
use crate::topology::Machine;
use crate::workload::{Pod, PodUid};

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

/// What the managers knew when they last ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored<'a> {
    /// Owners of CPUs; the default on a new node.
    pub cpu: CpuState,
    /// The book of memory; absent on a new node.
    pub memory: Option<MemoryCheckpoint<'a>>,
}

/// A refused admission of the kubelet kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rejection}")]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// What the containers before the failing one, or the pod from an earlier admission, held at that moment; it has
    /// been taken back since.
    pub leftover: Vec<Assignment>,
}

/// The managers and everything they have given out. A clone is a transaction: change it, then keep or drop it.
#[derive(Debug, Clone)]
pub struct ResourceManagers {
    config: Arc<ManagersConfig>,
    pub(super) topology: TopologyManager,
    pub(super) devices: DeviceManager,
    pub(super) cpu: CpuManager,
    pub(super) memory: MemoryManager,
    pub(super) hints: StoredHints,
    /// Gate `PodLevelResourceManagers`.
    pub(super) pod_level: bool,
    /// Pods that are active: only they keep anything.
    active: BTreeMap<PodUid, Arc<Pod>>,
    /// False until what a restored state has beyond the active pods has been taken back.
    settled: bool,
}

impl ResourceManagers {
    /// Makes and starts the managers on a machine.
    ///
    /// # Errors
    /// The first fault, with its stage: of the settings, or of the restored state.
    pub fn start(
        machine: &Arc<Machine>,
        config: Arc<ManagersConfig>,
        restored: Restored<'_>,
        active: BTreeMap<PodUid, Arc<Pod>>,
    ) -> Result<Self, StartError> {
        use StartStage as Stage;
        let reservation = NodeReservation::new(&config.kubelet, machine).map_err(Stage::Config.error())?;
        if config.extensions.strict_reservations {
            reservation.check_capacity(machine).map_err(Stage::Config.error())?;
        }
        let memory_config = memory_config(&config, &reservation).map_err(Stage::Config.error())?;
        let topology = start_topology(machine, &config).map_err(Stage::TopologyManager.error())?;
        let cpu_config = cpu_config(&config, reservation.cpu());
        let mut cpu = CpuManager::new(Arc::clone(machine), &cpu_config).map_err(Stage::CpuManager.error())?;
        let mut memory = MemoryManager::new(machine, &memory_config).map_err(Stage::MemoryManager.error())?;
        cpu.start(restored.cpu).map_err(Stage::CpuManagerStart.error())?;
        memory.start(restored.memory.as_ref()).map_err(Stage::MemoryManagerStart.error())?;
        Ok(Self {
            pod_level: gate(&config, "PodLevelResourceManagers", false),
            config,
            devices: DeviceManager::new(topology.nodes(), BTreeMap::new()),
            topology,
            cpu,
            memory,
            hints: StoredHints::default(),
            active,
            settled: false,
        })
    }

    /// What a restart with the same settings makes of the same state: validated again, hints and reuse forgotten.
    ///
    /// # Errors
    /// As for [`start`](Self::start): a state can be such that the kubelet would not start with it.
    pub fn restart(&self) -> Result<Self, StartError> {
        let memory = self.memory.is_static().then(|| self.memory.state().to_checkpoint());
        let restored = Restored { cpu: self.cpu.state().clone(), memory };
        let mut again = Self::start(self.cpu.machine(), Arc::clone(&self.config), restored, self.active.clone())?;
        again.devices = self.devices.clone();
        Ok(again)
    }

    /// Admits a pod as the kubelet does, or takes back everything it has.
    ///
    /// The pod counts as active from now on; one that is refused no longer does. A pod that was admitted before is
    /// decided again, by the same rules.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&mut self, pod: &Arc<Pod>) -> Result<(), Refused> {
        self.activate(pod);
        self.settle();
        self.place(pod, None).map_err(|rejection| {
            let leftover = self.assignments_of(&pod.uid);
            self.remove(&pod.uid);
            Refused { rejection, leftover }
        })
    }

    /// Tells how [`admit`](Self::admit) would decide, and why; changes nothing.
    #[must_use]
    pub fn explain(&self, pod: &Arc<Pod>) -> Explanation {
        let mut trial = self.clone();
        let mut explanation = Explanation::new(self.topology.policy(), self.topology.scope());
        explanation.rejection = trial.place(pod, Some(&mut explanation)).err();
        if explanation.rejection.is_none() {
            explanation.assignments = trial.assignments_of(&pod.uid);
        }
        explanation
    }

    /// The pod is active; containers that an older version of it had, and this one has not, give back what they hold.
    pub(super) fn activate(&mut self, pod: &Arc<Pod>) {
        let known = self.active.insert(pod.uid.clone(), Arc::clone(pod));
        if known.is_some_and(|known| !Arc::ptr_eq(&known, pod) && known.containers != pod.containers) {
            for stale in self.assignments_of(&pod.uid) {
                if !pod.containers.iter().any(|container| container.name == stale.container) {
                    self.remove_container(&pod.uid, &stale.container);
                }
            }
        }
    }

    /// A container is about to start: memory of init containers that are over is given back.
    pub fn container_started(&mut self, pod: &PodUid, container: &str) {
        if let Some(pod) = self.active.get(pod) {
            self.memory.container_started(pod, container);
        }
    }

    /// A pod is no longer active: everything it has is taken back.
    pub fn remove(&mut self, pod: &PodUid) {
        self.active.remove(pod);
        self.hints.forget(pod);
        let holders: BTreeSet<&str> = self.holders_of(pod).into_iter().chain(self.devices.containers_of(pod)).collect();
        let holders: Vec<String> = holders.into_iter().map(str::to_owned).collect();
        for container in holders {
            self.release(pod, &container);
        }
    }

    /// Takes back what one container has; its pod stays active.
    pub fn remove_container(&mut self, pod: &PodUid, container: &str) {
        self.hints.forget_container(pod, container);
        self.release(pod, container);
    }

    /// Takes back what belongs to no container of an active pod; the kubelet does not do so at its start, but before its
    /// first decision.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let stale: Vec<Assignment> = self.assignments().filter(|a| !self.is_active(&a.pod, &a.container)).collect();
        for assignment in stale {
            self.release(&assignment.pod, &assignment.container);
        }
    }

    fn is_active(&self, pod: &PodUid, container: &str) -> bool {
        self.active.get(pod).is_some_and(|pod| pod.containers.iter().any(|known| known.name == container))
    }

    fn release(&mut self, pod: &PodUid, container: &str) {
        for provider in self.providers_mut() {
            provider.release(pod, container);
        }
    }

    /// CPUs of every container without exclusive CPUs; all online CPUs under policy `none`.
    #[must_use]
    pub fn shared_cpus(&self) -> &CpuSet {
        if self.cpu.is_static() { &self.cpu.state().default_cpu_set } else { self.cpu.machine().online() }
    }

    /// CPUs that no container may own; empty under policy `none`.
    #[must_use]
    pub fn reserved_cpus(&self) -> &CpuSet {
        self.cpu.reserved()
    }

    /// CPUs that containers may own; empty under policy `none`.
    #[must_use]
    pub fn allocatable_cpus(&self) -> CpuSet {
        self.cpu.allocatable()
    }

    /// Exclusive CPUs of a container; absent if it runs on the shared CPUs.
    #[must_use]
    pub fn cpus_of(&self, pod: &PodUid, container: &str) -> Option<&CpuSet> {
        self.cpu.state().cpus_of(pod, container)
    }

    /// NUMA nodes of a container's memory; absent if it may use all nodes.
    #[must_use]
    pub fn memory_nodes_of(&self, pod: &PodUid, container: &str) -> Option<NumaMask> {
        self.memory.nodes_of(pod, container)
    }

    /// Memory of a container, block by block; none if it may use all nodes.
    #[must_use]
    pub fn memory_of(&self, pod: &PodUid, container: &str) -> &[Block] {
        self.memory.state().blocks_of(pod, container).unwrap_or_default()
    }

    /// The merged hint that a container was admitted with.
    #[must_use]
    pub fn hint_of(&self, pod: &PodUid, container: &str) -> Option<TopologyHint> {
        self.hints.of(pod, container)
    }

    /// Pods that are active.
    #[must_use]
    pub fn active(&self) -> &BTreeMap<PodUid, Arc<Pod>> {
        &self.active
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Arc<Machine> {
        self.cpu.machine()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ManagersConfig {
        &self.config
    }

    /// The CPU manager.
    #[must_use]
    pub const fn cpu(&self) -> &CpuManager {
        &self.cpu
    }

    /// The topology manager.
    #[must_use]
    pub const fn topology(&self) -> &TopologyManager {
        &self.topology
    }

    /// The memory manager.
    #[must_use]
    pub const fn memory(&self) -> &MemoryManager {
        &self.memory
    }

    /// The devices that the kubelet tells of.
    #[must_use]
    pub const fn devices(&self) -> &DeviceManager {
        &self.devices
    }

    /// The same, to be told of devices and their owners.
    pub const fn devices_mut(&mut self) -> &mut DeviceManager {
        &mut self.devices
    }

    /// What every container has that owns CPUs or is bound to NUMA nodes, by pod and name.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment> {
        let with_cpus = self.cpu.state().iter().map(|(pod, container, _)| (pod, container));
        let with_memory = self.memory.state().iter().map(|(pod, container, _)| (pod, container));
        let holders: BTreeSet<(&PodUid, &str)> = with_cpus.chain(with_memory).collect();
        holders.into_iter().map(|(pod, container)| self.assignment(pod, container))
    }

    /// The same for one pod.
    #[must_use]
    pub fn assignments_of(&self, pod: &PodUid) -> Vec<Assignment> {
        self.holders_of(pod).into_iter().map(|container| self.assignment(pod, container)).collect()
    }

    /// Containers of a pod that own CPUs or are bound to NUMA nodes.
    fn holders_of(&self, pod: &PodUid) -> BTreeSet<&str> {
        let with_cpus = self.cpu.state().assignments.get(pod).into_iter().flat_map(BTreeMap::keys);
        with_cpus.map(String::as_str).chain(self.memory.state().containers_of(pod)).collect()
    }

    /// What a container has.
    fn assignment(&self, pod: &PodUid, container: &str) -> Assignment {
        Assignment {
            pod: pod.clone(),
            container: container.to_owned(),
            cpus: self.cpus_of(pod, container).cloned(),
            memory_nodes: self.memory_nodes_of(pod, container),
            memory: self.memory_of(pod, container).to_vec(),
            hint: self.hint_of(pod, container),
        }
    }

    /// The providers in the order in which they are asked: devices, CPU, memory.
    pub(super) fn ask<T>(&self, ask: impl Fn(&dyn HintProvider) -> T) -> [T; 3] {
        [ask(&self.devices), ask(&self.cpu), ask(&self.memory)]
    }

    /// The same, to allocate and release.
    pub(super) fn providers_mut(&mut self) -> [&mut dyn HintProvider; 3] {
        [&mut self.devices, &mut self.cpu, &mut self.memory]
    }
}

/// Checks the topology settings against the machine.
fn start_topology(machine: &Machine, config: &ManagersConfig) -> Result<TopologyManager, TopologyConfigError> {
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
fn gate(config: &ManagersConfig, name: &str, default: bool) -> bool {
    config.kubelet.feature_gates.get(name).copied().unwrap_or(default)
}

/// The CPU settings, with the reservation.
fn cpu_config(config: &ManagersConfig, reservation: CpuReservation) -> CpuConfig {
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
fn memory_config(config: &ManagersConfig, reservation: &NodeReservation) -> Result<MemoryConfig, ReservationError> {
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
