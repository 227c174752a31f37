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

    /// All CPUs that some container owns.
    #[must_use]
    pub fn assigned(&self) -> CpuSet {
        let mut all = CpuSet::new();
        for (_, _, cpus) in self.iter() {
            all.insert_all(cpus);
        }
        all
    }

    /// Gives CPUs to a container, out of the shared pool.
    pub(super) fn assign(&mut self, pod: &PodUid, container: &str, cpus: CpuSet) {
        self.default_cpu_set.remove_all(&cpus);
        self.assignments.entry(pod.clone()).or_default().insert(container.to_owned(), cpus);
    }

    /// Takes its CPUs from a container; those that no other container of the pod owns are returned.
    pub(super) fn unassign(&mut self, pod: &PodUid, container: &str) -> Option<CpuSet> {
        let containers = self.assignments.get_mut(pod)?;
        let mut released = containers.remove(container)?;
        for kept in containers.values() {
            released.remove_all(kept);
        }
        if containers.is_empty() {
            self.assignments.remove(pod);
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
