//! Adoption: what already runs is recorded as it is, so that no restart decides anew over running containers.

use std::sync::Arc;

use super::{Conflict, ResourceManagers};
use crate::cpu::NotAdopted;
use crate::cpuset::CpuSet;
use crate::hint::NumaMask;
use crate::workload::{Container, ContainerKind, Pod};

impl ResourceManagers {
    /// Records that a container of `pod` runs on `cpus` of its own and its memory is bound to `memory_nodes`, and makes
    /// the pod active.
    ///
    /// An empty set means the shared CPUs, no mask all nodes. What is recorded already may be adopted again.
    ///
    /// # Errors
    /// [`Conflict`] (boxed: it is large); nothing has changed then. No CPU is ever recorded for two pods.
    pub fn adopt(
        &mut self,
        pod: &Arc<Pod>,
        container: &str,
        cpus: &CpuSet,
        memory_nodes: Option<NumaMask>,
    ) -> Result<(), Box<Conflict>> {
        if let Some(nodes) = memory_nodes
            && !self.machine().node_mask().is_superset(nodes)
        {
            let (pod, container) = (pod.uid.clone(), container.to_owned());
            return Err(Box::new(Conflict::Memory { pod, container, nodes }));
        }
        if !cpus.is_empty() {
            let twice = self.running_beside(pod, container).intersection(cpus);
            if !twice.is_empty() {
                let (pod, container) = (pod.uid.clone(), container.to_owned());
                return Err(Box::new(Conflict::OwnedBySibling { pod, container, cpus: twice }));
            }
            self.cpu.adopt(&pod.uid, container, cpus).map_err(|problem| {
                let (uid, container) = (pod.uid.clone(), container.to_owned());
                Box::new(match problem {
                    NotAdopted::NotAllocatable(cpus) => Conflict::NotAllocatable { pod: uid, container, cpus },
                    NotAdopted::Owned(cpus) => Conflict::Owned { pod: uid, container, cpus },
                    NotAdopted::Recorded(recorded) => {
                        Conflict::OtherCpus { pod: uid, container, recorded, running: cpus.clone() }
                    }
                })
            })?;
        }
        let known = pod.containers.iter().find(|known| known.name == container);
        if let (Some(nodes), Some(known)) = (memory_nodes, known) {
            // A request that is no whole number of bytes was never in the book.
            let _ = self.memory.adopt(pod, known, nodes);
        }
        self.activate(pod);
        Ok(())
    }

    /// CPUs of the containers of the pod that run at the same time as this one. Init containers hand their CPUs on, and
    /// containers of a pod with resources of its own share what the pod has.
    fn running_beside(&self, pod: &Pod, container: &str) -> CpuSet {
        let runs_on = |known: &&Container| known.kind != ContainerKind::Init;
        let mut beside = CpuSet::new();
        if pod.resources.is_none() && pod.containers.iter().filter(runs_on).any(|known| known.name == container) {
            let others = pod.containers.iter().filter(runs_on).filter(|known| known.name != container);
            others.filter_map(|known| self.cpus_of(&pod.uid, &known.name)).for_each(|cpus| beside.insert_all(cpus));
        }
        beside
    }
}
