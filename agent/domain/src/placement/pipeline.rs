//! The admission of one pod, step by step, in the order of the kubelet.
//!
//! Scope `container`: for each container in turn, ask the providers (devices, CPU, memory) for hints, merge them by the
//! policy, refuse or allocate. Later containers see what earlier ones got. Scope `pod`: ask and merge once for the pod,
//! then allocate container by container. Policy `none`: no hints, allocate only.

use super::Rejection;
use super::explanation::{Explained, Explanation};
use super::managers::ResourceManagers;
use crate::hint::{MergedHint, ProviderHints, TopologyHint, TopologyPolicy, TopologyScope};
use crate::workload::{Container, Pod};

impl ResourceManagers {
    /// Decides where every container of the pod goes.
    pub(super) fn place(&mut self, pod: &Pod, mut explanation: Option<&mut Explanation>) -> Result<(), Rejection> {
        if self.topology.policy() == TopologyPolicy::None {
            for container in &pod.containers {
                self.allocate(pod, container, TopologyHint::NONE)?;
            }
            return Ok(());
        }
        if self.topology.scope() == TopologyScope::Pod {
            return self.place_whole_pod(pod, explanation);
        }
        for container in &pod.containers {
            let opinions = self.hints_by_provider(|provider| provider.container_hints(pod, container));
            let merged = self.topology.merge(&opinions);
            Self::note(explanation.as_deref_mut(), Explained::Container(&container.name), &opinions, merged);
            if !merged.admit {
                return Err(match &pod.resources {
                    Some(_) if self.pod_level => Rejection::PodLevelAffinityInContainerScope,
                    _ => Rejection::Affinity,
                });
            }
            self.hints.store(&pod.uid, &container.name, merged.hint);
            self.allocate(pod, container, merged.hint)?;
        }
        Ok(())
    }

    /// Scope `pod`.
    fn place_whole_pod(&mut self, pod: &Pod, explanation: Option<&mut Explanation>) -> Result<(), Rejection> {
        let opinions = self.hints_by_provider(|provider| provider.pod_hints(pod));
        let merged = self.topology.merge(&opinions);
        Self::note(explanation, Explained::Pod, &opinions, merged);
        if !merged.admit {
            return Err(match &pod.resources {
                Some(_) if self.pod_level => Rejection::PodLevelAffinityInPodScope,
                _ => Rejection::Affinity,
            });
        }
        if self.pod_level && pod.resources.is_some() {
            pod.containers.iter().for_each(|container| self.hints.store(&pod.uid, &container.name, merged.hint));
            for provider in self.providers_mut() {
                provider.allocate_pod(pod, merged.hint)?;
            }
            return Ok(());
        }
        for container in &pod.containers {
            self.hints.store(&pod.uid, &container.name, merged.hint);
            self.allocate(pod, container, merged.hint)?;
        }
        Ok(())
    }

    /// Lets each provider serve one container.
    fn allocate(&mut self, pod: &Pod, container: &Container, hint: TopologyHint) -> Result<(), Rejection> {
        for provider in self.providers_mut() {
            provider.allocate(pod, container, hint)?;
        }
        Ok(())
    }

    fn note(
        explanation: Option<&mut Explanation>,
        subject: Explained<'_>,
        opinions: &[ProviderHints],
        merged: MergedHint,
    ) {
        if let Some(explanation) = explanation {
            explanation.note_merge(subject, opinions, merged);
        }
    }
}
