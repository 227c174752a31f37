//! The CPUs of one container: first on the NUMA nodes that were agreed on, then anywhere.

use super::options::CpuOptions;
use super::picker::{self, WholeUnits};
use crate::cpuset::{CpuSet, NO_CPUS};
use crate::hint::NumaMask;
use crate::placement::AllocationError;
use crate::topology::Machine;

/// Chooses `count` CPUs out of those on offer, those inside the affinity first.
///
/// With `align-by-socket` every socket that has a node of the affinity is inside.
///
/// # Errors
/// Those of [`take`](picker::take); the numbers are those of the part that failed.
pub fn allocate_from(
    machine: &Machine,
    offered: &CpuSet,
    count: usize,
    affinity: Option<NumaMask>,
    options: &CpuOptions,
) -> Result<CpuSet, AllocationError> {
    let inside = affinity.map(|mask| {
        let mut inside =
            if options.align_by_socket { machine.cpus_in_sockets_of(mask) } else { machine.cpus_in_numas(mask) };
        inside.retain_all(offered);
        inside
    });
    if count > offered.len() {
        return Err(shortage(machine, offered, count, inside.as_ref(), options));
    }
    let mut result = match inside {
        Some(inside) => picker::take(machine, &inside, count.min(inside.len()), options)?,
        None => CpuSet::new(),
    };
    let rest = picker::take(machine, &offered.difference(&result), count.saturating_sub(result.len()), options)?;
    result.insert_all(&rest);
    Ok(result)
}

/// What the kubelet says when too few CPUs are on offer: the numbers of its second selection. On machines whose cores
/// or sockets differ in size its first selection may contain CPUs that were not on offer, and then more are left.
fn shortage(
    machine: &Machine,
    offered: &CpuSet,
    count: usize,
    inside: Option<&CpuSet>,
    options: &CpuOptions,
) -> AllocationError {
    let numbers = |first: &CpuSet| {
        let (requested, available) = (count.saturating_sub(first.len()), offered.difference(first).len());
        AllocationError::NotEnoughCpus { requested, available }
    };
    let Some(inside) = inside else { return numbers(&NO_CPUS) };
    let first = picker::take_by(machine, inside, inside.len(), options, WholeUnits::ByAverage);
    match first.map(|first| numbers(&first)) {
        Ok(AllocationError::NotEnoughCpus { requested, available }) if requested > available => {
            AllocationError::NotEnoughCpus { requested, available }
        }
        // The kubelet would have given out CPUs that are not free.
        _ => numbers(inside),
    }
}
