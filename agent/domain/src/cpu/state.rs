//! Who owns which CPUs: what the state file holds, and the checks that it must pass at a start.

use std::collections::BTreeMap;

use crate::cpuset::CpuSet;
use crate::workload::PodUid;

/// Owners of CPUs, as in the file `cpu_manager_state`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuState {
    /// The shared pool: CPUs of every container without CPUs of its own.
    pub default_cpu_set: CpuSet,
    /// Exclusive CPUs: pod to container name to CPUs. A pod without exclusive CPUs has no entry.
    pub assignments: BTreeMap<PodUid, BTreeMap<String, CpuSet>>,
    /// CPUs that belong to a pod as a whole (gate `PodLevelResourceManagers`).
    pub pods: BTreeMap<PodUid, CpuSet>,
}

/// A restored state contradicts the machine or the configuration; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuStateError {
    /// Assignments without a shared pool.
    #[error("default cpuset cannot be empty")]
    EmptySharedPool,
    /// Under `strict-cpu-reservation` reserved CPUs are shared.
    #[error("some of strictly reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\"")]
    ReservedShared {
        /// The reserved CPUs that are shared.
        reserved: CpuSet,
        /// The shared pool.
        shared: CpuSet,
    },
    /// Reserved CPUs are missing from the shared pool.
    #[error("not all reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\"")]
    ReservedNotShared {
        /// All reserved CPUs.
        reserved: CpuSet,
        /// The shared pool.
        shared: CpuSet,
    },
    /// CPUs are exclusive and shared.
    #[error("pod: {pod}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{shared}\"")]
    Overlap {
        /// Owner.
        pod: PodUid,
        /// Owner.
        container: String,
        /// Its CPUs.
        cpus: Box<CpuSet>,
        /// The shared pool.
        shared: Box<CpuSet>,
    },
    /// CPUs came or went since the state was written.
    #[error("current set of available CPUs \"{available}\" doesn't match with CPUs in state \"{known}\"")]
    OtherCpus {
        /// CPUs of the machine, less the reserved ones under `strict-cpu-reservation`.
        available: CpuSet,
        /// CPUs that the state names.
        known: CpuSet,
    },
}

impl CpuState {
    /// The exclusive CPUs of a container, if it has any.
    #[must_use]
    pub fn cpus_of(&self, pod: &PodUid, container: &str) -> Option<&CpuSet> {
        self.assignments.get(pod)?.get(container)
    }

    /// Every assignment, in the order of pods and names.
    pub fn iter(&self) -> impl Iterator<Item = (&PodUid, &str, &CpuSet)> {
        self.assignments.iter().flat_map(|(pod, containers)| {
            containers.iter().map(move |(container, cpus)| (pod, container.as_str(), cpus))
        })
    }

    /// All CPUs that some container or pod owns.
    #[must_use]
    pub fn assigned(&self) -> CpuSet {
        let mut all = CpuSet::new();
        for (_, _, cpus) in self.iter() {
            all.insert_all(cpus);
        }
        for cpus in self.pods.values() {
            all.insert_all(cpus);
        }
        all
    }

    /// Gives CPUs to a container, out of the shared pool.
    pub(super) fn assign(&mut self, pod: &PodUid, container: &str, cpus: CpuSet) {
        self.default_cpu_set.remove_all(&cpus);
        self.assignments.entry(pod.clone()).or_default().insert(container.to_owned(), cpus);
    }

    /// Gives CPUs to a pod and its containers their parts, out of the shared pool.
    pub(super) fn assign_pod(&mut self, pod: &PodUid, cpus: CpuSet, parts: Vec<(String, CpuSet)>) {
        self.default_cpu_set.remove_all(&cpus);
        self.pods.insert(pod.clone(), cpus);
        self.assignments.entry(pod.clone()).or_default().extend(parts);
    }

    /// Takes its CPUs from a container; those that no other container of the pod owns are returned. CPUs of a pod as a
    /// whole are returned with its last container.
    pub(super) fn unassign(&mut self, pod: &PodUid, container: &str) -> Option<CpuSet> {
        let containers = self.assignments.get_mut(pod)?;
        let mut released = containers.remove(container)?;
        for kept in containers.values() {
            released.remove_all(kept);
        }
        if containers.is_empty() {
            self.assignments.remove(pod);
            if let Some(bubble) = self.pods.remove(pod) {
                released.insert_all(&bubble);
            }
        } else if let Some(bubble) = self.pods.get(pod) {
            released.remove_all(bubble);
        }
        Some(released)
    }

