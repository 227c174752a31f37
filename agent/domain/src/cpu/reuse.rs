//! CPUs of finished init containers that later containers of the same pod may use again.

use super::CpuManager;
use crate::cpuset::{CpuSet, NO_CPUS};
use crate::workload::{ContainerKind, Pod, PodUid};

/// The reuse pool of one pod; it is forgotten when another pod gets CPUs, and at a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ReusePool {
    owner: Option<PodUid>,
    cpus: CpuSet,
}

impl ReusePool {
    /// CPUs that the next container of the pod may use although they are assigned.
    pub(super) fn of(&self, pod: &PodUid) -> &CpuSet {
        if self.owner.as_ref() == Some(pod) { &self.cpus } else { &NO_CPUS }
    }

    /// Notes what a container got: CPUs of an init container may be used again, those of others no more.
    pub(super) fn note(&mut self, pod: &PodUid, kind: ContainerKind, cpus: &CpuSet) {
        if self.owner.as_ref() != Some(pod) {
            self.owner = Some(pod.clone());
            self.cpus = CpuSet::new();
        }
        match kind {
            ContainerKind::Init => self.cpus.insert_all(cpus),
            ContainerKind::Sidecar | ContainerKind::App => self.cpus.remove_all(cpus),
        }
    }
}

impl CpuManager {
    /// Makes the pool of a pod anew from what its containers own, for one whose containers come one after another, with
    /// other pods between them.
    pub(crate) fn recall_reuse(&mut self, pod: &Pod) {
        let init = |kind| kind == ContainerKind::Init;
        let (over, others): (Vec<_>, Vec<_>) = pod.containers.iter().partition(|container| init(container.kind));
        for container in over.into_iter().chain(others) {
            if let Some(cpus) = self.state.cpus_of(&pod.uid, &container.name) {
                self.reuse.note(&pod.uid, container.kind, cpus);
            }
        }
    }
}
