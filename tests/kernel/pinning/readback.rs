//! Bounds of CPU time and masks of threads, as the real kernel keeps them.

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;

use super::{POD, Pods, run, spec};
use crate::laws::{dry_run, texts};
use crate::support::cgroups::Subtree;

/// Bound of CPU time without the period; −1: none.
fn bound(tree: &Subtree, path: &str) -> String {
    let file = if tree.version() == Version::V1 { "cpu.cfs_quota_us" } else { "cpu.max" };
    let text = tree.text(file, path);
    text.split_whitespace().next().unwrap().replace("max", "-1")
}

fn set_bound(tree: &Subtree, path: &str, quota: &str) {
    let file = if tree.version() == Version::V1 { "cpu.cfs_quota_us" } else { "cpu.max" };
    tree.set(file, path, quota);
}

#[test]
fn bounds_are_lifted_from_the_pod_down_and_come_back_from_the_container_up() {
    let Some(pods) = Pods::new() else { return };
    set_bound(&pods.tree, POD, "100000");
    if pods.tree.version() == Version::V1 {
        // What makes the order matter: the kernel takes no wider bound below a narrower one.
        assert!(pods.tree.try_set("cpu.cfs_quota_us", &pods.pinned, "150000").is_err());
        assert!(pods.tree.try_set("cpu.cfs_quota_us", POD, "50000").is_err());
    }
    let bounds = || [POD, &pods.pinned, &pods.shared].map(|path| bound(&pods.tree, path));
    let before = bounds();
    assert_eq!(before, ["100000", "100000", "100000"]);
    let steps = pods.converge(&spec());
    assert_eq!(bounds(), ["-1", "-1", "100000"], "{steps:?}");
    // A resize: a wider bound for both, as a kubelet and a runtime write it.
    set_bound(&pods.tree, POD, "180000");
    set_bound(&pods.tree, &pods.pinned, "170000");
    pods.converge(&spec());
    assert_eq!(bounds(), ["-1", "-1", "100000"]);
    pods.converge(&NodeSpec::default());
    assert_eq!(bounds(), ["180000", "170000", "100000"], "the new bounds come back");
    assert!(pods.tree.ledger.snapshot().is_empty());
}

#[test]
fn a_thread_outside_its_cpus_is_found() {
    let Some(mut pods) = Pods::new() else { return };
    let (agent, view) = Pinning::new(pods.tree.ports());
    run(crate::laws::pass(&agent, &spec()));
    let reasons = || -> Vec<String> {
        let view = view.borrow();
        let containers = view.pods.iter().flat_map(|pod| &pod.containers);
        containers.filter_map(|container| container.mispinned.clone()).collect()
    };
    let look = || {
        agent.forget_rejections();
        let plan = run(dry_run(&agent, &spec()));
        assert!(plan.is_empty(), "{:?}", texts(&plan));
    };
    look();
    assert_eq!(reasons(), Vec::<String>::new(), "its process runs where it was ordered to");
    if pods.tree.version() == Version::V2 {
        // There a process is in one cgroup for all controllers, and the kernel lets no mask reach out of it.
        return;
    }
    // A process of the container by its CPU time, but in no cpuset of it.
    let stray = pods.tree.process("server");
    pods.tree.enter("cpu", &pods.pinned.clone(), stray);
    look();
    let told = reasons();
    assert!(told.len() == 1 && told[0].starts_with("1 of its threads may run on "), "{told:?}");
}
