//! By what the desk answers: the outcome of the last pass.

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::workload::PodUid;

/// How far the desk may decide.
#[derive(Debug, Default)]
pub(in crate::subsystems::pinning) enum Standing {
    /// No pass has looked at the node yet.
    #[default]
    Unknown,
    /// Nothing is wished, or nothing may be written: somebody else pins, or the settings do not fit the machine.
    Silent,
    /// Placements are held.
    Holding(Box<Rules>),
}

/// What is held, and who has what.
#[derive(Debug)]
pub(in crate::subsystems::pinning) struct Rules {
    /// True if CPUs are held.
    pub(in crate::subsystems::pinning) cpus: bool,
    /// True if memory is held.
    pub(in crate::subsystems::pinning) mems: bool,
    /// True if the CFS quota of containers on exclusive CPUs is lifted.
    pub(in crate::subsystems::pinning) lift_quota: bool,
    /// Who has what.
    pub(in crate::subsystems::pinning) managers: ResourceManagers,
}

/// Where a container should run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wish {
    /// CPUs; `None`: nothing is wished.
    pub(super) cpus: Option<CpuSet>,
    /// NUMA nodes; `None`: nothing is wished.
    pub(super) mems: Option<CpuSet>,
    /// True if the CPUs are its own.
    pub(super) exclusive: bool,
}

impl Rules {
    /// Where a container should run.
    pub(super) fn wish(&self, uid: &PodUid, name: &str) -> Wish {
        let mems = self.managers.memory_nodes_of(uid, name).filter(|_| self.mems);
        Wish { mems: mems.map(|nodes| nodes.iter().collect()), ..self.cpu_wish(uid, name) }
    }

    /// The same without a word about memory, for those who ask about all containers.
    pub(super) fn cpu_wish(&self, uid: &PodUid, name: &str) -> Wish {
        let own = self.managers.cpus_of(uid, name).filter(|_| self.cpus);
        // An empty set cannot be told to a runtime; who would get it is left where it is, and the pass says so.
        let shared = Some(self.managers.shared_cpus()).filter(|shared| self.cpus && !shared.is_empty());
        let both = own.and_then(|_| self.runs_on_both(uid, name));
        Wish { cpus: both.or_else(|| own.or(shared).cloned()), mems: None, exclusive: own.is_some() }
    }

    /// Own and shared CPUs of a container whose annotation wants both.
    fn runs_on_both(&self, uid: &PodUid, name: &str) -> Option<CpuSet> {
        let managers = &self.managers;
        if !managers.config().extensions.cpu.annotations {
            return None;
        }
        let pod = managers.active().get(uid)?;
        let container = pod.containers.iter().find(|container| container.name == name)?;
        managers.cpu().runs_on(pod, container).ok()
    }

    /// What is left of a place (`None`: everywhere) under a wish, if anything has to be left: and true if nothing of the
    /// old place remains, so that the container moves.
    pub(super) fn narrowed(&self, now: Option<&CpuSet>, wish: &Wish) -> Option<(CpuSet, bool)> {
        let wish = wish.cpus.as_ref()?;
        let now = now.unwrap_or_else(|| self.managers.machine().online());
        if now.is_subset(wish) {
            return None;
        }
        let kept = now.intersection(wish);
        Some(if kept.is_empty() { (wish.clone(), true) } else { (kept, false) })
    }

    /// True if this is all there is, so that a container need not be told.
    pub(super) fn is_everything(&self, cpus: &CpuSet) -> bool {
        self.managers.machine().online().is_subset(cpus)
    }
}
