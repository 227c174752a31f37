#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;
use crate::cgroup::{CpuControl, Quota, milli_to_quota, milli_to_shares};
use QosClass::{BestEffort, Burstable, Guaranteed};

fn told(shares: u64, quota: i64, memory: i64) -> ToldResources {
    ToldResources {
        cpu_shares: Some(shares),
        cpu_quota_us: Some(quota),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(memory),
        ..ToldResources::default()
    }
}

#[test]
fn cpu_requests_are_told_by_shares_and_beyond_their_end_by_the_quota() {
    let exact = |milli| Told::Exact(MilliCpu(milli));
    let rows = [
        ("none", told(2, 0, 0), Some(Burstable), exact(0)),
        ("two CPUs", told(2048, 200_000, 0), Some(Guaranteed), exact(2000)),
        ("2001m", told(2049, 200_100, 0), Some(Guaranteed), exact(2001)),
        ("quota lifted", told(2048, -1, 0), Some(Guaranteed), exact(2000)),
        ("300 CPUs", told(262_144, 30_000_000, 0), Some(Guaranteed), exact(300_000)),
        ("300 CPUs, quota lifted", told(262_144, -1, 0), Some(Guaranteed), Told::Unknown),
        ("300 CPUs, limit 400", told(262_144, 40_000_000, 0), Some(Burstable), Told::Unknown),
        ("300 CPUs, class unknown", told(262_144, 30_000_000, 0), None, Told::Unknown),
        ("nothing told", ToldResources::default(), Some(Guaranteed), Told::Unknown),
        ("zero is not told", told(0, 0, 0), Some(Burstable), Told::Unknown),
        ("whatever the numbers", told(2048, 0, 0), Some(BestEffort), exact(0)),
    ];
    for (name, told, qos, request) in rows {
        assert_eq!(Asked::of_runtime(&told, qos, None).cpu_request, request, "{name}");
    }
}

#[test]
fn limits_are_told_by_the_quota_unless_the_class_says_more() {
    let milli = |milli| Some(MilliCpu(milli));
    let rows = [
        ("guaranteed, lifted", told(1024, -1, 0), Some(Guaranteed), Told::Exact(milli(1000))),
        ("burstable", told(512, 150_000, 0), Some(Burstable), Told::Exact(milli(1500))),
        ("burstable, none", told(512, -1, 0), Some(Burstable), Told::Estimated(None)),
        ("below 10m", told(2, 1000, 0), Some(Burstable), Told::Estimated(milli(10))),
        (
            "short period",
            ToldResources { cpu_period_us: Some(5_000), ..told(512, 7_505, 0) },
            Some(Burstable),
            Told::Exact(milli(1501)),
        ),
        ("not told", ToldResources { cpu_quota_us: None, ..told(512, 0, 0) }, Some(Burstable), Told::Unknown),
    ];
    for (name, told, qos, limit) in rows {
        assert_eq!(Asked::of_runtime(&told, qos, None).cpu_limit, limit, "{name}");
    }
}

#[test]
fn memory_is_exact_for_guaranteed_pods_and_estimated_for_burstable_ones() {
    let with_score = |score| ToldResources { oom_score_adj: Some(score), ..told(512, 0, 1 << 30) };
    let capacity = Some(1000 << 20);
    let rows = [
        ("guaranteed", with_score(-997), Some(Guaranteed), capacity, Told::Exact(1 << 30)),
        ("burstable", with_score(900), Some(Burstable), capacity, Told::Estimated(100 << 20)),
        ("capacity unknown", with_score(900), Some(Burstable), None, Told::Unknown),
        ("node-critical", with_score(-997), Some(Burstable), capacity, Told::Unknown),
        ("best effort", with_score(1000), Some(BestEffort), capacity, Told::Exact(0)),
    ];
    for (name, told, qos, capacity, request) in rows {
        assert_eq!(Asked::of_runtime(&told, qos, capacity).memory_request, request, "{name}");
    }
    assert_eq!(Asked::of_runtime(&with_score(900), Some(Burstable), None).memory_limit, Told::Exact(Some(1 << 30)));
    assert_eq!(Asked::of_runtime(&told(2, 0, 0), Some(Burstable), None).memory_limit, Told::Exact(None));
}

