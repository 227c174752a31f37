//! The CPU manager: which containers own CPUs, which CPUs those are, and on which NUMA nodes they could be.
//!
//! # Who owns CPUs
//!
//! Under policy `none` nobody does. Under `static` a container owns CPUs if its pod is Guaranteed and its CPU request is
//! a whole number; all others run on the *shared pool*. The *reserved* CPUs are never owned; they stay in the shared
//! pool unless `strict-cpu-reservation` takes them out. A container keeps its CPUs until its pod is gone, restarts
//! included. Giving CPUs to a container takes them out of the shared pool, removing it puts them back; nothing else moves
//! CPUs. The CPUs of an init container may be used again by later containers of its pod, so sets of one
//! pod can overlap, sets of two pods never.
//!
//! # Which CPUs: the packed form
//!
//! The choice is best fit, on the machine as a tree of sockets, NUMA nodes, uncore caches and cores. Wherever units are
//! visited, those with the fewest free CPUs come first, ties by id: what is already broken up is used up before
//! something whole is broken. Each step walks its units once, in the order that holds when the step begins.
//!
//! 1. Every unit of the outer level that is wholly free and not larger than what is still needed is taken whole. The
//!    outer level is the NUMA node where there are at least as many sockets as nodes, else the socket.
//! 2. The same on the inner one of these two levels.
//! 3. With `prefer-align-cpus-by-uncorecache`: whole caches, then a part of *one* cache, if that gives exactly the rest.
//! 4. Whole cores, unless `distribute-cpus-across-cores` asks for the opposite.
//! 5. Single CPUs, core by core; or, for `distribute-cpus-across-cores`, socket by socket in the order of CPU numbers.
//!
//! So sixteen CPUs of an idle machine with eight CPUs per node are two whole nodes; one CPU goes to a core whose sibling
//! is busy, if there is one.
//!
//! # Which CPUs: the distributed form
//!
//! With `distribute-cpus-across-numa` the CPUs come in equal parts from as few nodes as can hold them, in groups of one
//! CPU, or of one core with `full-pcpus-only`. Of all sets of that many nodes, and of all ways to hand out a remainder
//! that cannot be divided, the one wins that leaves the free CPUs of the nodes most alike (standard deviation); the first
//! one among equals. Inside a node the packed form chooses. Where no even division exists the packed form takes over.
//!
//! # Where the topology manager comes in
//!
//! [`hints()`] lists the sets of NUMA nodes that have enough free CPUs. The merged hint comes back to
//! [`CpuManager::allocate`]: CPUs inside it are chosen first, what is missing then from anywhere, in two separate
//! selections.
//!
//! # Where this differs from the kubelet
//!
//! Decisions are those of kubelet 1.36, with two exceptions where the kubelet breaks its own promise. On machines whose
//! cores or sockets differ in size it takes units for wholly free that are not, and hands out CPUs that are reserved or
//! owned: here a unit counts as whole only if all its CPUs are free. Its distributed form can go round for ever over odd
//! leftovers: here such a division does not exist. (It also overwrites the node set that it remembers as the best one
//! while it goes on searching, with four, six, seven or eight nodes. That does no harm beyond a less even division, and
//! is reproduced; see the module of the exhaustive search.)

use std::sync::Arc;

use crate::cpuset::{CpuSet, NO_CPUS};
use crate::hint::TopologyHint;
use crate::placement::AllocationError;
use crate::topology::Machine;
use crate::workload::{Container, Pod, PodUid};

mod adopt;
mod claim;
mod config;
mod distribute;
mod explain;
mod extensions;
mod hints;
mod opinion;
mod options;
mod picker;
mod pod_level;
mod pool;
mod reservation;
mod resize;
mod reuse;
mod select;
mod state;
mod trace;

pub(crate) use adopt::NotAdopted;
pub use claim::{CpuClaim, SharedReason};
pub use config::{CpuConfig, CpuConfigError};
pub use explain::CpuExplanation;
pub use extensions::{CpuExtensions, EXCLUSIVE_CPUS, IsolatedCpus, SHARED_CPUS};
pub use hints::{demand, hints};
pub use options::{CpuGates, CpuOptions, StaticPolicyError};
pub use picker::take;
pub use reservation::CpuReservation;
pub use select::allocate_from;
pub use state::{CpuState, CpuStateError};
pub use trace::{NodeShare, PickReason, PickStep};

use reuse::ReusePool;

