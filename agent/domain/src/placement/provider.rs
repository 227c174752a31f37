//! What the pipeline asks of a manager, whatever it manages.

use super::AllocationError;
use crate::cpu::CpuManager;
use crate::device::DeviceManager;
use crate::hint::{Opinion, ProviderHints, TopologyHint};
use crate::memory::MemoryManager;
use crate::workload::{Container, Pod, PodUid};

/// A manager of devices, CPUs or memory, as the pipeline sees it.
///
/// None of these calls looks at which pods are active: the pipeline releases what is stale before it asks.
pub(crate) trait HintProvider {
    /// Where the resources of one container could come from.
    fn container_hints(&self, pod: &Pod, container: &Container) -> ProviderHints;

    /// Where the resources of a whole pod could come from.
    fn pod_hints(&self, pod: &Pod) -> ProviderHints;

    /// What `container_hints` lists, as conditions: for machines with too many nodes to list node sets.
    fn container_demands(&self, pod: &Pod, container: &Container) -> Vec<Opinion>;

    /// What `pod_hints` lists, as conditions.
    fn pod_demands(&self, pod: &Pod) -> Vec<Opinion>;

    /// Gives a container what it asks for, following the merged hint. What it has already is kept.
    ///
    /// # Errors
    /// [`AllocationError`]; nothing of the container has changed then.
    fn allocate(&mut self, pod: &Pod, container: &Container, hint: TopologyHint) -> Result<(), AllocationError>;

    /// Gives all containers of a pod with pod-level resources their part of what the pod asks for (gate
    /// `PodLevelResourceManagers`, KEP-5526).
    ///
    /// # Errors
    /// [`AllocationError`]; containers that came before the failing one may have been served.
    fn allocate_pod(&mut self, pod: &Pod, hint: TopologyHint) -> Result<(), AllocationError>;

    /// Takes back what the container has; one that has nothing is fine.
    fn release(&mut self, pod: &PodUid, container: &str);
}

impl HintProvider for CpuManager {
    fn container_hints(&self, pod: &Pod, container: &Container) -> ProviderHints {
        self.hints_for_container(pod, container)
    }

    fn pod_hints(&self, pod: &Pod) -> ProviderHints {
        self.hints_for_pod(pod)
    }

    fn container_demands(&self, pod: &Pod, container: &Container) -> Vec<Opinion> {
        self.demand_of_container(pod, container).into_iter().collect()
    }

    fn pod_demands(&self, pod: &Pod) -> Vec<Opinion> {
        self.demand_of_pod(pod).into_iter().collect()
    }

    fn allocate(&mut self, pod: &Pod, container: &Container, hint: TopologyHint) -> Result<(), AllocationError> {
        self.allocate(pod, container, &hint)
    }

    fn allocate_pod(&mut self, pod: &Pod, hint: TopologyHint) -> Result<(), AllocationError> {
        self.allocate_pod(pod, &hint)
    }

    fn release(&mut self, pod: &PodUid, container: &str) {
        self.remove_container(pod, container);
    }
}

impl HintProvider for MemoryManager {
    fn container_hints(&self, pod: &Pod, container: &Container) -> ProviderHints {
        self.hints_for_container(pod, container)
    }

    fn pod_hints(&self, pod: &Pod) -> ProviderHints {
        self.hints_for_pod(pod)
    }

    fn container_demands(&self, pod: &Pod, container: &Container) -> Vec<Opinion> {
        self.demands_of_container(pod, container)
    }

    fn pod_demands(&self, pod: &Pod) -> Vec<Opinion> {
        self.demands_of_pod(pod)
    }

    fn allocate(&mut self, pod: &Pod, container: &Container, hint: TopologyHint) -> Result<(), AllocationError> {
        self.allocate(pod, container, &hint)
    }

    fn allocate_pod(&mut self, pod: &Pod, hint: TopologyHint) -> Result<(), AllocationError> {
        self.allocate_pod(pod, &hint)
    }

    fn release(&mut self, pod: &PodUid, container: &str) {
        self.remove_container(pod, container);
    }
}

impl HintProvider for DeviceManager {
    fn container_hints(&self, pod: &Pod, container: &Container) -> ProviderHints {
        self.hints_for_container(pod, container)
    }

    fn pod_hints(&self, pod: &Pod) -> ProviderHints {
        self.hints_for_pod(pod)
    }

    fn container_demands(&self, pod: &Pod, container: &Container) -> Vec<Opinion> {
        self.demands_of_container(pod, container)
    }

    fn pod_demands(&self, pod: &Pod) -> Vec<Opinion> {
        self.demands_of_pod(pod)
    }

    fn allocate(&mut self, pod: &Pod, container: &Container, hint: TopologyHint) -> Result<(), AllocationError> {
        self.allocate(pod, container, hint.affinity)
    }

    /// Devices are not given to a pod as a whole.
    fn allocate_pod(&mut self, _: &Pod, _: TopologyHint) -> Result<(), AllocationError> {
        Ok(())
    }

    fn release(&mut self, pod: &PodUid, container: &str) {
        self.remove_container(pod, container);
    }
}
