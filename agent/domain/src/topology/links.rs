//! Positions of units in the lists of the machine, and which unit lies in which: what the inner loops look up.

use std::collections::BTreeMap;

use super::{CpuPlace, Unit};

/// Positions of a CPU's units in the lists of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CpuIndex {
    core: u16,
    uncore: u16,
    socket: u16,
    numa: u16,
}

impl CpuIndex {
    pub(crate) fn core(self) -> usize {
        usize::from(self.core)
    }

    pub(crate) fn uncore(self) -> usize {
        usize::from(self.uncore)
    }

    pub(crate) fn socket(self) -> usize {
        usize::from(self.socket)
    }

    pub(crate) fn numa(self) -> usize {
        usize::from(self.numa)
    }
}

/// Units of one kind by the position of a unit of another kind with which they share a CPU; ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Links {
    pub(crate) sockets_of_numa: Vec<Vec<usize>>,
    pub(crate) numas_of_socket: Vec<Vec<usize>>,
    pub(crate) uncores_of_numa: Vec<Vec<usize>>,
    pub(crate) cores_of_numa: Vec<Vec<usize>>,
    pub(crate) cores_of_socket: Vec<Vec<usize>>,
    pub(crate) cores_of_uncore: Vec<Vec<usize>>,
}

impl Links {
    pub(super) fn new(cores: &[Unit], uncores: &[Unit], sockets: &[Unit], numas: &[Unit]) -> Self {
        Self {
            sockets_of_numa: link(numas, sockets),
            numas_of_socket: link(sockets, numas),
            uncores_of_numa: link(numas, uncores),
            cores_of_numa: link(numas, cores),
            cores_of_socket: link(sockets, cores),
            cores_of_uncore: link(uncores, cores),
        }
    }
}

fn link(from: &[Unit], to: &[Unit]) -> Vec<Vec<usize>> {
    let touching = |unit: &Unit| {
        let touches = |(_, other): &(usize, &Unit)| other.list().iter().any(|cpu| unit.cpus().contains(*cpu));
        to.iter().enumerate().filter(touches).map(|(position, _)| position).collect()
    };
    from.iter().map(touching).collect()
}

/// Positions by CPU number; CPUs that are not online have the default.
pub(super) fn index(places: &BTreeMap<u32, CpuPlace>, lists: [&[Unit]; 4]) -> Vec<CpuIndex> {
    let highest = places.keys().next_back().map_or(0, |cpu| *cpu as usize + 1);
    let mut indexes = vec![CpuIndex::default(); highest];
    let position = |units: &[Unit], id: u32| {
        let found = units.binary_search_by_key(&id, Unit::id).unwrap_or(0);
        u16::try_from(found).unwrap_or(0) // a machine has at most MAX_CPUS units
    };
    let [cores, uncores, sockets, numas] = lists;
    for (cpu, place) in places {
        if let Some(slot) = indexes.get_mut(*cpu as usize) {
            slot.core = position(cores, place.core);
            slot.uncore = position(uncores, place.uncore);
            slot.socket = position(sockets, place.socket);
            slot.numa = position(numas, place.numa);
        }
    }
    indexes
}
