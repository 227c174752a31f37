//! A group of CPUs that share a piece of hardware.

use std::collections::BTreeMap;

use super::CpuPlace;
use crate::cpuset::CpuSet;

/// A core, an uncore cache, a socket or a NUMA node, with the online CPUs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    id: u32,
    cpus: CpuSet,
    list: Vec<u32>,
}

impl Unit {
    /// Id of the hardware; for a core its lowest online CPU.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Its online CPUs; never empty.
    #[must_use]
    pub const fn cpus(&self) -> &CpuSet {
        &self.cpus
    }

    /// Its online CPUs as a list, ascending.
    #[must_use]
    pub fn list(&self) -> &[u32] {
        &self.list
    }

    /// Number of its online CPUs.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a unit without CPUs does not exist")]
    pub const fn len(&self) -> usize {
        self.list.len()
    }
}

/// Groups the CPUs by one of their ids; ascending by id.
pub(super) fn group(places: &BTreeMap<u32, CpuPlace>, id: fn(&CpuPlace) -> u32) -> Vec<Unit> {
    let mut groups = BTreeMap::<u32, CpuSet>::new();
    for (cpu, place) in places {
        groups.entry(id(place)).or_default().insert(*cpu);
    }
    groups.into_iter().map(|(id, cpus)| Unit { id, list: cpus.iter().collect(), cpus }).collect()
}
