//! The CPUs of one container: first on the NUMA nodes that were agreed on, then anywhere.

use super::options::CpuOptions;
use super::picker;
use crate::cpuset::CpuSet;
use crate::hint::NumaMask;
use crate::placement::AllocationError;
use crate::topology::Machine;

/// Chooses `count` CPUs out of those on offer, those inside the affinity first.
///
/// With `align-by-socket` every socket that has a node of the affinity is inside.
///
/// # Errors
/// Those of [`picker::take`]; the numbers are those of the part that failed.
pub fn allocate_from(
    machine: &Machine,
    offered: &CpuSet,
    count: usize,
    affinity: Option<NumaMask>,
    options: &CpuOptions,
) -> Result<CpuSet, AllocationError> {
    let mut result = CpuSet::new();
    if let Some(mask) = affinity {
        let mut inside =
            if options.align_by_socket { machine.cpus_in_sockets_of(mask) } else { machine.cpus_in_numas(mask) };
        inside.retain_all(offered);
        result = picker::take(machine, &inside, count.min(inside.len()), options)?;
    }
    let rest = picker::take(machine, &offered.difference(&result), count.saturating_sub(result.len()), options)?;
    result.insert_all(&rest);
    Ok(result)
}
