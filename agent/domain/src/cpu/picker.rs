//! The choice of CPUs out of free ones.

use super::options::CpuOptions;
use crate::cpuset::CpuSet;
use crate::placement::AllocationError;
use crate::topology::Machine;

/// Chooses `count` of the free CPUs.
///
/// # Errors
/// [`AllocationError::NotEnoughCpus`] if fewer are free.
pub fn take(machine: &Machine, free: &CpuSet, count: usize, options: &CpuOptions) -> Result<CpuSet, AllocationError> {
    let _ = (machine, options);
    if count > free.len() {
        return Err(AllocationError::NotEnoughCpus { requested: count, available: free.len() });
    }
    Ok(free.iter().take(count).collect())
}
