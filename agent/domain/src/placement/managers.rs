//! The resource managers of one node: devices, CPUs and memory, held together by the topology manager.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::explanation::Explanation;
use super::hints::StoredHints;
use super::provider::HintProvider;
use super::{Assignment, Rejection, StartError, StartStage};
use crate::cpu::{CpuConfig, CpuExtensions, CpuGates, CpuManager, CpuReservation, CpuState};
use crate::cpuset::CpuSet;
use crate::hint::{NumaMask, ProviderHints, TopologyConfig, TopologyHint, TopologyManager};
use crate::quantity::Quantity;
use crate::spec::ResourceManagersSpec;
use crate::topology::Machine;
use crate::workload::{MilliCpu, Pod, PodUid};

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
    /// Those of the CPU manager.
    pub cpu: CpuExtensions,
}

/// What the managers knew when they last ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Owners of CPUs.
    pub cpu: CpuState,
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
    pub(super) cpu: CpuManager,
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
        restored: Restored,
        active: BTreeMap<PodUid, Arc<Pod>>,
    ) -> Result<Self, StartError> {
        let at = |stage| move |message: String| StartError { stage, message };
        let topology = start_topology(machine, &config).map_err(at(StartStage::TopologyManager))?;
        let cpu = cpu_config(&config).map_err(at(StartStage::Config))?;
        let mut cpu = CpuManager::new(Arc::clone(machine), &cpu)
            .map_err(|error| at(StartStage::CpuManager)(error.to_string()))?;
        cpu.start(restored.cpu).map_err(|error| at(StartStage::CpuManagerStart)(error.to_string()))?;
        let gates = &config.kubelet.feature_gates;
        let pod_level = gates.get("PodLevelResourceManagers").copied().unwrap_or(false);
        Ok(Self { config, topology, cpu, hints: StoredHints::default(), pod_level, active, settled: false })
    }

    /// What a restart with the same settings makes of the same state: validated again, hints and reuse forgotten.
    ///
    /// # Errors
    /// As for [`start`](Self::start): a state can be such that the kubelet would not start with it.
    pub fn restart(&self) -> Result<Self, StartError> {
        let restored = Restored { cpu: self.cpu.state().clone() };
        Self::start(self.cpu.machine(), Arc::clone(&self.config), restored, self.active.clone())
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
    pub fn container_started(&mut self, _pod: &PodUid, _container: &str) {}

    /// A pod is no longer active: everything it has is taken back.
    pub fn remove(&mut self, pod: &PodUid) {
        self.active.remove(pod);
        self.hints.forget(pod);
        for assignment in self.assignments_of(pod) {
            self.release(pod, &assignment.container);
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
    pub fn memory_nodes_of(&self, _pod: &PodUid, _container: &str) -> Option<NumaMask> {
        None
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

    /// What every container has that owns CPUs or is bound to NUMA nodes, by pod and name.
    pub fn assignments(&self) -> impl Iterator<Item = Assignment> {
        self.cpu.state().iter().map(|(pod, container, _)| self.assignment(pod, container))
    }

    /// The same for one pod.
    #[must_use]
    pub fn assignments_of(&self, pod: &PodUid) -> Vec<Assignment> {
        let owners = self.cpu.state().assignments.get(pod);
        owners.into_iter().flat_map(BTreeMap::keys).map(|container| self.assignment(pod, container)).collect()
    }

    /// What a container has.
    fn assignment(&self, pod: &PodUid, container: &str) -> Assignment {
        Assignment {
            pod: pod.clone(),
            container: container.to_owned(),
            cpus: self.cpus_of(pod, container).cloned(),
            memory_nodes: self.memory_nodes_of(pod, container),
            hint: self.hint_of(pod, container),
        }
    }

    /// The providers in the order in which they are asked: devices, CPU, memory.
    pub(super) fn hints_by_provider(&self, ask: impl Fn(&dyn HintProvider) -> ProviderHints) -> [ProviderHints; 3] {
        [ProviderHints::NO_OPINION, ask(&self.cpu), ProviderHints::NO_OPINION]
    }

    /// The same, to allocate and release.
    pub(super) fn providers_mut(&mut self) -> [&mut dyn HintProvider; 1] {
        [&mut self.cpu]
    }
}

/// Checks the topology settings against the machine.
fn start_topology(machine: &Machine, config: &ManagersConfig) -> Result<TopologyManager, String> {
    let or_default = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let topology = TopologyConfig {
        policy: or_default(&config.kubelet.topology_manager_policy, "none"),
        scope: or_default(&config.kubelet.topology_manager_scope, "container"),
        options: config.kubelet.topology_manager_policy_options.clone(),
        wide_machines: config.extensions.wide_machines.then_some(64),
    };
    let nodes: Vec<(u32, &[u32])> = machine.nodes().iter().map(|node| (node.id, node.distances.as_slice())).collect();
    TopologyManager::new(&topology, &nodes).map_err(|error| error.to_string())
}

/// The CPU settings, with the reservation.
fn cpu_config(config: &ManagersConfig) -> Result<CpuConfig, String> {
    let kubelet = &config.kubelet;
    let gate = |name: &str, default| kubelet.feature_gates.get(name).copied().unwrap_or(default);
    let mut reservation = CpuReservation::default();
    if kubelet.reserved_system_cpus.is_empty() {
        let mut total: Option<Quantity> = None;
        for text in [&kubelet.kube_reserved, &kubelet.system_reserved].into_iter().filter_map(|map| map.get("cpu")) {
            let quantity = Quantity::parse(text).map_err(|error| error.to_string())?;
            total = total.map_or(Some(quantity), |sum| sum.checked_add(&quantity));
        }
        let milli = total.map(|quantity| u64::try_from(quantity.milli_value()).unwrap_or(0));
        reservation.total = milli.filter(|milli| *milli > 0).map(MilliCpu);
    } else {
        reservation.listed = CpuSet::parse(&kubelet.reserved_system_cpus).map_err(|error| error.to_string())?;
        reservation.total = Some(MilliCpu(reservation.listed.len() as u64 * 1000));
    }
    let policy = if kubelet.cpu_manager_policy.is_empty() { "none" } else { &kubelet.cpu_manager_policy };
    Ok(CpuConfig {
        policy: policy.to_owned(),
        options: kubelet.cpu_manager_policy_options.clone(),
        single_numa_node: kubelet.topology_manager_policy == "single-numa-node",
        reservation,
        extensions: config.extensions.cpu,
        gates: CpuGates {
            alpha_options: gate("CPUManagerPolicyAlphaOptions", false),
            beta_options: gate("CPUManagerPolicyBetaOptions", true),
        },
    })
}
