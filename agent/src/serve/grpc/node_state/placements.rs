//! Who holds what as messages.

use trimtab_domain::workload;
use trimtab_proto::node::v1alpha1 as wire;

use crate::reconcile::node_view::{self, NodeView};

/// Which pods are wanted.
pub(super) struct Wanted<'a> {
    /// Empty: of all namespaces.
    pub(super) namespace: &'a str,
    /// Name or uid; empty: all.
    pub(super) pod: &'a str,
}

impl Wanted<'_> {
    /// Every pod.
    pub(super) const ALL: Wanted<'static> = Wanted { namespace: "", pod: "" };

    fn includes(&self, pod: &node_view::PodView) -> bool {
        (self.namespace.is_empty() || self.namespace == pod.namespace)
            && (self.pod.is_empty() || self.pod == pod.name || self.pod == pod.uid.0)
    }
}

pub(super) fn to_wire(view: &NodeView, wanted: &Wanted<'_>) -> wire::ListPlacementsResponse {
    wire::ListPlacementsResponse {
        pods: view.pods.iter().filter(|pod| wanted.includes(pod)).map(|pod| to_pod(view, pod)).collect(),
        allocatable_cpus: view.allocatable_cpus.clone(),
        allocatable_memory: view.allocatable_memory.iter().map(to_block).collect(),
        shared_cpus: view.shared_cpus.clone(),
        reserved_cpus: view.reserved_cpus.clone(),
        observe_only: view.observe_only.clone(),
        late_at_start: Some(to_lateness(&view.late_pins.at_start)),
        late_later: Some(to_lateness(&view.late_pins.later)),
    }
}

fn to_lateness(lateness: &node_view::Lateness) -> wire::Lateness {
    // The agent has not run for so long that a duration would not fit.
    let to_wire = |duration: std::time::Duration| duration.try_into().ok();
    wire::Lateness {
        count: lateness.count,
        last: lateness.last.and_then(to_wire),
        longest: lateness.longest.and_then(to_wire),
    }
}

fn to_pod(view: &NodeView, pod: &node_view::PodView) -> wire::Pod {
    let qos = match pod.qos {
        workload::QosClass::Guaranteed => wire::QosClass::Guaranteed,
        workload::QosClass::Burstable => wire::QosClass::Burstable,
        workload::QosClass::BestEffort => wire::QosClass::BestEffort,
    };
    wire::Pod {
        uid: pod.uid.to_string(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        qos: qos.into(),
        containers: pod.containers.iter().map(|container| to_container(view, container)).collect(),
    }
}

fn to_container(view: &NodeView, container: &node_view::ContainerView) -> wire::Container {
    wire::Container {
        name: container.name.clone(),
        id: container.id.to_string(),
        exclusive_cpus: container.exclusive_cpus.clone(),
        memory: container.memory.iter().map(to_block).collect(),
        effective_cpus: container.effective_cpus.clone(),
        effective_mems: container.effective_mems.clone(),
        mispinned: container.mispinned.clone(),
        waiting: container.waiting,
        explanation: view.explanations.get(&container.id).map(|explained| wire::PlacementExplanation {
            rule: explained.rule.clone(),
            request: explained.request.clone(),
            policy: explained.policy.clone(),
            hint: explained.hint.clone(),
            writer: explained.writer.clone(),
        }),
    }
}

fn to_block(block: &node_view::MemoryBlock) -> wire::MemoryBlock {
    wire::MemoryBlock {
        memory_type: block.memory_type.clone(),
        size_bytes: block.size_bytes,
        numa_nodes: block.numa_nodes.clone(),
    }
}
