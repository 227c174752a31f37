//! Counts decisions about containers as the kubelet counts its own: once for each container, however often a runtime or a
//! pass comes back to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trimtab_domain::cpu::CpuClaim;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::hint::{TopologyPolicy, TopologyScope};
use trimtab_domain::placement::{AllocationError, Rejection, RejectionReason, ResourceManagers};
use trimtab_domain::topology::Machine;
use trimtab_domain::workload::{Container, Pod, PodUid, QosClass};

use crate::ports::admission_stats::{AdmissionCount, AdmissionStats};

/// One decision.
#[derive(Debug, Clone)]
pub(in crate::subsystems::pinning) struct Decided {
    uid: PodUid,
    container: String,
    granted: bool,
    counts: Vec<AdmissionCount>,
    time: Duration,
}

impl Decided {
    /// Says what a decision counts; `managers` is the state after it.
    pub(in crate::subsystems::pinning) fn new(
        managers: &ResourceManagers,
        (pod, container): (&Pod, &str),
        result: Result<(), &Rejection>,
        time: Duration,
    ) -> Self {
        let known = pod.containers.iter().find(|known| known.name == container);
        let counts = known.map(|known| counts(managers, pod, known, result)).unwrap_or_default();
        Self { uid: pod.uid.clone(), container: container.to_owned(), granted: result.is_ok(), counts, time }
    }

    pub(super) const fn uid(&self) -> &PodUid {
        &self.uid
    }
}

fn counts(
    managers: &ResourceManagers,
    pod: &Pod,
    container: &Container,
    result: Result<(), &Rejection>,
) -> Vec<AdmissionCount> {
    use AdmissionCount as Count;
    let mut counts = Vec::new();
    let failed = match result {
        Ok(()) => None,
        Err(Rejection::Allocation(error) | Rejection::Unexpected(error)) => Some(error),
        // The managers are not asked then.
        Err(rejection) => {
            counts.extend([Count::PodsRefused, reason(rejection)]);
            counts.extend(alignment(managers, Count::UnalignedContainer, Count::UnalignedPod));
            return counts;
        }
    };
    if let Some((error, rejection)) = failed.zip(result.err()) {
        let aligns = managers.topology().policy() != TopologyPolicy::None;
        counts.extend(aligns.then_some(Count::PodsRefused));
        counts.push(reason(rejection));
        counts.extend(is_of_memory(error).then_some(Count::MemoryErrors));
        counts.extend((!is_of_memory(error)).then_some(Count::CpuErrors));
    } else {
        counts.extend(alignment(managers, Count::AlignedContainer, Count::AlignedPod));
    }
    let of_memory = failed.is_some_and(is_of_memory);
    let claims = managers.cpu().claim(pod, container).map_or(true, |claim| CpuClaim::cpus(claim) > 0);
    if claims && managers.cpu().is_static() {
        counts.push(Count::CpuRequests);
        let whole_cores = managers.cpu().options().is_some_and(|options| options.full_pcpus_only);
        let cores = if failed.is_none() || of_memory { Count::AlignedCores } else { Count::UnalignedCores };
        counts.extend(whole_cores.then_some(cores));
        let cpus = managers.cpus_of(&pod.uid, &container.name);
        counts.extend(cpus.is_some_and(|cpus| share_a_cache(managers.machine(), cpus)).then_some(Count::AlignedCache));
    }
    let asks_memory = managers.memory().is_static() && pod.qos == QosClass::Guaranteed;
    counts.extend((asks_memory && (failed.is_none() || of_memory)).then_some(Count::MemoryRequests));
    counts
}

/// The kubelet has names for two reasons and counts all others under one.
fn reason(rejection: &Rejection) -> AdmissionCount {
    match rejection.reason() {
        RejectionReason::TopologyAffinity => AdmissionCount::TopologyAffinityErrors,
        RejectionReason::UnexpectedAdmission => AdmissionCount::UnexpectedAdmissionErrors,
        RejectionReason::SmtAlignment | RejectionReason::EmptyPodSharedPool => AdmissionCount::OtherErrors,
    }
}

/// Only `single-numa-node` promises to align.
fn alignment(
    managers: &ResourceManagers,
    of_container: AdmissionCount,
    of_pod: AdmissionCount,
) -> Option<AdmissionCount> {
    let promised = managers.topology().policy() == TopologyPolicy::SingleNumaNode;
    promised.then_some(match managers.topology().scope() {
        TopologyScope::Container => of_container,
        TopologyScope::Pod => of_pod,
    })
}

const fn is_of_memory(error: &AllocationError) -> bool {
    matches!(
        error,
        AllocationError::MemoryQuantity
            | AllocationError::NoDefaultMemoryAffinity
            | AllocationError::NoDefaultPreferredHint
            | AllocationError::NoExtendedMemoryAffinity
            | AllocationError::NoExtendedPreferredHint
            | AllocationError::MemoryGroupViolation
    )
}

fn share_a_cache(machine: &Machine, cpus: &CpuSet) -> bool {
    let mut caches = cpus.iter().filter_map(|cpu| machine.place(cpu)).map(|place| place.uncore);
    let first = caches.next();
    caches.all(|cache| Some(cache) == first)
}

/// What has been counted of the pods that live.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) stats: Arc<AdmissionStats>,
    /// Containers by pod, and whether each was granted what it asked for when it was decided about last.
    pods: BTreeMap<PodUid, BTreeMap<String, bool>>,
}

impl Tally {
    /// Counts a decision, unless the same has been counted before.
    pub(super) fn note(&mut self, decided: &Decided) {
        let is_new_pod = !self.pods.contains_key(&decided.uid);
        let pod = self.pods.entry(decided.uid.clone()).or_default();
        let refused_before = pod.values().any(|granted| !granted);
        let before = pod.insert(decided.container.clone(), decided.granted);
        if is_new_pod {
            self.stats.count(AdmissionCount::Pods);
        }
        if before == Some(decided.granted) {
            return;
        }
        self.stats.record_time(decided.time);
        let of_pod = |count: AdmissionCount| {
            matches!(count, AdmissionCount::PodsRefused | AdmissionCount::UnalignedPod) && refused_before
                || count == AdmissionCount::AlignedPod && !is_new_pod
        };
        decided.counts.iter().filter(|count| !of_pod(**count)).for_each(|count| self.stats.count(*count));
    }

    /// A container is about to be decided about anew, because it asks for something else.
    pub(super) fn forget_container(&mut self, uid: &PodUid, container: &str) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.remove(container);
        }
    }

    /// Forgets the pods that are over.
    pub(super) fn retain_pods(&mut self, lives: impl Fn(&PodUid) -> bool) {
        self.pods.retain(|uid, _| lives(uid));
    }
}
