//! What the CPU manager tells the topology manager: hints, or on large machines the conditions they stand for.

use std::borrow::Cow;

use super::claim::claimed_by_pod;
use super::pod_level::budget;
use super::{CpuManager, StaticPolicy, demand, hints};
use crate::cpuset::{CpuSet, NO_CPUS};
use crate::hint::{HintList, Opinion, ProviderHints};
use crate::workload::{Container, Pod, ResourceName};

/// Which CPUs could serve a claim.
enum Prospect<'a> {
    /// Nothing is claimed.
    NoClaim,
    /// It cannot be served: what is owned has another size, and stays.
    Impossible,
    /// Out of these.
    Among {
        /// May be taken.
        free: Cow<'a, CpuSet>,
        /// Must be near, and count wherever they are.
        reusable: Cow<'a, CpuSet>,
        /// How many are claimed.
        count: usize,
    },
}

impl CpuManager {
    /// Where the CPUs of a container could be.
    #[must_use]
    pub fn hints_for_container(&self, pod: &Pod, container: &Container) -> ProviderHints {
        self.as_hints(&self.prospect_of_container(pod, container))
    }

    /// Where the CPUs of all containers of a pod together could be.
    #[must_use]
    pub fn hints_for_pod(&self, pod: &Pod) -> ProviderHints {
        self.as_hints(&self.prospect_of_pod(pod))
    }

    /// What [`hints_for_container`](Self::hints_for_container) lists, as conditions; absent without an opinion.
    #[must_use]
    pub fn demand_of_container(&self, pod: &Pod, container: &Container) -> Option<Opinion> {
        self.as_demand(&self.prospect_of_container(pod, container))
    }

    /// What [`hints_for_pod`](Self::hints_for_pod) lists, as conditions; absent without an opinion.
    #[must_use]
    pub fn demand_of_pod(&self, pod: &Pod) -> Option<Opinion> {
        self.as_demand(&self.prospect_of_pod(pod))
    }

    fn as_hints(&self, prospect: &Prospect<'_>) -> ProviderHints {
        match (prospect, &self.policy) {
            (Prospect::Among { free, reusable, count }, Some(policy)) => {
                let list = hints(&self.machine, free, reusable, *count, &policy.options);
                ProviderHints::single(ResourceName::Cpu, HintList::from(list))
            }
            (Prospect::Impossible, _) => ProviderHints::impossible(ResourceName::Cpu),
            _ => ProviderHints::NO_OPINION,
        }
    }

    fn as_demand(&self, prospect: &Prospect<'_>) -> Option<Opinion> {
        match (prospect, &self.policy) {
            (Prospect::Among { free, reusable, count }, Some(policy)) => {
                let demand = demand(&self.machine, free, reusable, *count, &policy.options);
                let possible = demand.is_possible();
                Some(if possible { Opinion::Sets(demand) } else { Opinion::Impossible(ResourceName::Cpu) })
            }
            (Prospect::Impossible, _) => Some(Opinion::Impossible(ResourceName::Cpu)),
            _ => None,
        }
    }

    fn prospect_of_container(&self, pod: &Pod, container: &Container) -> Prospect<'_> {
        let Some(policy) = &self.policy else { return Prospect::NoClaim };
        let count = self.claimed(pod, container);
        if count == 0 {
            return Prospect::NoClaim;
        }
        match self.state.cpus_of(&pod.uid, &container.name) {
            Some(owned) if owned.len() == count => self.again(owned, count),
            Some(owned) if policy.extensions.resize => self.resized(policy, owned, count),
            Some(_) => Prospect::Impossible,
            None => self.anew(policy, Cow::Borrowed(self.reuse.of(&pod.uid)), count),
        }
    }

    fn prospect_of_pod(&self, pod: &Pod) -> Prospect<'_> {
        let Some(policy) = &self.policy else { return Prospect::NoClaim };
        let whole = Self::is_pod_level(policy, pod);
        let count = if whole { budget(pod) } else { claimed_by_pod(pod, |container| self.claimed(pod, container)) };
        if count == 0 {
            return Prospect::NoClaim;
        }
        if whole && !self.bubble_suffices(pod) {
            return Prospect::Impossible;
        }
        let mut owned = CpuSet::new();
        for container in &pod.containers {
            if let Some(cpus) = self.state.cpus_of(&pod.uid, &container.name) {
                if cpus.len() != self.claimed(pod, container) && !policy.extensions.resize {
                    return Prospect::Impossible;
                }
                owned.insert_all(cpus);
            }
        }
        if owned.len() == count {
            return Prospect::Among { free: Cow::Owned(owned), reusable: Cow::Borrowed(&NO_CPUS), count };
        }
        owned.insert_all(self.reuse.of(&pod.uid));
        self.anew(policy, Cow::Owned(owned), count)
    }

    /// Exactly what is owned already.
    fn again<'a>(&self, owned: &'a CpuSet, count: usize) -> Prospect<'a> {
        Prospect::Among { free: Cow::Borrowed(owned), reusable: Cow::Borrowed(&NO_CPUS), count }
    }

    /// Less of what is owned, or all of it and more.
    fn resized<'a>(&self, policy: &StaticPolicy, owned: &'a CpuSet, count: usize) -> Prospect<'a> {
        if owned.len() > count { self.again(owned, count) } else { self.anew(policy, Cow::Borrowed(owned), count) }
    }

    fn anew<'a>(&self, policy: &StaticPolicy, reusable: Cow<'a, CpuSet>, count: usize) -> Prospect<'a> {
        Prospect::Among { free: Cow::Owned(self.available(policy)), reusable, count }
    }
}
