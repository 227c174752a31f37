//! Single situations, each with what must come of it.

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::plan::Cause;
use trimtab_domain::record::{Original, Record};
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver::{Cgroupfs, Systemd};
use trimtab_domain::workload::QosClass::{BestEffort, Burstable, Guaranteed};

use super::{agent, converge, static_cpus};
use crate::laws::{dry_run, pass, texts};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };
const NOTHING: Ask = Ask { milli: 0, memory: None };

fn v1() -> FakeCgroups {
    FakeCgroups::new(Version::V1, Cgroupfs, SMALL)
}

fn v2() -> FakeCgroups {
    FakeCgroups::new(Version::V2, Systemd, SMALL)
}

#[tokio::test]
async fn whole_cpus_are_exclusive_and_everybody_else_shares_the_rest() {
    for node in [v1(), v2()] {
        let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let fraction = node.simple(Guaranteed, "bbbb", Ask { milli: 1500, memory: Some(1 << 20) });
        let burstable = node.simple(Burstable, "cccc", Ask::cpus(2));
        let idle = node.simple(BestEffort, "dddd", NOTHING);
        converge(&agent(&node), &static_cpus("0")).await;
        assert_eq!(node.effective(&pinned).to_string(), "1-2");
        for shared in [fraction, burstable, idle] {
            assert_eq!(node.effective(&shared).to_string(), "0,3", "{shared}");
        }
    }
}

#[tokio::test]
async fn shared_containers_shrink_before_anybody_is_pinned() {
    let node = v1();
    node.simple(Guaranteed, "aaaa", Ask::cpus(2));
    node.simple(Burstable, "cccc", Ask::cpus(1));
    let plan = dry_run(&agent(&node), &static_cpus("0")).await;
    let steps = texts(&plan);
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!(steps[0].starts_with("ledger: remember 5"), "{steps:?}");
    assert!(steps[1].contains("burstable") && steps[1].ends_with("cpuset.cpus: 0-3 -> 0,3"), "{steps:?}");
    assert!(steps[2].ends_with("cpuset.cpus: 0-3 -> 1-2"), "{steps:?}");
    assert!(steps[3].ends_with("cpu.cfs_quota_us: 200000 -> -1"), "{steps:?}");
}

#[tokio::test]
async fn the_sandbox_is_neither_pinned_nor_listed() {
    let node = v2();
    let pod = node.pod(Guaranteed, "aaaa");
    node.container(&pod, Guaranteed, 1, Ask::cpus(1));
    let before = node.cpusets();
    let (agent, view) = Pinning::new(node.ports());
    converge(&agent, &static_cpus("0")).await;
    let changed = node.cpusets().into_iter().filter(|(path, text)| before.get(path) != Some(text)).count();
    assert_eq!(changed, 2, "one file and its effective set");
    let view = view.borrow().clone();
    assert_eq!(view.pods.len(), 1);
    assert_eq!((view.pods[0].name.as_str(), view.pods[0].namespace.as_str()), ("pod-aaaa", "shop"));
    let containers: Vec<_> =
        view.pods[0].containers.iter().map(|c| (c.name.as_str(), c.exclusive_cpus.clone())).collect();
    assert_eq!(containers, [("c1", vec![1])]);
    assert_eq!((view.shared_cpus.clone(), view.reserved_cpus.clone()), (vec![0, 2, 3], vec![0]));
    assert_eq!(view.allocatable_cpus, [1, 2, 3]);
}

#[tokio::test]
async fn a_restarted_agent_changes_nothing() {
    let node = v2();
    let second = node.simple(Guaranteed, "bbbb", Ask::cpus(1));
    let spec = static_cpus("0");
    converge(&agent(&node), &spec).await;
    // A pod whose directory sorts first must not take the place of one that runs.
    let first = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    node.host.take_attempts();
    let again = agent(&node);
    converge(&again, &spec).await;
    assert_eq!((node.effective(&second).to_string(), node.effective(&first).to_string()), ("1".into(), "2".into()));
    node.host.take_attempts();
    assert!(dry_run(&agent(&node), &spec).await.is_empty());
    assert_eq!(node.host.take_attempts(), 0);
}

