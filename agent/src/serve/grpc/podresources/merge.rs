//! One truth from two: what the agent gives out itself, and what the kubelet says of everything else.
//!
//! CPUs come from the kubelet if it could give out any, else from the agent; memory likewise; devices, claims, and which
//! pods and containers there are, from the kubelet. A pod that only the agent knows is listed beside them while it holds
//! something that the agent gave it: clients compute what is free as allocatable minus the sum over the list.

use std::collections::BTreeMap;

use trimtab_proto::podresources::{v1, v1alpha1};

use crate::ports::kubelet_answers::KubeletAnswers;
use crate::reconcile::node_view::{ContainerView, MemoryBlock, NodeView, PodView};

/// What clients are told.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Merged {
    /// By namespace and name.
    pub(super) pods: Vec<v1::PodResources>,
    pub(super) allocatable: v1::AllocatableResourcesResponse,
}

/// Who gives out what.
#[derive(Debug, Clone, Copy)]
struct Givers {
    /// The kubelet gives out CPUs.
    cpus: bool,
    /// The kubelet gives out memory.
    memory: bool,
}

impl Givers {
    /// The agent gave this container something that the kubelet knows nothing of.
    fn ours(self, container: &ContainerView) -> bool {
        (!self.cpus && !container.exclusive_cpus.is_empty()) || (!self.memory && !container.memory.is_empty())
    }
}

/// Merges; `None` where there is no kubelet, or it never answered.
pub(super) fn merge(view: &NodeView, kubelet: Option<&KubeletAnswers>) -> Merged {
    let Some(kubelet) = kubelet else {
        let allocatable = allocatable(view);
        return Merged { pods: sorted(&view.pods).into_iter().map(to_pod).collect(), allocatable };
    };
    let givers =
        Givers { cpus: !kubelet.allocatable.cpu_ids.is_empty(), memory: !kubelet.allocatable.memory.is_empty() };
    let mut ours = by_name(view);
    let mut pods = Vec::with_capacity(kubelet.list.pod_resources.len());
    for theirs in &kubelet.list.pod_resources {
        let known = ours.get_mut(&(theirs.namespace.as_str(), theirs.name.as_str())).and_then(Vec::pop);
        pods.push(with_ours(theirs, known, givers));
    }
    let unlisted = ours.into_values().flatten().filter(|pod| pod.containers.iter().any(|one| givers.ours(one)));
    pods.extend(unlisted.map(to_pod));
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let own = allocatable(view);
    let allocatable = v1::AllocatableResourcesResponse {
        devices: kubelet.allocatable.devices.clone(),
        cpu_ids: if givers.cpus { kubelet.allocatable.cpu_ids.clone() } else { own.cpu_ids },
        memory: if givers.memory { kubelet.allocatable.memory.clone() } else { own.memory },
    };
    Merged { pods, allocatable }
}

/// Pods by name, of those with one name the one that runs most at the end: the older one is still being deleted.
fn by_name(view: &NodeView) -> BTreeMap<(&str, &str), Vec<&PodView>> {
    let mut pods = BTreeMap::<_, Vec<&PodView>>::new();
    for pod in sorted(&view.pods) {
        pods.entry((pod.namespace.as_str(), pod.name.as_str())).or_default().push(pod);
    }
    for same in pods.values_mut().filter(|same| same.len() > 1) {
        same.sort_by_key(|pod| pod.containers.len());
    }
    pods
}

/// The kubelet's pod with what the agent gave its containers.
fn with_ours(theirs: &v1::PodResources, known: Option<&PodView>, givers: Givers) -> v1::PodResources {
    let mut pod = theirs.clone();
    for container in &mut pod.containers {
        let same_name = known.into_iter().flat_map(|pod| &pod.containers).filter(|one| one.name == container.name);
        // Of two with one name, one of which has just ended, the one that has something.
        let ours = same_name.max_by_key(|one| (givers.ours(one), one.exclusive_cpus.len()));
        if !givers.cpus {
            container.cpu_ids = ours.map(|ours| to_cpu_ids(&ours.exclusive_cpus)).unwrap_or_default();
        }
        if !givers.memory {
            container.memory = ours.map(|ours| to_memory(&ours.memory)).unwrap_or_default();
        }
    }
    pod
}

fn allocatable(view: &NodeView) -> v1::AllocatableResourcesResponse {
    v1::AllocatableResourcesResponse {
        devices: Vec::new(),
        cpu_ids: to_cpu_ids(&view.allocatable_cpus),
        memory: to_memory(&view.allocatable_memory),
    }
}

/// The older version of the list: devices by name and id, each once, without topology.
pub(super) fn to_v1alpha1(pods: &[v1::PodResources]) -> v1alpha1::ListPodResourcesResponse {
    let devices = |container: &v1::ContainerResources| {
        let mut devices: Vec<_> = container
            .devices
            .iter()
            .map(|device| v1alpha1::ContainerDevices {
                resource_name: device.resource_name.clone(),
                device_ids: device.device_ids.clone(),
            })
            .collect();
        // One that spans two NUMA nodes is there twice.
        devices.dedup();
        devices
    };
    let container = |container: &v1::ContainerResources| v1alpha1::ContainerResources {
        name: container.name.clone(),
        devices: devices(container),
    };
    let pod = |pod: &v1::PodResources| v1alpha1::PodResources {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        containers: pod.containers.iter().map(container).collect(),
    };
    v1alpha1::ListPodResourcesResponse { pod_resources: pods.iter().map(pod).collect() }
}

fn to_pod(pod: &PodView) -> v1::PodResources {
    let mut containers: Vec<&ContainerView> = pod.containers.iter().collect();
    containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    v1::PodResources {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        containers: containers.into_iter().map(to_container).collect(),
    }
}

fn to_container(container: &ContainerView) -> v1::ContainerResources {
    v1::ContainerResources {
        name: container.name.clone(),
        devices: Vec::new(),
        cpu_ids: to_cpu_ids(&container.exclusive_cpus),
        memory: to_memory(&container.memory),
        dynamic_resources: Vec::new(),
    }
}

fn to_memory(blocks: &[MemoryBlock]) -> Vec<v1::ContainerMemory> {
    let to_nodes = |nodes: &[u32]| nodes.iter().map(|node| v1::NumaNode { id: i64::from(*node) }).collect();
    let to_block = |block: &MemoryBlock| v1::ContainerMemory {
        memory_type: block.memory_type.clone(),
        size: block.size_bytes,
        topology: Some(v1::TopologyInfo { nodes: to_nodes(&block.numa_nodes) }),
    };
    let mut blocks: Vec<&MemoryBlock> = blocks.iter().collect();
    blocks.sort_by(|a, b| (&a.numa_nodes, &a.memory_type).cmp(&(&b.numa_nodes, &b.memory_type)));
    blocks.into_iter().map(to_block).collect()
}

fn to_cpu_ids(cpus: &[u32]) -> Vec<i64> {
    let mut ids: Vec<i64> = cpus.iter().copied().map(i64::from).collect();
    ids.sort_unstable();
    ids
}

fn sorted(pods: &[PodView]) -> Vec<&PodView> {
    let mut pods: Vec<&PodView> = pods.iter().collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    pods
}

#[cfg(test)]
mod tests;