/// What the static policy needs to know beside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StaticPolicy {
    options: CpuOptions,
    extensions: CpuExtensions,
    /// Gate `PodLevelResourceManagers`.
    pod_level: bool,
    reserved: CpuSet,
    /// Reserved CPUs with all their siblings.
    reserved_physical: CpuSet,
}

/// The CPU manager of one machine.
#[derive(Debug, Clone)]
pub struct CpuManager {
    machine: Arc<Machine>,
    /// Absent: policy `none`, nothing is ever owned.
    policy: Option<StaticPolicy>,
    state: CpuState,
    reuse: ReusePool,
}

impl CpuManager {
    /// Makes the manager. It owns nothing until [`start`](Self::start).
    ///
    /// # Errors
    /// See [`CpuConfigError`].
    pub fn new(machine: Arc<Machine>, config: &CpuConfig) -> Result<Self, CpuConfigError> {
        let policy = match config.policy.as_str() {
            "none" => {
                if !config.options.is_empty() {
                    let options: Vec<_> = config.options.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                    return Err(CpuConfigError::OptionsOfNone(options.join(" ")));
                }
                None
            }
            "static" => {
                let total = config.reservation.total.ok_or(CpuConfigError::NoReservation)?;
                if total.0 == 0 {
                    return Err(CpuConfigError::ZeroReservation);
                }
                Some(StaticPolicy::new(&machine, config, total.ceil()).map_err(CpuConfigError::Static)?)
            }
            other => return Err(CpuConfigError::UnknownPolicy(other.to_owned())),
        };
        Ok(Self { machine, policy, state: CpuState::default(), reuse: ReusePool::default() })
    }

    /// Takes over a restored state; [`CpuState::default`] on a new node.
    ///
    /// # Errors
    /// See [`CpuStateError`]; the manager must not be used then.
    pub fn start(&mut self, restored: CpuState) -> Result<(), CpuStateError> {
        self.state = restored;
        self.reuse = ReusePool::default();
        let Some(policy) = &self.policy else { return Ok(()) };
        let accounted = policy.accounted(&self.machine, &self.state.assigned());
        self.state.default_cpu_set.remove_all(&policy.set_apart(&self.machine));
        self.state.validate(&accounted, &policy.reserved, policy.options.strict_reservation)
    }

