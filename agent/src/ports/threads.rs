//! Where the threads of containers may run.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::ContainerId;

/// The affinity masks of threads.
pub trait Threads: Send + Sync + 'static {
    /// The threads of each of these containers; one whose processes cannot be seen is left out. Every process of the
    /// host is looked at once, so this is not for every pass.
    fn masks(&self, containers: &[&ContainerId]) -> BTreeMap<ContainerId, ThreadMasks>;
}

/// The threads of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadMasks {
    /// How many threads were looked at.
    pub threads: usize,
    /// How many have which mask (`Cpus_allowed_list`, proc_pid_status(5)).
    pub cpus: Vec<(CpuSet, usize)>,
    /// True if there are more threads than were looked at.
    pub truncated: bool,
}

impl ThreadMasks {
    /// Counts one more thread.
    pub fn add(&mut self, mask: CpuSet) {
        self.threads += 1;
        match self.cpus.iter_mut().find(|(known, _)| *known == mask) {
            Some((_, count)) => *count += 1,
            None => self.cpus.push((mask, 1)),
        }
    }

    /// CPUs on which some thread may run.
    #[must_use]
    pub fn union(&self) -> CpuSet {
        self.cpus.iter().fold(CpuSet::new(), |all, (mask, _)| all.union(mask))
    }

    /// How many threads may run outside these CPUs, and where.
    #[must_use]
    pub fn outside(&self, cpus: &CpuSet) -> (usize, CpuSet) {
        let stray = self.cpus.iter().filter(|(mask, _)| !mask.is_subset(cpus));
        stray.fold((0, CpuSet::new()), |(count, all), (mask, more)| (count + more, all.union(&mask.difference(cpus))))
    }
}
