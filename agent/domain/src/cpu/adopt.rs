//! Recording CPUs that a container already runs on, without deciding anew.

use super::CpuManager;
use crate::cpuset::CpuSet;
use crate::workload::PodUid;

/// Why CPUs that a container runs on are not recorded as its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotAdopted {
    /// These are reserved or not online, or nothing can be owned under policy `none`.
    NotAllocatable(CpuSet),
    /// These belong to another pod.
    Owned(CpuSet),
    /// The container is recorded with these.
    Recorded(CpuSet),
}

impl CpuManager {
    /// True if the options promise what these CPUs do not keep: whole cores.
    #[must_use]
    pub fn breaks_promise(&self, cpus: &CpuSet) -> bool {
        let whole = self.policy.as_ref().is_some_and(|policy| policy.options.full_pcpus_only);
        whole && !self.machine.with_siblings(cpus).is_subset(cpus)
    }

    /// A container is known by another name from now on.
    pub(crate) fn rename(&mut self, pod: &PodUid, from: &str, to: &str) {
        if let Some(containers) = self.state.assignments.get_mut(pod)
            && let Some(cpus) = containers.remove(from)
        {
            containers.insert(to.to_owned(), cpus);
        }
    }

    /// Records what a container runs on; containers of one pod may overlap, as init containers hand their CPUs on.
    ///
    /// # Errors
    /// [`NotAdopted`]; nothing has changed then.
    pub(crate) fn adopt(&mut self, pod: &PodUid, container: &str, cpus: &CpuSet) -> Result<(), NotAdopted> {
        let outside = cpus.difference(&self.allocatable());
        if !outside.is_empty() {
            return Err(NotAdopted::NotAllocatable(outside));
        }
        match self.state.cpus_of(pod, container) {
            Some(recorded) if recorded == cpus => return Ok(()),
            Some(recorded) => return Err(NotAdopted::Recorded(recorded.clone())),
            None => {}
        }
        let own = self.state.assignments.get(pod).into_iter().flat_map(|containers| containers.values());
        let own = own.fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let foreign = cpus.difference(&self.state.default_cpu_set).difference(&own);
        if !foreign.is_empty() {
            return Err(NotAdopted::Owned(foreign));
        }
        self.state.assign(pod, container, cpus.clone());
        Ok(())
    }
}
