//! Memory of a whole pod that has resources of its own (gate `PodLevelResourceManagers`, alpha, KEP-5526).
//!
//! Under scope `pod` the pod gets its memory as one, and only that is charged; its containers share it out on paper.
//! One that would be Guaranteed alone has what it asks for. Of the rest all others have the same: what is left beside
//! sidecars and application containers with memory of their own, or, for an init container, beside the sidecars before
//! it. Under any other scope the containers of such a pod are served one by one.

use super::{Block, MemoryManager, MemoryRequest};
use crate::hint::TopologyHint;
use crate::placement::AllocationError;
use crate::workload::{ContainerKind, Pod, ResourceName};

impl MemoryManager {
    /// What the pod itself asks for, if its resources count as a whole.
    pub(super) fn pod_level_request(&self, pod: &Pod) -> Option<Result<MemoryRequest, AllocationError>> {
        pod.resources.as_ref().map(MemoryRequest::of_resources)
    }

    /// Gives a pod with resources of its own its memory, and every container its part of it.
    ///
    /// Like the kubelet this does not look whether the pod has its memory: admitted once more, it is charged once more, and
    /// what was charged first belongs to nobody until the state is made anew.
    ///
    /// # Errors
    /// As for [`allocate`](Self::allocate).
    pub fn allocate_pod(&mut self, pod: &Pod, hint: &TopologyHint) -> Result<(), AllocationError> {
        let Some(policy) = self.pinning(pod) else { return Ok(()) };
        let Some(request) = self.pod_level_request(pod) else { return Ok(()) };
        let request = request?;
        let nodes = self.choose(policy, &pod.uid, &request, *hint)?;
        let parts = divide(pod, &request)?;
        let blocks = |part: &MemoryRequest| {
            part.iter().map(|(kind, bytes)| Block { nodes, kind: kind.clone(), bytes }).collect::<Vec<_>>()
        };
        for (kind, bytes) in request.iter() {
            self.state.charge(nodes, kind, bytes);
        }
        self.state.insert_pod(&pod.uid, blocks(&request));
        for (container, part) in parts {
            self.state.insert(&pod.uid, container, blocks(&part));
        }
        Ok(())
    }
}

/// The part of every container, by name.
fn divide<'a>(pod: &'a Pod, whole: &MemoryRequest) -> Result<Vec<(&'a str, MemoryRequest)>, AllocationError> {
    let mut own = Vec::with_capacity(pod.containers.len());
    for container in &pod.containers {
        let request =
            container.resources.is_guaranteed().then(|| MemoryRequest::of_container(container)).transpose()?;
        own.push((container, request));
    }
    let mut left = whole.clone();
    let mut parts = Vec::with_capacity(own.len());
    for (container, request) in &own {
        match (container.kind, request) {
            (ContainerKind::Init, None) => parts.push((container.name.as_str(), left.clone())),
            (ContainerKind::Init, Some(request)) => parts.push((container.name.as_str(), request.clone())),
            (_, Some(request)) => {
                left = left.without(request);
                parts.push((container.name.as_str(), request.clone()));
            }
            (_, None) => {}
        }
    }
    let sharing = own.iter().filter(|(container, request)| request.is_none() && container.kind != ContainerKind::Init);
    parts.extend(sharing.map(|(container, _)| (container.name.as_str(), left.clone())));
    Ok(parts)
}

impl MemoryRequest {
    /// What is left of a request beside another; a type of which nothing is left stays, with no bytes.
    fn without(&self, other: &Self) -> Self {
        let rest =
            |(kind, bytes): (&ResourceName, u64)| (kind.clone(), bytes.saturating_sub(other.bytes(kind).unwrap_or(0)));
        self.iter().map(rest).collect()
    }
}
