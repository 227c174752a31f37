//! CPUs of finished init containers that later containers of the same pod may use again.

use crate::cpuset::{CpuSet, NO_CPUS};
use crate::workload::{ContainerKind, PodUid};

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
