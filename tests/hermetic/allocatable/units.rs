//! Cgroups that are units of systemd.

use super::{Node, causes, changes, confining, reserving};

/// systemd names: pods, `system.slice`, `kube.slice`; only what systemd itself has enabled.
fn node() -> Node {
    let node = Node::v2();
    for cgroup in ["kubepods", "system", "kube"] {
        node.host.vanish(format!("/sys/fs/cgroup/{cgroup}"));
    }
    node.cgroup_v2("kubepods.slice");
    for slice in ["system.slice", "kube.slice"] {
        node.cgroup_v2(slice);
        for file in ["cpuset.cpus", "hugetlb.2MB.max", "hugetlb.2MB.current"] {
            node.host.vanish(format!("/sys/fs/cgroup/{slice}/{file}"));
        }
        for (property, file) in [
            ("CPUWeight", "cpu.weight"),
            ("MemoryMax", "memory.max"),
            ("TasksMax", "pids.max"),
            ("AllowedCPUs", "cpuset.cpus"),
        ] {
            node.units.unit(slice, property, &format!("/sys/fs/cgroup/{slice}/{file}"));
        }
    }
    node.units.appear();
    node
}

#[tokio::test(start_paused = true)]
async fn bounds_are_properties_and_outlive_a_reload() {
    let node = node();
    let spec = reserving(&["kube-reserved"]);
    let pass = node.settle(&spec).await;
    assert_eq!(
        changes(&pass.plan),
        [
            "kube.slice/cpu.weight: 100 -> 39 (through systemd)",
            "kube.slice/memory.max: max -> 2147483648 (through systemd)",
            "kube.slice/pids.max: max -> 1000 (through systemd)",
        ]
    );
    assert_eq!(node.host.attempts(), 0, "no file was written");
    node.units.reload();
    assert!(node.plan(&spec).await.is_empty());
    node.host.write_by_other("/sys/fs/cgroup/kube.slice/memory.max", "max");
    assert_eq!(changes(&node.settle(&spec).await.plan).len(), 1);
    node.settle(&reserving(&[])).await;
    assert!(node.units.properties().is_empty(), "{:?}", node.units.properties());
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slice_without_the_controller_gets_it_with_the_property() {
    let node = node();
    let pass = node.settle(&confining(&["system.slice"])).await;
    assert_eq!(changes(&pass.plan), ["system.slice/cpuset.cpus: all -> 0,4 (through systemd)"]);
    assert_eq!(node.shows("/sys/fs/cgroup/system.slice/cpuset.cpus"), "0,4");
    node.settle(&confining(&[])).await;
    assert!(node.units.properties().is_empty() && node.ledger.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_systemd_does_not_answer_the_files_are_written() {
    let node = Node::v2();
    node.cgroup_v2("system.slice");
    node.settle(&confining(&["system.slice"])).await;
    assert_eq!((node.units.calls(), node.shows("/sys/fs/cgroup/system.slice/cpuset.cpus").as_str()), (0, "0,4"));
}

#[tokio::test(start_paused = true)]
async fn a_property_that_systemd_refuses_is_not_asked_for_again_at_once() {
    use trimtab::reconcile::Subsystem;
    let node = node();
    node.units.refuse(true);
    let pass = node.pass(&confining(&["system.slice"])).await;
    assert_eq!(causes(&pass.left.refusals), [("system.slice/cpuset.cpus", "unsupported")]);
    assert!(pass.left.is_empty() && node.units.calls() == 1);
    node.units.refuse(false);
    node.subsystem.forget_rejections();
    node.settle(&confining(&["system.slice"])).await;
}
