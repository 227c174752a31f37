//! What every container holds at the moment, as far as anybody knows: the desk, the ledger, or the kernel.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::record::Record;
use trimtab_domain::workload::PodUid;

use super::candidates::{Candidate, Member};
use crate::subsystems::pinning::facts::{self, CPUS, MEMS, Observed};
use crate::subsystems::pinning::placement_record::{self, Holding};

/// How well it is known what a container holds; the better known is believed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The desk gave it, or an earlier pass.
    Desk,
    /// The desk keeps it for a container that does not run.
    Kept,
    /// The ledger remembers it.
    Ledger,
    /// The files of the cgroup look like it.
    Shape,
}

/// Everything that is held.
pub(super) struct HeldNow<'a> {
    observed: &'a Observed,
    desk: BTreeMap<(&'a PodUid, &'a str), Holding>,
    ledger: BTreeMap<&'a str, Holding>,
    usable: [CpuSet; 2],
}

impl<'a> HeldNow<'a> {
    pub(super) fn new(observed: &'a Observed) -> Self {
        let places = observed.desk.places.iter();
        let desk = places.map(|place| {
            let holding = Holding { cpus: place.cpus.clone(), nodes: place.nodes, ..Holding::default() };
            ((&place.pod.uid, place.container.as_str()), holding)
        });
        Self {
            observed,
            desk: desk.collect(),
            ledger: observed.records.values().filter_map(Holding::from_record).collect(),
            usable: [observed.usable_cpus(), observed.usable_mems()],
        }
    }

    /// What a container holds, and who says so; `None`: nothing is known that it holds.
    pub(super) fn of(&self, candidate: &Candidate<'_>, member: &Member<'_>) -> Option<(Source, Holding)> {
        let uid = &candidate.pod.uid;
        let given = self.of_name(uid, member.known.key()).or_else(|| self.of_name(uid, &member.known.id.0));
        let Some(cgroup) = member.cgroup else { return given.map(|holding| (Source::Kept, holding)) };
        if let Some(holding) = given {
            return Some((Source::Desk, holding));
        }
        let path = cgroup.cpuset.path.as_str();
        if let Some(holding) = self.ledger.get(path) {
            return Some((Source::Ledger, holding.clone()));
        }
        // What the agent itself has narrowed is the shared pool, however many CPUs that has.
        if self.observed.records.contains_key(&facts::file_object(path, CPUS)) {
            return None;
        }
        let [cpus, mems] = &self.usable;
        let narrow = |file, all: &CpuSet| {
            facts::configured_set(&cgroup.cpuset, file).filter(|set| !set.is_empty() && set != all)
        };
        let nodes = narrow(MEMS, mems).map(|nodes| nodes.iter().collect());
        Some((Source::Shape, Holding { cpus: narrow(CPUS, cpus), nodes, ..Holding::default() }))
    }

    /// What the desk has given to the container of this name.
    pub(super) fn of_name(&self, uid: &PodUid, name: &str) -> Option<Holding> {
        self.desk.get(&(uid, name)).cloned()
    }

    /// The ledger.
    pub(super) const fn records(&self) -> &'a BTreeMap<String, Record> {
        &self.observed.records
    }

    /// True if the ledger or the desk knows what the container holds.
    pub(super) fn is_recorded(&self, candidate: &Candidate<'_>, member: &Member<'_>) -> bool {
        let by_ledger = member
            .cgroup
            .is_some_and(|cgroup| self.observed.records.contains_key(&placement_record::object(&cgroup.cpuset.path)));
        by_ledger || self.desk.contains_key(&(&candidate.pod.uid, member.known.key()))
    }
}
