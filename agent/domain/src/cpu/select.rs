//! The CPUs of one container: first on the NUMA nodes that were agreed on, then anywhere.

use super::options::CpuOptions;
use super::picker::{self, Style, WholeUnits};
use super::trace::Trace;
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
    select(machine, Offer { cpus: offered, affinity }, count, options, &mut Trace::off())
}

/// CPUs on offer, and where they should come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer<'a> {
    /// May be taken.
    pub(super) cpus: &'a CpuSet,
    /// Nodes to take them from; absent means any.
    pub(super) affinity: Option<NumaMask>,
}

impl Offer<'_> {
    /// The part inside the affinity.
    pub(super) fn inside(&self, machine: &Machine, options: &CpuOptions) -> Option<CpuSet> {
        self.affinity.map(|mask| {
            let mut inside =
                if options.align_by_socket { machine.cpus_in_sockets_of(mask) } else { machine.cpus_in_numas(mask) };
            inside.retain_all(self.cpus);
            inside
        })
    }
}

/// [`allocate_from`], taking down how.
pub(super) fn select(
    machine: &Machine,
    offer: Offer<'_>,
    count: usize,
    options: &CpuOptions,
    trace: &mut Trace,
) -> Result<CpuSet, AllocationError> {
    let style = Style::new(machine, options, WholeUnits::Verified);
    let inside = offer.inside(machine, options);
    if count > offer.cpus.len() {
        return Err(shortage(machine, offer.cpus, count, inside.as_ref(), options));
    }
    let mut result = match inside {
        Some(inside) => picker::choose(machine, &inside, count.min(inside.len()), style, trace)?,
        None => CpuSet::new(),
    };
    let missing = count.saturating_sub(result.len());
    let rest = picker::choose(machine, &offer.cpus.difference(&result), missing, style, trace)?;
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
    let style = Style::new(machine, options, WholeUnits::ByAverage);
    let first = picker::choose(machine, inside, inside.len(), style, &mut Trace::off());
    match first.map(|first| numbers(&first)) {
        Ok(AllocationError::NotEnoughCpus { requested, available }) if requested > available => {
            AllocationError::NotEnoughCpus { requested, available }
        }
        // The kubelet would have given out CPUs that are not free.
        _ => numbers(inside),
    }
}
