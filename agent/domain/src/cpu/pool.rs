//! The pools: what is shared, what may become exclusive, and where isolated CPUs belong.

use super::extensions::IsolatedCpus;
use super::{CpuManager, StaticPolicy};
use crate::cpuset::CpuSet;
use crate::hint::NumaMask;
use crate::topology::Machine;

impl StaticPolicy {
    /// Isolated CPUs that are not shared.
    pub(super) fn set_apart(&self, machine: &Machine) -> CpuSet {
        match self.extensions.isolated {
            IsolatedCpus::Ordinary => CpuSet::new(),
            IsolatedCpus::ExclusiveOnly | IsolatedCpus::Untouched => machine.isolated().difference(&self.reserved),
        }
    }

    /// CPUs that containers can own at all.
    pub(super) fn allocatable(&self, machine: &Machine) -> CpuSet {
        let mut cpus = machine.online().difference(&self.reserved);
        if self.extensions.isolated == IsolatedCpus::Untouched {
            cpus.remove_all(machine.isolated());
        }
        cpus
    }

    /// CPUs that must be in the shared pool or owned; `owned` are those that are.
    pub(super) fn accounted(&self, machine: &Machine, owned: &CpuSet) -> CpuSet {
        let mut cpus = machine.online().clone();
        if self.options.strict_reservation {
            cpus.remove_all(&self.reserved);
        }
        let mut apart = self.set_apart(machine);
        if self.extensions.isolated == IsolatedCpus::ExclusiveOnly {
            apart.remove_all(owned);
        }
        cpus.remove_all(&apart);
        cpus
    }
}

impl CpuManager {
    /// CPUs that may become exclusive now.
    pub(super) fn available(&self, policy: &StaticPolicy) -> CpuSet {
        let mut cpus = self.state.default_cpu_set.difference(&policy.reserved);
        if policy.extensions.isolated == IsolatedCpus::ExclusiveOnly {
            cpus.insert_all(&policy.set_apart(&self.machine).difference(&self.state.assigned()));
        }
        cpus
    }

    /// CPUs that a container may choose from: what is available and what it may use again; isolated ones alone if they
    /// are meant for this and suffice.
    pub(super) fn offered(
        &self,
        policy: &StaticPolicy,
        reusable: &CpuSet,
        count: usize,
        affinity: Option<NumaMask>,
    ) -> CpuSet {
        let mut offered = self.available(policy);
        offered.insert_all(reusable);
        if policy.extensions.isolated == IsolatedCpus::ExclusiveOnly {
            let mut isolated = offered.intersection(self.machine.isolated());
            if let Some(mask) = affinity {
                isolated.retain_all(&self.machine.cpus_in_numas(mask));
            }
            if isolated.len() >= count {
                return isolated;
            }
        }
        offered
    }

    /// Number of CPUs outside reserved cores that may become exclusive now; those of half-free cores count.
    pub(super) fn available_outside_reserved_cores(&self, policy: &StaticPolicy) -> usize {
        if policy.extensions.isolated == IsolatedCpus::Ordinary {
            let shared = &self.state.default_cpu_set;
            return shared.len() - shared.intersection_len(&policy.reserved_physical);
        }
        self.available(policy).difference(&policy.reserved_physical).len()
    }

    /// Puts released CPUs back to where they are shared, or set apart.
    pub(super) fn give_back(&mut self, mut released: CpuSet) {
        if let Some(policy) = &self.policy {
            released.remove_all(&policy.set_apart(&self.machine));
        }
        self.state.default_cpu_set.insert_all(&released);
    }
}
