//! The containers that live, what the runtime was last told of each, and what has to be told next.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::{ContainerId, PodUid};

use super::standing::{Rules, Wish};
use crate::ports::admission::CpusetUpdate;

/// A container that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    /// Its pod.
    pub(super) uid: PodUid,
    /// Its name in the pod.
    pub(super) name: String,
    /// Its sandbox hands the specification to a guest: it is left alone.
    pub(super) sandboxed: bool,
    /// Where it may run as far as the desk knows; `None`: everywhere.
    pub(super) cpus: Option<CpuSet>,
    /// Where its memory may be; `None`: everywhere.
    pub(super) mems: Option<CpuSet>,
    /// True if it was created with sets of ours, so that it never had any others.
    pub(super) born_pinned: bool,
    /// CPUs that the runtime was last told of it in the answer to a request.
    pub(super) answered: Option<CpuSet>,
}

impl Live {
    /// Notes that the runtime has been told these sets; what is absent stays as it is.
    pub(super) fn told(&mut self, cpus: Option<&CpuSet>, mems: Option<&CpuSet>) {
        if let Some(cpus) = cpus {
            self.cpus = Some(cpus.clone());
            self.answered = Some(cpus.clone());
        }
        if let Some(mems) = mems {
            self.mems = Some(mems.clone());
        }
    }
}

/// All of them, by id.
#[derive(Debug, Default)]
pub(super) struct Living(pub(super) BTreeMap<ContainerId, Live>);

impl Living {
    /// What has to be taken from whom, so that every container keeps to its wish; notes it as told.
    ///
    /// Nothing here lets a container run where it did not run before, unless nothing of its old place is left to it:
    /// growing waits for a pass, which first reads back that the others have left. Those that only lose come first.
    /// Memory stays where it is: moving pages is for a pass to decide.
    pub(super) fn narrow(&mut self, rules: &Rules, except: Option<&ContainerId>) -> Vec<CpusetUpdate> {
        let (mut shrinking, mut moving) = (Vec::new(), Vec::new());
        for (id, live) in &mut self.0 {
            if live.sandboxed || except == Some(id) {
                continue;
            }
            let wish = rules.cpu_wish(&live.uid, &live.name);
            let Some((cpus, moves)) = rules.narrowed(live.cpus.as_ref(), &wish) else { continue };
            live.told(Some(&cpus), None);
            let lift_quota = wish.exclusive && rules.lift_quota;
            let update = CpusetUpdate { id: id.clone(), cpus: Some(cpus), mems: None, lift_quota };
            if moves { moving.push(update) } else { shrinking.push(update) }
        }
        shrinking.append(&mut moving);
        shrinking
    }

    /// CPUs that somebody else owns, or nobody shares any more, and that a container has not been told to leave.
    pub(super) fn not_left(&self, rules: &Rules) -> CpuSet {
        let mut cpus = CpuSet::new();
        for live in self.0.values().filter(|live| !live.sandboxed) {
            // Who runs on shared CPUs may share them with newcomers, too.
            let Some(told) = live.cpus.as_ref().filter(|told| !told.is_subset(rules.managers.shared_cpus())) else {
                continue;
            };
            if let Wish { cpus: Some(wish), .. } = rules.cpu_wish(&live.uid, &live.name) {
                cpus.insert_all(&told.difference(&wish));
            }
        }
        cpus
    }
}
