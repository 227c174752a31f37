//! The admission of one pod, step by step, in the order of the kubelet.
//!
//! Scope `container`: for each container in turn, ask the providers (devices, CPU, memory) for hints, merge them by the
//! policy, refuse or allocate. Later containers see what earlier ones got. Scope `pod`: ask and merge once for the pod,
//! then allocate container by container. Policy `none`: no hints, allocate only.

use super::Rejection;
use super::explanation::{Explained, Explanation, Said};
use super::managers::ResourceManagers;
use crate::hint::{MergedHint, TopologyHint, TopologyPolicy, TopologyScope};
use crate::workload::{Container, Pod};

/// Most nodes of which all sets are listed: what the kubelet allows if nobody says otherwise.
const LISTED_NODES: u32 = 8;

impl ResourceManagers {
    /// Decides where every container of the pod goes.
    pub(super) fn place(&mut self, pod: &Pod, mut explanation: Option<&mut Explanation>) -> Result<(), Rejection> {
        if self.topology.policy() == TopologyPolicy::None {
            for container in &pod.containers {
                self.allocate(pod, container, TopologyHint::NONE, explanation.as_deref_mut())?;
            }
            return Ok(());
        }
        if self.topology.scope() == TopologyScope::Pod {
            return self.place_whole_pod(pod, explanation);
        }
        for container in &pod.containers {
            let merged = self.merge(Explained::Container(pod, container), explanation.as_deref_mut());
            if !merged.admit {
                return Err(match &pod.resources {
                    Some(_) if self.pod_level => Rejection::PodLevelAffinityInContainerScope,
                    _ => Rejection::Affinity,
                });
            }
            self.hints.store(&pod.uid, &container.name, merged.hint);
            self.allocate(pod, container, merged.hint, explanation.as_deref_mut())?;
        }
        Ok(())
    }

    /// Scope `pod`.
    fn place_whole_pod(&mut self, pod: &Pod, mut explanation: Option<&mut Explanation>) -> Result<(), Rejection> {
        let merged = self.merge(Explained::Pod(pod), explanation.as_deref_mut());
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
            self.allocate(pod, container, merged.hint, explanation.as_deref_mut())?;
        }
        Ok(())
    }

    /// Lets each provider serve one container.
    pub(super) fn allocate(
        &mut self,
        pod: &Pod,
        container: &Container,
        hint: TopologyHint,
        explanation: Option<&mut Explanation>,
    ) -> Result<(), Rejection> {
        if let Some(explanation) = explanation {
            // Where the CPUs cannot be had, the rejection says so.
            explanation.cpus.extend(self.cpu.explain(pod, container, &hint));
        }
        for provider in self.providers_mut() {
            provider.allocate(pod, container, hint)?;
        }
        Ok(())
    }

    /// Asks the providers and merges what they say.
    ///
    /// Beyond [`LISTED_NODES`] nodes they are asked for conditions instead of lists, which come to the same.
    pub(super) fn merge(&self, subject: Explained<'_>, explanation: Option<&mut Explanation>) -> MergedHint {
        let (merged, said) = if self.topology.nodes().len() > LISTED_NODES {
            let demands = self.ask(|provider| match subject {
                Explained::Container(pod, container) => provider.container_demands(pod, container),
                Explained::Pod(pod) => provider.pod_demands(pod),
            });
            (self.topology.merge_demands(&demands.concat()), Said::Demands(demands))
        } else {
            let hints = self.ask(|provider| match subject {
                Explained::Container(pod, container) => provider.container_hints(pod, container),
                Explained::Pod(pod) => provider.pod_hints(pod),
            });
            (self.topology.merge(&hints), Said::Hints(hints))
        };
        if let Some(explanation) = explanation {
            explanation.note_merge(subject, said, merged);
        }
        merged
    }
}