    /// `none` or `static`, as in the state file.
    #[must_use]
    pub const fn policy_name(&self) -> &'static str {
        if self.policy.is_some() { "static" } else { "none" }
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// True unless the policy is `none`.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        self.policy.is_some()
    }

    /// The options of the policy; absent under `none`.
    #[must_use]
    pub fn options(&self) -> Option<&CpuOptions> {
        self.policy.as_ref().map(|policy| &policy.options)
    }

    /// Who owns what now.
    #[must_use]
    pub const fn state(&self) -> &CpuState {
        &self.state
    }

    /// CPUs that pods never own; empty under `none`.
    #[must_use]
    pub fn reserved(&self) -> &CpuSet {
        self.policy.as_ref().map_or(&NO_CPUS, |policy| &policy.reserved)
    }

    /// Reserved CPUs with all their siblings; empty under `none`.
    #[must_use]
    pub fn reserved_physical(&self) -> &CpuSet {
        self.policy.as_ref().map_or(&NO_CPUS, |policy| &policy.reserved_physical)
    }

    /// CPUs that pods can own at all; empty under `none`.
    #[must_use]
    pub fn allocatable(&self) -> CpuSet {
        self.policy.as_ref().map_or_else(CpuSet::new, |policy| policy.allocatable(&self.machine))
    }

    /// What a container may claim.
    ///
    /// # Errors
    /// [`AllocationError::Annotation`], if annotations count.
    pub fn claim(&self, pod: &Pod, container: &Container) -> Result<CpuClaim, AllocationError> {
        match &self.policy {
            None => Ok(CpuClaim::Shared(SharedReason::Policy)),
            Some(policy) if policy.extensions.annotations => CpuClaim::annotated(pod, container, policy.pod_level),
            Some(policy) => Ok(CpuClaim::of(pod, container, policy.pod_level)),
        }
    }

    /// Number of CPUs that a container may own; 0 also if its annotations are wrong, which [`allocate`](Self::allocate)
    /// tells.
    fn claimed(&self, pod: &Pod, container: &Container) -> usize {
        self.claim(pod, container).map_or(0, CpuClaim::cpus)
    }

    /// Gives a container its CPUs, on the hinted nodes as far as they have them. A container that has CPUs keeps them.
    ///
    /// # Errors
    /// `full-pcpus-only` cannot be kept, or too few CPUs are free, or an annotation is wrong; nothing has changed then.
    pub fn allocate(&mut self, pod: &Pod, container: &Container, hint: &TopologyHint) -> Result<(), AllocationError> {
        let count = self.claim(pod, container)?.cpus();
        let Some(policy) = &self.policy else { return Ok(()) };
        if count == 0 {
            if policy.extensions.resize {
                self.remove_container(&pod.uid, &container.name);
            }
            return Ok(());
        }
        let owned = self.state.cpus_of(&pod.uid, &container.name);
        let resized = owned.filter(|owned| policy.extensions.resize && owned.len() != count);
        if policy.options.full_pcpus_only {
            self.check_full_cores(policy, count, resized.map_or(0, CpuSet::len))?;
        }
        let cpus = match (owned, resized) {
            (_, Some(owned)) => self.resized_cpus(policy, owned, count, hint.affinity)?,
            (Some(owned), None) => {
                self.reuse.note(&pod.uid, container.kind, owned);
                return Ok(());
            }
            (None, None) => {
                let offered = self.offered(policy, self.reuse.of(&pod.uid), count, hint.affinity);
                allocate_from(&self.machine, &offered, count, hint.affinity, &policy.options)?
            }
        };
        self.reuse.note(&pod.uid, container.kind, &cpus);
        if let Some(released) = self.state.unassign(&pod.uid, &container.name) {
            self.give_back(released);
        }
        self.state.assign(&pod.uid, &container.name, cpus);
        Ok(())
    }

    /// The CPUs on which a container may run: its own, the shared ones, or both.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    pub fn runs_on(&self, pod: &Pod, container: &Container) -> Result<CpuSet, AllocationError> {
        let shared = &self.state.default_cpu_set;
        let and_shared = matches!(self.claim(pod, container)?, CpuClaim::Exclusive { and_shared: true, .. });
        Ok(match self.state.cpus_of(&pod.uid, &container.name) {
            Some(owned) if and_shared => owned.union(shared),
            Some(owned) => owned.clone(),
            None if self.policy.is_none() => self.machine.online().clone(),
            None => shared.clone(),
        })
    }

    /// Takes its CPUs from a container; those that no other container of the pod owns are shared again.
    pub fn remove_container(&mut self, pod: &PodUid, container: &str) {
        if let Some(released) = self.state.unassign(pod, container) {
            self.give_back(released);
        }
    }

    /// Takes the CPUs of every container for which `active` is false.
    pub fn retain_active(&mut self, active: impl Fn(&PodUid, &str) -> bool) {
        let mut stale = Vec::new();
        for (pod, container, _) in self.state.iter() {
            if !active(pod, container) {
                stale.push((pod.clone(), container.to_owned()));
            }
        }
        for (pod, container) in stale {
            self.remove_container(&pod, &container);
        }
    }

    /// `full-pcpus-only`. The kubelet checks this even for a container that has its CPUs, and counts CPUs of half-free
    /// cores; so does this. `kept` are CPUs that a resized container keeps.
    fn check_full_cores(&self, policy: &StaticPolicy, requested: usize, kept: usize) -> Result<(), AllocationError> {
        let cpus_per_core = self.machine.cpus_per_core();
        if !requested.is_multiple_of(cpus_per_core) {
            return Err(AllocationError::SmtMultiple { requested, cpus_per_core });
        }
        let available = self.available_outside_reserved_cores(policy);
        if requested.saturating_sub(kept) > available {
            return Err(AllocationError::SmtNotEnough { available, requested, cpus_per_core });
        }
        Ok(())
    }
}

impl StaticPolicy {
    fn new(machine: &Machine, config: &CpuConfig, count: usize) -> Result<Self, StaticPolicyError> {
        let options = CpuOptions::parse(&config.options, config.gates)?;
        options.check_machine(machine, config.single_numa_node)?;
        let reserved = reservation::reserve(machine, &config.reservation.listed, count, &options)?;
        let reserved_physical = machine.with_siblings(&reserved);
        let pod_level = config.gates.pod_level;
        Ok(Self { options, extensions: config.extensions, pod_level, reserved, reserved_physical })
    }
}

#[cfg(test)]
mod tests;