    /// Checks a restored state against all CPUs that may be shared or owned; an untouched state becomes "all shared".
    ///
    /// # Errors
    /// See [`CpuStateError`]; the first fault found is reported.
    pub(super) fn validate(&mut self, all: &CpuSet, reserved: &CpuSet, strict: bool) -> Result<(), CpuStateError> {
        if self.default_cpu_set.is_empty() {
            if !self.assignments.is_empty() {
                return Err(CpuStateError::EmptySharedPool);
            }
            self.default_cpu_set = all.clone();
            return Ok(());
        }
        let shared = &self.default_cpu_set;
        if strict && !reserved.is_disjoint(shared) {
            let reserved = reserved.intersection(shared);
            return Err(CpuStateError::ReservedShared { reserved, shared: shared.clone() });
        }
        if !strict && !reserved.is_subset(shared) {
            return Err(CpuStateError::ReservedNotShared { reserved: reserved.clone(), shared: shared.clone() });
        }
        if let Some((pod, container, cpus)) = self.iter().find(|(_, _, cpus)| !cpus.is_disjoint(shared)) {
            return Err(CpuStateError::Overlap {
                pod: pod.clone(),
                container: container.to_owned(),
                cpus: Box::new(cpus.clone()),
                shared: Box::new(shared.clone()),
            });
        }
        let known = shared.union(&self.assigned());
        if known == *all { Ok(()) } else { Err(CpuStateError::OtherCpus { available: all.clone(), known }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    fn state(shared: &str, owned: &[(&str, &str)]) -> CpuState {
        let mut state = CpuState { default_cpu_set: set(shared), ..CpuState::default() };
        for (container, cpus) in owned {
            state.assignments.entry(PodUid("p".into())).or_default().insert((*container).into(), set(cpus));
        }
        state
    }

    #[test]
    fn a_new_state_shares_every_cpu() {
        let mut fresh = CpuState::default();
        assert_eq!(fresh.validate(&set("1-3"), &set("0"), true), Ok(()));
        assert_eq!(fresh.default_cpu_set, set("1-3"));
    }

    #[test]
    fn states_that_contradict_the_machine_are_refused() {
        let rows = [
            ("fits", state("0-1", &[("a", "2-3")]), "0", false, Ok(())),
            ("fits, strict", state("1", &[("a", "2-3")]), "0", true, Ok(())),
            ("no pool", state("", &[("a", "0-3")]), "0", false, Err("default cpuset cannot be empty")),
            (
                "reserved is shared",
                state("0-1", &[("a", "2-3")]),
                "0",
                true,
                Err("some of strictly reserved cpus: \"0\" are present in defaultCpuSet: \"0-1\""),
            ),
            (
                "reserved is owned",
                state("0-1", &[("a", "2-3")]),
                "0,2",
                false,
                Err("not all reserved cpus: \"0,2\" are present in defaultCpuSet: \"0-1\""),
            ),
            (
                "owned and shared",
                state("0-2", &[("a", "2-3")]),
                "0",
                false,
                Err("pod: p, container: a cpuset: \"2-3\" overlaps with default cpuset \"0-2\""),
            ),
            (
                "a CPU is missing",
                state("0-1", &[("a", "2")]),
                "0",
                false,
                Err("current set of available CPUs \"0-3\" doesn't match with CPUs in state \"0-2\""),
            ),
        ];
        for (name, mut state, reserved, strict, expected) in rows {
            let all = if strict { set("0-3").difference(&set(reserved)) } else { set("0-3") };
            let result = state.validate(&all, &set(reserved), strict).map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{name}");
        }
    }

    #[test]
    fn what_siblings_own_is_not_released() {
        let pod = PodUid("p".into());
        let mut state = state("0-1", &[("init", "2-5"), ("app", "4-7")]);
        assert_eq!(state.unassign(&pod, "init"), Some(set("2-3")));
        assert_eq!(state.unassign(&pod, "init"), None);
        assert_eq!(state.unassign(&pod, "app"), Some(set("4-7")));
        assert!(state.assignments.is_empty());
    }
}