#[tokio::test]
async fn without_a_ledger_running_placements_are_adopted() {
    let node = v2();
    node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    let kept = node.simple(Guaranteed, "bbbb", Ask::cpus(1));
    let shared = node.simple(Burstable, "cccc", Ask::cpus(1));
    let spec = static_cpus("0");
    converge(&agent(&node), &spec).await;
    // The first goes away, and the ledger with it: the second must stay where it is.
    let first = node.pod(Guaranteed, "aaaa");
    node.vanish(&first);
    node.ledger.lose();
    converge(&agent(&node), &spec).await;
    assert_eq!(node.effective(&kept).to_string(), "2");
    assert_eq!(node.effective(&shared).to_string(), "0-1,3");
}

#[tokio::test]
async fn two_claims_to_one_cpu_leave_it_to_the_older() {
    let node = v2();
    let older = node.simple(Guaranteed, "bbbb", Ask::cpus(1));
    let younger = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    node.drift(&older, "cpuset.cpus", "2");
    node.drift(&younger, "cpuset.cpus", "2");
    let spec = static_cpus("0");
    let plan = dry_run(&agent(&node), &spec).await;
    assert!(plan.findings.iter().any(|finding| finding.code == "pinning-not-adopted"), "{:?}", plan.findings);
    converge(&agent(&node), &spec).await;
    assert_eq!((node.effective(&older).to_string(), node.effective(&younger).to_string()), ("2".into(), "1".into()));
}

#[tokio::test]
async fn reserved_cpus_are_never_adopted() {
    let node = v2();
    let container = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    node.drift(&container, "cpuset.cpus", "0");
    converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(node.effective(&container).to_string(), "1");
}

#[tokio::test]
async fn freed_cpus_come_back_and_the_waiting_get_them() {
    for node in [v1(), v2()] {
        let first = node.pod(Guaranteed, "aaaa");
        node.container(&first, Guaranteed, 1, Ask::cpus(3));
        let waiting = node.simple(Guaranteed, "bbbb", Ask::cpus(2));
        let (agent, spec) = (agent(&node), static_cpus("0"));
        let done = converge(&agent, &spec).await;
        assert_eq!(done.left.refusals.len(), 1, "{:?}", done.left.refusals);
        let refusal = &done.left.refusals[0];
        assert_eq!((refusal.object.as_str(), refusal.cause), ("shop/pod-bbbb/c1", Cause::Insufficient));
        assert!(refusal.detail.contains("not enough cpus available to satisfy request"), "{}", refusal.detail);
        assert_eq!(node.effective(&waiting).to_string(), "0");
        node.vanish(&first);
        let done = converge(&agent, &spec).await;
        assert_eq!(done.left.refusals, []);
        assert_eq!(node.effective(&waiting).to_string(), "1-2");
        assert!(node.ledger.snapshot().keys().all(|(_, object)| !object.contains("aaaa")), "vanished is forgotten");
    }
}

#[tokio::test]
async fn the_last_exclusive_container_leaves_no_trace() {
    let node = v1();
    let shared = node.simple(Burstable, "cccc", Ask::cpus(1));
    let before = node.cpuset(&shared, "cpuset.cpus");
    let pod = node.pod(Guaranteed, "aaaa");
    node.container(&pod, Guaranteed, 1, Ask::cpus(1));
    let (agent, spec) = (agent(&node), static_cpus("0"));
    converge(&agent, &spec).await;
    assert_ne!(node.cpuset(&shared, "cpuset.cpus"), before);
    node.vanish(&pod);
    converge(&agent, &spec).await;
    assert_eq!(node.cpuset(&shared, "cpuset.cpus"), before);
    assert!(node.ledger.snapshot().is_empty(), "{:?}", node.ledger.snapshot());
}

