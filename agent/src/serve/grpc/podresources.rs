//! `v1.PodResourcesLister` and `v1alpha1.PodResourcesLister`, answered from the placements alone.
//!
//! Four choices where the kubelet's behaviour leaves room:
//! before the first pass the lists are empty and not an error, as the kubelet has it (health says NOT_SERVING);
//! a pod whose name no local source knows is listed under its uid with an empty namespace, because clients compute free
//! CPUs as allocatable minus the sum over List, and leaving it out would make taken CPUs look free;
//! every list is sorted, which breaks no client, as the kubelet promises no order;
//! the cgroup tree does not tell an ordinary init container from an app container, so one that is running is listed.

mod service;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use trimtab_proto::podresources::{v1, v1alpha1};

pub(crate) use self::service::{PodResourcesV1, PodResourcesV1Alpha1};
use super::{COMMON_CLIENT_LIMIT_BYTES, Refused, unary};
use crate::reconcile::node_view::{ContainerView, MemoryBlock, NodeView, PodView};

/// The placements, and the answers that were encoded from them.
pub(crate) struct Lister {
    view: watch::Receiver<Arc<NodeView>>,
    list: Cached,
    list_v1alpha1: Cached,
    allocatable: Cached,
}

/// One encoded answer and the placements it was made from.
type Cached = Mutex<Option<(Arc<NodeView>, Bytes)>>;

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister").finish_non_exhaustive()
    }
}

impl Lister {
    pub(crate) fn new(view: watch::Receiver<Arc<NodeView>>) -> Self {
        Self { view, list: Mutex::default(), list_v1alpha1: Mutex::default(), allocatable: Mutex::default() }
    }

    fn list(&self) -> Bytes {
        self.encoded(&self.list, to_list)
    }

    fn list_v1alpha1(&self) -> Bytes {
        self.encoded(&self.list_v1alpha1, to_list_v1alpha1)
    }

    fn allocatable(&self) -> Bytes {
        self.encoded(&self.allocatable, to_allocatable)
    }

    /// One pod. Of two pods with one name, the older of which is still being deleted, the one that runs containers.
    fn pod(&self, request: v1::GetPodResourcesRequest) -> Result<Bytes, Refused> {
        let view = Arc::clone(&self.view.borrow());
        let found = view
            .pods
            .iter()
            .filter(|pod| pod.name == request.pod_name && pod.namespace == request.pod_namespace)
            .max_by_key(|pod| pod.containers.len());
        match found {
            Some(pod) => Ok(unary::frame(&v1::GetPodResourcesResponse { pod_resources: Some(to_pod(pod)) })),
            None => Err(Refused::PodNotFound { name: request.pod_name, namespace: request.pod_namespace }),
        }
    }

    /// Encodes when the placements have changed since the last call, and shares the bytes until then.
    fn encoded<M: Message>(&self, cached: &Cached, to_message: fn(&NodeView) -> M) -> Bytes {
        let view = Arc::clone(&self.view.borrow());
        let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, bytes)) = cached.as_ref()
            && Arc::ptr_eq(from, &view)
        {
            return bytes.clone();
        }
        let bytes = unary::frame(&to_message(&view));
        if bytes.len() > COMMON_CLIENT_LIMIT_BYTES {
            tracing::warn!(
                bytes = bytes.len(),
                "an answer about this node is larger than the 4 MiB that gRPC clients accept by default; \
                 clients must raise their limit for received messages"
            );
        }
        *cached = Some((view, bytes.clone()));
        bytes
    }
}

fn to_list(view: &NodeView) -> v1::ListPodResourcesResponse {
    v1::ListPodResourcesResponse { pod_resources: sorted(view).into_iter().map(to_pod).collect() }
}

fn to_allocatable(view: &NodeView) -> v1::AllocatableResourcesResponse {
    v1::AllocatableResourcesResponse {
        devices: Vec::new(),
        cpu_ids: to_cpu_ids(&view.allocatable_cpus),
        memory: view.allocatable_memory.iter().map(to_memory).collect(),
    }
}

fn to_list_v1alpha1(view: &NodeView) -> v1alpha1::ListPodResourcesResponse {
    let containers = |pod: &PodView| {
        sorted_containers(pod)
            .into_iter()
            .map(|container| v1alpha1::ContainerResources { name: container.name.clone(), devices: Vec::new() })
            .collect()
    };
    let pod_resources = sorted(view)
        .into_iter()
        .map(|pod| v1alpha1::PodResources {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            containers: containers(pod),
        })
        .collect();
    v1alpha1::ListPodResourcesResponse { pod_resources }
}

fn to_pod(pod: &PodView) -> v1::PodResources {
    v1::PodResources {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        containers: sorted_containers(pod).into_iter().map(to_container).collect(),
    }
}

fn to_container(container: &ContainerView) -> v1::ContainerResources {
    v1::ContainerResources {
        name: container.name.clone(),
        devices: Vec::new(),
        cpu_ids: to_cpu_ids(&container.exclusive_cpus),
        memory: container.memory.iter().map(to_memory).collect(),
        dynamic_resources: Vec::new(),
    }
}

fn to_memory(block: &MemoryBlock) -> v1::ContainerMemory {
    let nodes = block.numa_nodes.iter().map(|node| v1::NumaNode { id: i64::from(*node) }).collect();
    v1::ContainerMemory {
        memory_type: block.memory_type.clone(),
        size: block.size_bytes,
        topology: Some(v1::TopologyInfo { nodes }),
    }
}

fn to_cpu_ids(cpus: &[u32]) -> Vec<i64> {
    let mut ids: Vec<i64> = cpus.iter().copied().map(i64::from).collect();
    ids.sort_unstable();
    ids
}

fn sorted(view: &NodeView) -> Vec<&PodView> {
    let mut pods: Vec<&PodView> = view.pods.iter().collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    pods
}

fn sorted_containers(pod: &PodView) -> Vec<&ContainerView> {
    let mut containers: Vec<&ContainerView> = pod.containers.iter().collect();
    containers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    containers
}
