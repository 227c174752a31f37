//! CPUs of a whole pod that has resources of its own (gate `PodLevelResourceManagers`, alpha, KEP-5526).
//!
//! Under scope `pod` the pod gets one set of CPUs, its *bubble*, and shares it out. Sidecars and application containers
//! with CPUs of their own take them out of the bubble; what is left is shared by all other containers. Init containers
//! are over before the application starts, so theirs are taken out of all that is not a sidecar's. Under any other scope
//! such a pod has no bubble, and its containers are served one by one.

use super::claim::CpuClaim;
use super::{CpuManager, StaticPolicy, allocate_from, picker};
use crate::cpuset::CpuSet;
use crate::hint::TopologyHint;
use crate::placement::AllocationError;
use crate::workload::{Container, ContainerKind, Pod, QosClass};

/// CPUs of the bubble: the whole CPU request of a Guaranteed pod with resources of its own, else 0.
pub(super) fn budget(pod: &Pod) -> usize {
    let resources = pod.resources.as_ref().filter(|_| pod.qos == QosClass::Guaranteed);
    resources.and_then(|resources| resources.cpu_request().whole()).unwrap_or(0)
}

/// Checks that what is shared inside the bubble is not empty where a container needs it.
///
/// # Errors
/// [`AllocationError::EmptyPodSharedPool`] or [`AllocationError::EmptyPodSharedPoolForInit`].
fn check_shared(pod: &Pod, claimed: impl Fn(&Container) -> usize) -> Result<(), AllocationError> {
    let budget = budget(pod);
    let (mut sidecars, mut apps, mut shared) = (0, 0, false);
    for container in &pod.containers {
        let cpus = claimed(container);
        match container.kind {
            ContainerKind::Init if cpus == 0 && sidecars == budget => {
                return Err(AllocationError::EmptyPodSharedPoolForInit);
            }
            ContainerKind::Init => {}
            ContainerKind::Sidecar => sidecars += cpus,
            ContainerKind::App => apps += cpus,
        }
        shared |= cpus == 0 && container.kind != ContainerKind::Init;
    }
    if shared && sidecars + apps == budget { Err(AllocationError::EmptyPodSharedPool) } else { Ok(()) }
}

impl CpuManager {
    /// True if the pod is to have a bubble under scope `pod`.
    pub(super) fn is_pod_level(policy: &StaticPolicy, pod: &Pod) -> bool {
        policy.pod_level && pod.resources.is_some()
    }

    /// True if the containers of the pod can share its bubble.
    pub(super) fn bubble_suffices(&self, pod: &Pod) -> bool {
        check_shared(pod, |container| self.claimed(pod, container)).is_ok()
    }

    /// Gives a pod with resources of its own its bubble, and every container its part of it.
    ///
    /// Like the kubelet this does not look whether the pod has a bubble: admitted once more, the pod gets another one, and
    /// the first belongs to nobody until the state is made anew.
    ///
    /// # Errors
    /// As for [`allocate`](Self::allocate), or because nothing would be left for containers that share.
    pub fn allocate_pod(&mut self, pod: &Pod, hint: &TopologyHint) -> Result<(), AllocationError> {
        let count = budget(pod);
        let Some(policy) = self.policy.as_ref().filter(|policy| Self::is_pod_level(policy, pod) && count > 0) else {
            return Ok(());
        };
        if policy.options.full_pcpus_only {
            self.check_full_cores(policy, count, 0)?;
        }
        check_shared(pod, |container| self.claimed(pod, container))?;
        let offered = self.offered(policy, &CpuSet::new(), count, hint.affinity);
        let bubble = allocate_from(&self.machine, &offered, count, hint.affinity, &policy.options)?;
        let parts = self.divide_bubble(policy, pod, &bubble)?;
        self.state.assign_pod(&pod.uid, bubble, parts);
        Ok(())
    }

    /// The part of every container, by name.
    fn divide_bubble(
        &self,
        policy: &StaticPolicy,
        pod: &Pod,
        bubble: &CpuSet,
    ) -> Result<Vec<(String, CpuSet)>, AllocationError> {
        let mut parts = Vec::new();
        let mut left = bubble.clone();
        for container in &pod.containers {
            let claim = self.claim(pod, container)?;
            let cpus = match (claim, container.kind) {
                (CpuClaim::Exclusive { cpus, .. }, _) => picker::take(&self.machine, &left, cpus, &policy.options)?,
                (CpuClaim::Shared(_), ContainerKind::Init) => left.clone(),
                (CpuClaim::Shared(_), _) => continue,
            };
            if container.kind != ContainerKind::Init {
                left.remove_all(&cpus);
            }
            parts.push((container.name.clone(), cpus));
        }
        let rest = pod.containers.iter().filter(|container| parts.iter().all(|(name, _)| *name != container.name));
        let rest: Vec<_> = rest.map(|container| (container.name.clone(), left.clone())).collect();
        parts.extend(rest);
        Ok(parts)
    }
}