#[tokio::test]
async fn cgroups_inside_a_container_go_along() {
    let node = v1();
    node.simple(Guaranteed, "aaaa", Ask::cpus(2));
    let shared = node.simple(Burstable, "cccc", Ask::cpus(1));
    let inner = node.make_inner(&shared, "init.scope");
    let deep = node.make_inner(&inner, "deep");
    let spec = static_cpus("0");
    let before = node.cpusets();
    converge(&agent(&node), &spec).await;
    assert_eq!(node.cpuset(&deep, "cpuset.cpus"), "0,3");
    converge(&agent(&node), &NodeSpec::default()).await;
    assert_eq!(node.cpusets(), before);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn an_empty_cpuset_of_version_1_gets_both_files() {
    let node = v1();
    let container = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    node.stop_processes();
    node.drift(&container, "cpuset.cpus", "");
    node.drift(&container, "cpuset.mems", "");
    let spec = static_cpus("0");
    converge(&agent(&node), &spec).await;
    assert_eq!(
        (node.cpuset(&container, "cpuset.cpus"), node.cpuset(&container, "cpuset.mems")),
        ("1".into(), "0".into())
    );
    assert!(dry_run(&agent(&node), &spec).await.is_empty());
    converge(&agent(&node), &NodeSpec::default()).await;
    assert_eq!(
        (node.cpuset(&container, "cpuset.cpus"), node.cpuset(&container, "cpuset.mems")),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn narrow_directories_of_pods_are_widened_and_given_back() {
    let node = v1();
    let container = node.simple(Burstable, "cccc", Ask::cpus(1));
    node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    let pod = container.rsplit_once('/').unwrap().0.to_owned();
    for path in [container.as_str(), &crate::support::fake_cgroups::id("cccc", 0)] {
        let path = if path.contains('/') { path.to_owned() } else { format!("{pod}/{path}") };
        node.drift(&path, "cpuset.cpus", "0");
    }
    node.drift(&pod, "cpuset.cpus", "0");
    let before = node.cpusets();
    converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(
        (node.cpuset(&pod, "cpuset.cpus"), node.cpuset(&container, "cpuset.cpus")),
        ("0-3".into(), "0,2-3".into())
    );
    converge(&agent(&node), &NodeSpec::default()).await;
    assert_eq!(node.cpusets(), before);
}

#[tokio::test]
async fn under_version_2_running_containers_get_everything_back_in_words() {
    let node = v2();
    let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(node.cpuset(&pinned, "cpuset.cpus"), "1");
    converge(&agent(&node), &NodeSpec::default()).await;
    assert_eq!(node.cpuset(&pinned, "cpuset.cpus"), "0-3", "the kernel takes no empty list while processes run");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn what_somebody_else_wrote_is_not_restored_over() {
    let node = v1();
    let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    converge(&agent(&node), &static_cpus("0")).await;
    node.drift(&pinned, "cpuset.cpus", "3");
    let done = pass(&agent(&node), &NodeSpec::default()).await;
    assert_eq!(node.cpuset(&pinned, "cpuset.cpus"), "3");
    assert_eq!(done.left.refusals.len(), 1);
    assert_eq!(done.left.refusals[0].cause, Cause::ChangedByOther);
}

#[tokio::test]
async fn a_static_policy_without_reservation_writes_nothing() {
    let node = v2();
    node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    let done = converge(&agent(&node), &static_cpus("")).await;
    assert!(done.plan.is_empty());
    assert_eq!(done.plan.refusals.len(), 1);
    let detail = &done.plan.refusals[0].detail;
    assert!(detail.contains("unable to determine reserved CPU resources for static policy"), "{detail}");
    assert!(detail.contains("reservedSystemCPUs"), "{detail}");
    assert_eq!(node.host.take_attempts(), 0);
}

#[tokio::test]
async fn without_the_controller_the_wish_is_refused() {
    let node = v2();
    let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    node.host.vanish(node.cpuset_file(&pinned, "cpuset.cpus"));
    let done = converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(done.left.refusals.len(), 1, "{:?}", done.left.refusals);
    assert_eq!(done.left.refusals[0].cause, Cause::Absent);
    node.host.vanish(node.cpuset_file("kubepods.slice", "cpuset.cpus"));
    let done = converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(done.left.refusals.len(), 1, "{:?}", done.left.refusals);
    assert_eq!(done.left.refusals[0].object, "kubepods.slice/cpuset.cpus");
}

#[tokio::test]
async fn a_set_that_is_not_in_force_is_reported() {
    let node = v2();
    let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    let spec = static_cpus("0");
    converge(&agent(&node), &spec).await;
    // A partition beside it has taken the CPU.
    node.host.file(node.cpuset_file(&pinned, "cpuset.cpus.effective"), "0-3\n");
    let plan = dry_run(&agent(&node), &spec).await;
    assert!(plan.is_empty());
    let finding = plan.findings.iter().find(|finding| finding.code == "mispinned").unwrap();
    assert_eq!(finding.object, "shop/pod-aaaa/c1");
    assert!(finding.message.contains("set to 1, and 0-3 is in force"), "{}", finding.message);
}

#[tokio::test]
async fn values_that_no_kernel_writes_leave_a_container_on_shared_cpus() {
    let bad = [
        ("cpu.max", "200000"),
        ("cpu.max", "lots 100000"),
        ("cpu.max", ""),
        ("cpu.max", "-1 100000"),
        ("cpu.max", "200000 0"),
        ("cpu.max", "200000 100000 7"),
        ("cpu.weight", "0x10"),
        ("cpu.weight", "10001"),
        ("cpu.weight", "-5"),
        ("cpu.weight", "idle"),
        ("cpu.weight", "100 "),
    ];
    for (file, text) in bad {
        let node = v2();
        let container = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        node.host.file(node.cpuset_file(&container, file), format!("{text}\n"));
        let done = converge(&agent(&node), &static_cpus("0")).await;
        let finding = done.left.findings.iter().find(|finding| finding.code == "pinning-request-unknown");
        assert!(finding.is_some_and(|finding| finding.message.contains(file)), "{file} {text:?}: {finding:?}");
        assert_eq!(node.effective(&container).to_string(), "0-3", "{file} {text:?}");
    }
}

#[tokio::test]
async fn a_container_whose_request_gets_lost_keeps_its_cpus() {
    let node = v2();
    let container = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
    let spec = static_cpus("0");
    converge(&agent(&node), &spec).await;
    for text in ["max 100000\n", "nonsense\n"] {
        node.host.file(node.cpuset_file(&container, "cpu.max"), text);
        assert!(dry_run(&agent(&node), &spec).await.is_empty(), "{text:?}");
    }
    // A request that did change is another matter.
    node.host.file(node.cpuset_file(&container, "cpu.max"), "150000 100000\n");
    converge(&agent(&node), &spec).await;
    assert_eq!(node.effective(&container).to_string(), "0-3");
}

#[tokio::test]
async fn lists_that_no_kernel_writes_are_replaced() {
    for text in ["x", "3-1", "0-", "0,,1", "99999999", "-1"] {
        let node = v2();
        let container = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
        node.host.file(node.cpuset_file(&container, "cpuset.cpus"), format!("{text}\n"));
        converge(&agent(&node), &static_cpus("0")).await;
        assert_eq!(node.cpuset(&container, "cpuset.cpus"), "1", "{text:?}");
    }
}

#[tokio::test]
async fn a_machine_that_makes_no_sense_is_an_error_and_nothing_is_written() {
    let bad = [
        ("/sys/devices/system/cpu/online", "0-x"),
        ("/sys/devices/system/cpu/online", "3-0"),
        ("/sys/devices/system/cpu/present", "all"),
        ("/sys/devices/system/cpu/isolated", "?"),
        ("/sys/devices/system/cpu/cpu1/topology/core_id", "one"),
        ("/sys/devices/system/cpu/cpu1/topology/physical_package_id", "-1"),
        ("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: lots kB"),
        ("/sys/devices/system/node/node0/meminfo", "Node 0 MemFree: 1 kB"),
        ("/sys/devices/system/node/node0/distance", "10 x"),
        ("/proc/meminfo", "MemTotal: 1 MB"),
        ("/proc/1/mountinfo", "no mounts here"),
    ];
    for (path, text) in bad {
        let node = v2();
        node.simple(Guaranteed, "aaaa", Ask::cpus(1));
        node.host.file(path, format!("{text}\n"));
        let spec = static_cpus("0");
        let error = agent(&node).observe(Pinning::desired(&spec)).await.map(|_| ()).unwrap_err().chain();
        assert!(error.contains("cannot"), "{path}: {error}");
        assert!(error.contains(path), "{path} is not named in: {error}");
        assert_eq!(node.host.take_attempts(), 0);
    }
}

#[tokio::test]
async fn a_record_of_an_older_driver_is_given_back() {
    let node = v2();
    node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    let stray = FakeCgroups::new(Version::V2, Cgroupfs, SMALL);
    let path = stray.simple(Burstable, "cccc", Ask::cpus(1));
    drop(stray);
    let file = node.cpuset_file(&path, "cpuset.cpus");
    node.host.file(&file, "0-1\n");
    // Only the tree of systemd runs processes.
    let record = |object: &str, was: &str| Record {
        object: object.into(),
        original: Original::Value(was.into()),
        ordered: "0-1".into(),
    };
    node.ledger.insert("pinning", record(&format!("{path}/cpuset.cpus"), "0-3"));
    node.ledger.insert("pinning", record("kubepods.slice/gone/cpuset.cpus", "0-3"));
    node.host.file("/sys/fs/cgroup/kubepods.slice/cgroup.events", "populated 1\nfrozen 0\n");
    converge(&agent(&node), &static_cpus("0")).await;
    assert_eq!(node.host.text(file).as_deref(), Some("0-3"));
    assert!(node.ledger.record("pinning", "kubepods.slice/gone/cpuset.cpus").is_none());
}