#[test]
fn huge_pages_of_size_zero_are_none() {
    let mut told = told(1024, 100_000, 1 << 30);
    assert_eq!(Asked::of_runtime(&told, Some(Guaranteed), None).hugepages, Told::Estimated(BTreeMap::new()));
    told.hugepage_limits = [("hugepages-2Mi".to_owned(), 4 << 20), ("hugepages-1Gi".to_owned(), 0)].into();
    let asked = Asked::of_runtime(&told, Some(Guaranteed), None);
    assert_eq!(asked.hugepages, Told::Exact([("hugepages-2Mi".to_owned(), 4 << 20)].into()));
    let resources = asked.resources().unwrap();
    assert_eq!(resources.requests, resources.limits);
    assert_eq!(resources.requests.len(), 3);
}

#[test]
fn resources_are_made_of_exact_facts_only() {
    let burstable = Asked::of_runtime(
        &ToldResources { oom_score_adj: Some(900), ..told(512, -1, 1 << 30) },
        Some(Burstable),
        Some(1 << 40),
    );
    let resources = burstable.resources().unwrap();
    assert_eq!(resources.cpu_request(), MilliCpu(500));
    assert_eq!(resources.requests.len(), 1, "no memory request by a guess");
    assert_eq!(resources.limits.keys().map(ResourceName::as_str).collect::<Vec<_>>(), ["memory"]);
    assert_eq!(Asked::default().resources(), None, "an unknown request decides nothing");
}

#[test]
fn the_better_known_of_two_facts_wins() {
    let rows = [
        (Told::Exact(1), Told::Exact(2), Told::Exact(1)),
        (Told::Estimated(1), Told::Exact(2), Told::Exact(2)),
        (Told::Estimated(1), Told::Estimated(2), Told::Estimated(1)),
        (Told::Estimated(1), Told::Unknown, Told::Estimated(1)),
        (Told::Unknown, Told::Estimated(2), Told::Estimated(2)),
        (Told::Unknown, Told::Unknown, Told::Unknown),
    ];
    for (a, b, better) in rows {
        assert_eq!(a.or(b), better, "{a:?} {b:?}");
    }
}

#[test]
fn cgroup_files_tell_exactly_what_the_formulas_allow() {
    let leaf = |weight, quota_us: Option<u64>, memory| ContainerCgroup {
        cpuset: crate::cgroup::tree::Cpuset::default(),
        inner: Vec::new(),
        id: crate::workload::ContainerId("c".into()),
        kind: crate::cgroup::LeafKind::Container,
        inode: None,
        cpu: CpuControl { weight: Some(weight), quota: Some(Quota { quota_us, period_us: 100_000 }) },
        memory,
        hugepages: BTreeMap::new(),
        processes: None,
        problems: Vec::new(),
    };
    let bytes = Some(Limit::Bytes(5));
    let guaranteed = Asked::of_cgroup(&leaf(Weight::Shares(2048), None, bytes), Guaranteed);
    assert_eq!(guaranteed.cpu_request, Told::Exact(MilliCpu(2000)));
    assert_eq!((guaranteed.memory_request, guaranteed.memory_limit), (Told::Exact(5), Told::Exact(Some(5))));
    let burstable = Asked::of_cgroup(&leaf(Weight::Shares(512), None, bytes), Burstable);
    assert_eq!(burstable.cpu_request, Told::Exact(MilliCpu(500)), "version 1 has the shares themselves");
    let burstable = Asked::of_cgroup(&leaf(Weight::Weight(20), Some(150_000), None), Burstable);
    assert_eq!((burstable.cpu_request, burstable.cpu_limit), (Told::Unknown, Told::Estimated(Some(MilliCpu(1500)))));
    let best_effort = Asked::of_cgroup(&leaf(Weight::Weight(1), None, None), BestEffort);
    assert_eq!(best_effort.cpu_request, Told::Exact(MilliCpu(0)));
}

proptest! {
    /// What the kubelet computes from requests and limits comes back, whatever the period.
    #[test]
    fn requests_and_limits_survive_the_kubelets_formulas(milli in 11u64..256_000, period in 10_000u64..=1_000_000) {
        let quota = i64::try_from(milli_to_quota(milli, period).unwrap()).unwrap();
        let told = ToldResources {
            cpu_shares: Some(milli_to_shares(milli)),
            cpu_quota_us: Some(quota),
            cpu_period_us: Some(period),
            ..ToldResources::default()
        };
        let asked = Asked::of_runtime(&told, Some(Burstable), None);
        prop_assert_eq!(asked.cpu_request, Told::Exact(MilliCpu(milli)));
        if quota > 1000 {
            prop_assert_eq!(asked.cpu_limit, Told::Exact(Some(MilliCpu(milli))));
        }
    }
}
