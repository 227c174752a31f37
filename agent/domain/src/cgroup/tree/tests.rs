//! Tables on containers, sandboxes and requests.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::cgroup::{Quota, Weight};

fn container(id: &str, shares: u64, quota: Option<u64>) -> ContainerCgroup {
    ContainerCgroup {
        cpuset: Cpuset::default(),
        inner: Vec::new(),
        id: ContainerId(id.into()),
        kind: LeafKind::Container,
        inode: None,
        cpu: CpuControl {
            weight: Some(Weight::Shares(shares)),
            quota: Some(Quota { quota_us: quota, period_us: 100_000 }),
        },
        memory: Some(Limit::Unlimited),
        hugepages: BTreeMap::new(),
        processes: None,
        problems: Vec::new(),
    }
}

fn running(id: &str, processes: Processes) -> ContainerCgroup {
    ContainerCgroup { processes: Some(processes), ..container(id, 2, None) }
}

fn real(containers: Vec<ContainerCgroup>, named: &[&str]) -> Vec<String> {
    let pod = PodCgroup {
        cpuset: Cpuset::default(),
        uid: PodUid("u".into()),
        qos: QosClass::BestEffort,
        quota: None,
        containers,
    };
    pod.real_containers(|id| named.contains(&id.0.as_str())).map(|container| container.id.0.clone()).collect()
}

#[test]
fn sandboxes_and_monitors_are_left_out() {
    let one = |name: &str| Processes { count: 1, only: Some(name.into()) };
    let monitor = ContainerCgroup { kind: LeafKind::Monitor, ..container("m", 2, None) };
    let limited = ContainerCgroup { memory: Some(Limit::Bytes(1 << 20)), ..container("l", 2, None) };
    let unseen = Processes { count: 1, only: None };
    let rows = [
        ("pause is a sandbox", real(vec![running("s", one("pause")), running("a", one("sh"))], &[]), vec!["a"]),
        ("a named pause is a container", real(vec![running("s", one("pause"))], &["s"]), vec!["s"]),
        (
            "the oldest without a name is a sandbox",
            real(vec![running("s", unseen.clone()), running("a", unseen.clone())], &["a"]),
            vec!["a"],
        ),
        (
            "a monitor is not the oldest",
            real(vec![monitor.clone(), running("s", unseen.clone()), running("a", unseen.clone())], &["a"]),
            vec!["a"],
        ),
        (
            "a younger one without a name is a container that starts",
            real(vec![running("s", one("pause")), running("a", unseen.clone()), running("b", unseen.clone())], &["a"]),
            vec!["a", "b"],
        ),
        ("nothing is known: shown", real(vec![running("a", unseen)], &[]), vec!["a"]),
        ("an empty one has ended or not begun", real(vec![running("a", Processes::default())], &[]), vec![]),
        ("a request makes a container", real(vec![container("a", 1024, None)], &[]), vec!["a"]),
        ("so does a CPU limit", real(vec![container("a", 2, Some(1000))], &[]), vec!["a"]),
        ("and a memory limit", real(vec![limited], &[]), vec!["l"]),
        ("a monitor never is one", real(vec![monitor], &["m"]), vec![]),
    ];
    for (name, shown, expected) in rows {
        assert_eq!(shown, expected, "{name}");
    }
}

#[test]
fn a_guaranteed_container_asks_for_its_limits() {
    let mut full = container("a", 2048, Some(200_000));
    full.memory = Some(Limit::Bytes(1 << 30));
    full.hugepages.insert("hugepages-2Mi".into(), Limit::Bytes(4 << 20));
    full.hugepages.insert("hugepages-1Gi".into(), Limit::Bytes(0));
    full.hugepages.insert("hugepages-64Ki".into(), Limit::Unlimited);
    let resources = full.guaranteed_resources().unwrap();
    let shown: Vec<_> = resources.requests.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    assert_eq!(shown, ["cpu=2", "hugepages-2Mi=4Mi", "memory=1Gi"]);
    assert_eq!(resources.cpu_request().whole(), Some(2));
    assert_eq!(container("b", 1536, Some(150_000)).guaranteed_resources().unwrap().cpu_request().whole(), None);
    assert_eq!(container("c", 262_144, None).guaranteed_resources(), None, "saturated shares tell nothing");
}

#[test]
fn page_sizes_are_named_as_kubernetes_names_them() {
    for (size, name) in [
        ("2MB", Some("hugepages-2Mi")),
        ("1GB", Some("hugepages-1Gi")),
        ("64KB", Some("hugepages-64Ki")),
        ("32768KB", Some("hugepages-32Mi")),
        ("MB", None),
        ("0MB", None),
        ("2TB", None),
        ("2", None),
        ("99999999999GB", None),
        ("-2MB", None),
    ] {
        assert_eq!(hugepage_resource(size).as_deref(), name, "{size}");
    }
}
