//! Admission of containers that come one after another: a runtime tells of a container when it makes it, not of the pod.

use std::sync::Arc;

use super::{Rejection, ResourceManagers};
use crate::hint::{TopologyHint, TopologyPolicy, TopologyScope};
use crate::placement::explanation::Explained;
use crate::workload::{Pod, PodUid};

impl ResourceManagers {
    /// Gives the `chosen` containers of a pod what they ask for; all others keep what they have and are not asked about.
    ///
    /// `pod` lists every container known so far. `outlook` is the pod as far as it can be foreseen, for the hint that
    /// scope `pod` merges once for all; absent: `pod` is all there is. A chosen container that has what it asks for keeps
    /// it. The kubelet sees the whole pod at once, so it may refuse at once what is refused here at a later container.
    ///
    /// # Errors
    /// [`Rejection`]; then every container has what it had before.
    pub fn admit_containers(
        &mut self,
        pod: &Arc<Pod>,
        chosen: &[&str],
        outlook: Option<&Pod>,
    ) -> Result<(), Rejection> {
        let known = self.active.get(&pod.uid).cloned();
        let holders = self.holders_of(&pod.uid);
        // Only a change of what is held already needs a copy of everything to go back to.
        let changes_holder = chosen.iter().any(|name| holders.contains(name));
        let before = changes_holder.then(|| self.clone());
        self.activate(pod);
        self.settle();
        self.cpu.recall_reuse(pod);
        let placed = self.place_chosen(pod, chosen, outlook);
        if placed.is_err() {
            if let Some(before) = before {
                *self = before;
            } else {
                chosen.iter().for_each(|name| self.remove_container(&pod.uid, name));
                match known {
                    Some(known) => drop(self.active.insert(known.uid.clone(), known)),
                    None => drop(self.active.remove(&pod.uid)),
                }
            }
        }
        placed
    }

    /// True if a container has CPUs or memory of its own.
    #[must_use]
    pub fn has_place(&self, pod: &PodUid, container: &str) -> bool {
        self.cpus_of(pod, container).is_some() || self.memory_nodes_of(pod, container).is_some()
    }

    /// A container is known by another name from now on, and keeps what it has. Nothing happens if the new name has
    /// something already.
    pub fn rename_container(&mut self, pod: &PodUid, from: &str, to: &str) {
        if self.holders_of(pod).contains(to) || !self.holders_of(pod).contains(from) {
            return;
        }
        self.cpu.rename(pod, from, to);
        self.memory.rename(pod, from, to);
        if let Some(known) = self.active.get_mut(pod) {
            let renamed = Arc::make_mut(known);
            renamed.containers.retain(|container| container.name != to);
            for container in renamed.containers.iter_mut().filter(|container| container.name == from) {
                to.clone_into(&mut container.name);
            }
        }
    }

    fn place_chosen(&mut self, pod: &Pod, chosen: &[&str], outlook: Option<&Pod>) -> Result<(), Rejection> {
        let whole = match (self.topology.policy(), self.topology.scope()) {
            (TopologyPolicy::None, _) => Some(TopologyHint::NONE),
            (_, TopologyScope::Pod) => {
                let merged = self.merge(Explained::Pod(outlook.unwrap_or(pod)), None);
                if !merged.admit {
                    return Err(Rejection::Affinity);
                }
                Some(merged.hint)
            }
            (_, TopologyScope::Container) => None,
        };
        for container in pod.containers.iter().filter(|container| chosen.contains(&container.name.as_str())) {
            let hint = match whole {
                Some(hint) => hint,
                None => {
                    let merged = self.merge(Explained::Container(pod, container), None);
                    if !merged.admit {
                        return Err(Rejection::Affinity);
                    }
                    merged.hint
                }
            };
            if self.topology.policy() != TopologyPolicy::None {
                self.hints.store(&pod.uid, &container.name, hint);
            }
            self.allocate(pod, container, hint, None)?;
        }
        Ok(())
    }
}
