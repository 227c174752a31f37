//! What the managers have given out, to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Assignment, ManagersConfig, ResourceManagers};
use crate::cpu::CpuManager;
use crate::cpuset::CpuSet;
use crate::device::DeviceManager;
use crate::hint::{NumaMask, TopologyHint, TopologyManager};
use crate::memory::{Block, MemoryManager};
use crate::topology::Machine;
use crate::workload::{Pod, PodUid};

impl ResourceManagers {
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
    pub(super) fn holders_of(&self, pod: &PodUid) -> BTreeSet<&str> {
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
}
