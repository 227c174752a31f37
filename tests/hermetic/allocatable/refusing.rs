//! What is refused, and that the rest goes on.

use super::{Node, causes, changes, confining, reserving};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_bound_below_the_usage_is_refused_until_there_is_room() {
    for (node, usage, tasks) in [
        (Node::v2(), "/sys/fs/cgroup/system/memory.current", "/sys/fs/cgroup/kube/pids.current"),
        (Node::v1(), "/sys/fs/cgroup/memory/system/memory.usage_in_bytes", "/sys/fs/cgroup/pids/kube/pids.current"),
    ] {
        node.host.file(usage, format!("{}\n", 1025 * MIB)).file(tasks, "1001\n");
        let spec = reserving(&["kube-reserved", "system-reserved"]);
        let pass = node.settle(&spec).await;
        let [tasks_refused, memory_refused] = causes(&pass.left.refusals)[..] else {
            panic!("{:?}", pass.left.refusals)
        };
        assert_eq!(tasks_refused, ("kube/pids.max", "insufficient"));
        assert!(memory_refused.0.starts_with("system/memory.") && memory_refused.1 == "insufficient");
        assert!(pass.left.refusals[1].detail.starts_with("1074790400 are in use"), "{}", pass.left.refusals[1].detail);
        node.host.file(usage, format!("{}\n", 1024 * MIB)).file(tasks, "1000\n");
        assert_eq!(changes(&node.settle(&spec).await.plan).len(), 2, "there is room now");
    }
}

#[tokio::test]
async fn a_reserved_cgroup_that_does_not_exist_is_refused_once_and_the_rest_goes_on() {
    let node = Node::v2();
    let mut spec = reserving(&["kube-reserved", "system-reserved"]);
    spec.kube_reserved_cgroup = "/nowhere".into();
    let pass = node.settle(&spec).await;
    assert_eq!(causes(&pass.left.refusals), [("nowhere", "absent")]);
    let detail = &pass.left.refusals[0].detail;
    assert!(detail.contains("a kubelet with this enforcement would refuse to start"), "{detail}");
    assert_eq!(changes(&pass.plan).len(), 3, "the other cgroup is bounded");
}

#[tokio::test]
async fn a_controller_that_is_not_delegated_is_refused_or_for_huge_pages_told() {
    let node = Node::v2();
    node.host.vanish("/sys/fs/cgroup/kube/pids.max").vanish("/sys/fs/cgroup/kube/hugetlb.2MB.max");
    let pass = node.settle(&reserving(&["kube-reserved"])).await;
    assert_eq!(causes(&pass.left.refusals), [("kube/pids.max", "absent")]);
    let codes: Vec<&str> = pass.left.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["reservation-lowers-weight", "reserved-cgroup-lacks-controller"]);
}

#[tokio::test]
async fn the_kubelet_owns_the_pods_cgroup_while_it_runs() {
    let node = Node::v2();
    node.host.file("/proc/77/comm", "kubelet\n").file("/proc/77/cmdline", "/usr/bin/kubelet\0");
    let pass = node.settle(&reserving(&["pods"])).await;
    assert!(pass.plan.is_empty());
    let refused = causes(&pass.left.refusals);
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(refused.iter().all(|(object, cause)| object.starts_with("kubepods/") && *cause == "owned-by-other"));
    node.host.file("/sys/fs/cgroup/kubepods/memory.max", "31138512896\n");
    assert_eq!(node.plan(&reserving(&["pods"])).await.refusals.len(), 3, "what it holds already is no refusal");
}

#[tokio::test]
async fn bounds_of_pods_are_left_to_a_kubelet_that_came() {
    let node = Node::v2();
    node.settle(&reserving(&["pods"])).await;
    node.host.file("/proc/77/comm", "kubelet\n").file("/proc/77/cmdline", "/usr/bin/kubelet\0");
    let pass = node.settle(&reserving(&[])).await;
    assert!(changes(&pass.plan).is_empty() && node.ledger.snapshot().is_empty());
    assert_eq!(node.shows("/sys/fs/cgroup/kubepods/memory.max"), "31138512896");
}

#[tokio::test]
async fn more_reserved_than_there_is_enforces_nothing() {
    let node = Node::v2();
    let mut spec = reserving(&["kube-reserved"]);
    spec.kube_reserved.insert("memory".into(), "33Gi".into());
    let pass = node.settle(&spec).await;
    assert!(pass.plan.is_empty());
    assert_eq!(causes(&pass.left.refusals), [("node allocatable", "invalid-value")]);
}

#[tokio::test]
async fn pods_and_the_root_cannot_be_confined() {
    let node = Node::v2();
    let pass = node.settle(&confining(&["kubepods/burstable", "kubepods", "nowhere", "system"])).await;
    let expected = [("kubepods/burstable", "invalid-value"), ("kubepods", "invalid-value"), ("nowhere", "absent")];
    assert_eq!(causes(&pass.left.refusals), expected);
    assert_eq!(changes(&pass.plan), ["system/cpuset.cpus: all -> 0,4"]);
}

#[tokio::test]
async fn one_cgroup_for_both_reservations_is_refused_where_they_differ() {
    let node = Node::v2();
    let mut spec = reserving(&["kube-reserved", "system-reserved"]);
    spec.system_reserved_cgroup = "/kube".into();
    let refused = node.settle(&spec).await.left.refusals;
    assert_eq!(causes(&refused), [("kube/cpu.weight", "invalid-value"), ("kube/memory.max", "invalid-value")]);
}

#[tokio::test]
async fn what_another_program_changed_is_not_restored_over_it() {
    let node = Node::v2();
    node.settle(&reserving(&["system-reserved"])).await;
    node.host.write_by_other("/sys/fs/cgroup/system/memory.max", "2147483648");
    let pass = node.pass(&reserving(&[])).await;
    assert_eq!(causes(&pass.plan.refusals), [("system/memory.max", "changed-by-other")]);
    assert_eq!(node.shows("/sys/fs/cgroup/system/memory.max"), "2147483648");
    assert_eq!(node.shows("/sys/fs/cgroup/system/cpu.weight"), "100");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn nothing_is_ever_held_on_no_cpus_at_all() {
    let node = Node::v2();
    node.host.file("/proc/irq/24/smp_affinity_list", "0-7\n");
    let mut spec = confining(&["system"]);
    spec.confinement.interrupts = trimtab_domain::allocatable::interrupt::InterruptCpus::Reserved;
    for reserved in ["", "64"] {
        spec.reserved_system_cpus = reserved.into();
        assert!(node.plan(&spec).await.is_empty(), "{reserved:?}");
    }
}
