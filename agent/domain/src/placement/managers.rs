//! The resource managers of one node: devices, CPUs and memory, held together by the topology manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::{cpu_config, gate, memory_config, start_topology};
use super::explanation::Explanation;
use super::hints::StoredHints;
use super::provider::HintProvider;
use super::{Assignment, ManagersConfig, Rejection, StartError, StartStage};
use crate::checkpoint::MemoryCheckpoint;
use crate::cpu::{CpuManager, CpuState};
use crate::device::DeviceManager;
use crate::hint::TopologyManager;
use crate::memory::MemoryManager;
use crate::reservation::NodeReservation;
use crate::topology::Machine;
use crate::workload::{Pod, PodUid};

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
    pub(super) config: Arc<ManagersConfig>,
    pub(super) topology: TopologyManager,
    pub(super) devices: DeviceManager,
    pub(super) cpu: CpuManager,
    pub(super) memory: MemoryManager,
    pub(super) hints: StoredHints,
    /// Gate `PodLevelResourceManagers`.
    pub(super) pod_level: bool,
    /// Pods that are active: only they keep anything.
    pub(super) active: BTreeMap<PodUid, Arc<Pod>>,
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
    pub(super) fn settle(&mut self) {
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

    /// The providers in the order in which they are asked: devices, CPU, memory.
    pub(super) fn ask<T>(&self, ask: impl Fn(&dyn HintProvider) -> T) -> [T; 3] {
        [ask(&self.devices), ask(&self.cpu), ask(&self.memory)]
    }

    /// The same, to allocate and release.
    pub(super) fn providers_mut(&mut self) -> [&mut dyn HintProvider; 3] {
        [&mut self.devices, &mut self.cpu, &mut self.memory]
    }
}
