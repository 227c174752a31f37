//! What decisions about containers count: written where they are made, read whenever metrics are asked for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What is counted, in the terms of the kubelet's own metrics (pkg/kubelet/metrics/metrics.go of Kubernetes 1.36).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdmissionCount {
    /// A pod was decided about.
    Pods,
    /// A pod could not be placed as the topology policy wants it.
    PodsRefused,
    /// Exclusive CPUs were asked for.
    CpuRequests,
    /// They could not be given.
    CpuErrors,
    /// Memory of NUMA nodes was asked for.
    MemoryRequests,
    /// It could not be given.
    MemoryErrors,
    /// A container got whole cores, as was promised (`full-pcpus-only`).
    AlignedCores,
    /// It was to get whole cores and could not.
    UnalignedCores,
    /// The CPUs of a container share one last-level cache.
    AlignedCache,
    /// A container was placed on one NUMA node (`single-numa-node`).
    AlignedContainer,
    /// It was to be placed on one, and could not.
    UnalignedContainer,
    /// The same for a pod as a whole (scope `pod`).
    AlignedPod,
    /// The same for a pod as a whole.
    UnalignedPod,
    /// Refused for `TopologyAffinityError`.
    TopologyAffinityErrors,
    /// Refused for `UnexpectedAdmissionError`.
    UnexpectedAdmissionErrors,
    /// Refused for a reason that the kubelet counts under no name of its own.
    OtherErrors,
}

/// How many kinds there are.
const KINDS: usize = AdmissionCount::OtherErrors as usize + 1;

/// Upper bounds of a decision in microseconds: the kubelet's, 0.05 ms doubled 14 times.
pub const DECISION_BUCKETS_MICROS: [u64; 15] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 819_200];

/// The counts since the agent started.
#[derive(Debug, Default)]
pub struct AdmissionStats {
    counts: [AtomicU64; KINDS],
    /// One more than there are bounds: the last holds what took longer.
    buckets: [AtomicU64; DECISION_BUCKETS_MICROS.len() + 1],
    nanos: AtomicU64,
}

impl AdmissionStats {
    /// Counts one.
    pub fn count(&self, what: AdmissionCount) {
        if let Some(count) = self.counts.get(what as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A decision took so long.
    pub fn record_time(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = DECISION_BUCKETS_MICROS.partition_point(|bound| bound * 1000 < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn counted(&self, what: AdmissionCount) -> u64 {
        self.counts.get(what as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// How long decisions took: the number of them within each of [`DECISION_BUCKETS_MICROS`] and above the one before,
    /// then of those that took longer; and all of them together.
    #[must_use]
    pub fn times(&self) -> ([u64; DECISION_BUCKETS_MICROS.len() + 1], Duration) {
        (self.buckets.each_ref().map(|bucket| bucket.load(Relaxed)), Duration::from_nanos(self.nanos.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn a_decision_is_counted_in_the_bucket_that_bounds_it() {
        for (power, bound) in DECISION_BUCKETS_MICROS.into_iter().enumerate() {
            assert_eq!(bound, 50 << power);
        }
        let stats = AdmissionStats::default();
        for nanos in [0, 50_000, 50_001, 100_000, 819_200_001] {
            stats.record_time(Duration::from_nanos(nanos));
        }
        let mut expected = [0; 16];
        (expected[0], expected[1], expected[15]) = (2, 2, 1);
        assert_eq!(stats.times(), (expected, Duration::from_nanos(50_000 + 50_001 + 100_000 + 819_200_001)));
    }

    #[test]
    fn kinds_are_counted_apart() {
        let stats = AdmissionStats::default();
        stats.count(AdmissionCount::OtherErrors);
        stats.count(AdmissionCount::OtherErrors);
        stats.count(AdmissionCount::Pods);
        assert_eq!(stats.counted(AdmissionCount::OtherErrors), 2);
        assert_eq!(stats.counted(AdmissionCount::Pods), 1);
        assert_eq!(stats.counted(AdmissionCount::CpuErrors), 0);
    }
}
