//! Containers with CPUs of their own, where they are and where they go: nobody comes to CPUs that another one has still to
//! leave.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;

use crate::subsystems::pinning::decide::{Decision, Rule};
use crate::subsystems::pinning::facts::{self, CPUS, Observed, file_object};

/// Those that have been given CPUs and run, by path.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<String, Owner>);

#[derive(Debug)]
struct Owner {
    /// Where it is; of one that has just come, and so may still be everywhere, its own CPUs.
    now: CpuSet,
    /// Its CPUs after this pass.
    own: CpuSet,
}

impl Owners {
    pub(super) fn new(decision: &Decision, observed: &Observed) -> Self {
        if decision.cpus != Rule::Enforce {
            return Self::default();
        }
        let pods = observed.tree.iter().flat_map(|tree| &tree.pods);
        let owners = pods.flat_map(|pod| &pod.containers).filter_map(|container| {
            let path = &container.cpuset.path;
            let own = decision.holdings.get(path)?.cpus.clone()?;
            let was_placed = observed.records.contains_key(&file_object(path, CPUS));
            let now = if was_placed { facts::effective(&container.cpuset, CPUS)? } else { own.clone() };
            Some((path.clone(), Owner { now, own }))
        });
        Self(owners.collect())
    }

    fn others<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Owner> {
        self.0.iter().filter(move |(other, _)| *other != path).map(|(_, owner)| owner)
    }

    /// True if somebody else is to get some of these CPUs.
    pub(super) fn is_awaited(&self, path: &str, cpus: &CpuSet) -> bool {
        self.others(path).any(|owner| !owner.own.is_disjoint(cpus))
    }

    /// What is left of these CPUs without those on which others are that own theirs.
    pub(super) fn without_theirs(&self, path: &str, cpus: &CpuSet) -> CpuSet {
        self.others(path).fold(cpus.clone(), |left, owner| left.difference(&owner.now))
    }
}
