//! A changed request of a container that owns CPUs: it keeps as many of them as it can.

use super::{CpuManager, StaticPolicy, allocate_from};
use crate::cpuset::CpuSet;
use crate::hint::NumaMask;
use crate::placement::AllocationError;

impl CpuManager {
    /// The CPUs of a container that has `owned` and claims `count`: a part of what it owns, or all of it and more, the
    /// new ones inside the affinity if possible, or else on the nodes where it is already.
    pub(super) fn resized_cpus(
        &self,
        policy: &StaticPolicy,
        owned: &CpuSet,
        count: usize,
        affinity: Option<NumaMask>,
    ) -> Result<CpuSet, AllocationError> {
        let Some(more) = count.checked_sub(owned.len()) else {
            return allocate_from(&self.machine, owned, count, affinity, &policy.options);
        };
        let mut offered = self.available(policy);
        offered.remove_all(owned);
        let here = || owned.iter().filter_map(|cpu| self.machine.place(cpu)).map(|place| place.numa).collect();
        let near = affinity.unwrap_or_else(here);
        let added = allocate_from(&self.machine, &offered, more, Some(near), &policy.options)?;
        Ok(owned.union(&added))
    }
}
