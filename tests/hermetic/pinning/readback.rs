//! What is in force against what was ordered: threads, memory of running containers, CPUs that go and come.

use std::time::Duration;

use trimtab::reconcile::Subsystem;
use trimtab::reconcile::node_view::NodeView;
use trimtab::subsystems::pinning::{Pinning, PinningPorts};
use trimtab_domain::cgroup::Version;
use trimtab_domain::plan::Severity;
use trimtab_domain::spec::cgroup::CgroupDriver::{Cgroupfs, Systemd};
use trimtab_domain::spec::resource_managers::ReservedMemory;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};
use trimtab_domain::workload::QosClass::{Burstable, Guaranteed};

use super::{agent, converge, static_cpus};
use crate::laws::dry_run;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::fake_writers::FakeRuntime;

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };

/// What it is, the masks of the threads, and what is told of strays and of unused CPUs.
type Row = (&'static str, &'static [&'static str], Option<&'static str>, Option<&'static str>);

fn mispinned(view: &NodeView) -> Vec<String> {
    let containers = view.pods.iter().flat_map(|pod| &pod.containers);
    containers.filter_map(|container| container.mispinned.clone()).collect()
}

#[tokio::test]
async fn threads_that_stray_or_leave_cpus_unused_are_told() {
    let rows: [Row; 5] = [
        ("as ordered", &["1-2", "1-2"], None, None),
        ("each on its own", &["1", "2"], None, None),
        ("one CPU is left", &["1", "1"], None, Some("none of its 2 threads may run on 2")),
        ("one strays", &["1-2", "0-2", "0,3"], Some("2 of its threads may run on 0,3"), None),
        ("nobody to be seen", &[], None, None),
    ];
    for (name, masks, stray, unused) in rows {
        let node = FakeCgroups::new(Version::V2, Systemd, SMALL);
        let container = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let (agent, view) = Pinning::new(node.ports());
        converge(&agent, &static_cpus("0")).await;
        for (number, mask) in (1..).zip(masks) {
            node.thread(&container, number, mask);
        }
        agent.forget_rejections();
        let plan = dry_run(&agent, &static_cpus("0")).await;
        assert!(plan.is_empty(), "{name}: no write can help");
        let found = |code| plan.findings.iter().find(|finding| finding.code == code);
        let told = mispinned(&view.borrow());
        assert_eq!(told.len(), usize::from(stray.is_some()), "{name}: {told:?}");
        if let Some(words) = stray {
            assert!(told[0].contains(words), "{name}: {told:?}");
            assert!(found("mispinned").unwrap().message.contains(words), "{name}");
        }
        let info = found("pinning-cpus-unused");
        assert_eq!(info.is_some(), unused.is_some(), "{name}: {info:?}");
        if let (Some(info), Some(words)) = (info, unused) {
            assert!(info.message.contains(words) && info.severity == Severity::Info, "{name}: {info:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn threads_are_looked_at_after_a_change_and_a_resync_alone() {
    let node = FakeCgroups::new(Version::V2, Systemd, SMALL);
    let container = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
    let (agent, view) = Pinning::new(node.ports());
    let spec = static_cpus("0");
    node.thread(&container, 1, "0-3");
    converge(&agent, &spec).await;
    let told = || mispinned(&view.borrow()).len();
    assert_eq!(told(), 1, "looked at after the pin");
    // A pass because of drift elsewhere does not look again.
    node.thread(&container, 1, "1-2");
    tokio::time::advance(Duration::from_secs(60)).await;
    dry_run(&agent, &spec).await;
    assert_eq!(told(), 1);
    // A resync does.
    agent.forget_rejections();
    dry_run(&agent, &spec).await;
    assert_eq!(told(), 0);
    // And so does a change, but not at once after the look before.
    node.thread(&container, 1, "0-3");
    let other = node.simple(Burstable, "bbbb", Ask::cpus(1));
    converge(&agent, &spec).await;
    assert_eq!((node.effective(&other).to_string().as_str(), told()), ("0,3", 0));
    tokio::time::advance(Duration::from_secs(60)).await;
    dry_run(&agent, &spec).await;
    assert_eq!(told(), 1);
}

/// Two NUMA nodes, memory bound to one of them.
fn with_memory(migrate: bool) -> NodeSpec {
    let reserved = |numa_node| ReservedMemory { numa_node, limits: [("memory".to_owned(), "50Mi".to_owned())].into() };
    let mut managers = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: "0".into(),
        memory_manager_policy: "Static".into(),
        reserved_memory: vec![reserved(0), reserved(1)],
        eviction_hard: [("memory.available".to_owned(), "100Mi".to_owned())].into(),
        ..ResourceManagersSpec::default()
    };
    managers.extensions.migrate_memory = migrate;
    NodeSpec { resource_managers: Some(managers), ..NodeSpec::default() }
}

#[tokio::test]
async fn pages_of_running_containers_move_only_when_asked_for() {
    let shape = Shape { nodes: 2, cores_per_node: 2, threads: 1 };
    for (version, migrate, expected) in
        [(Version::V2, false, "0-1"), (Version::V2, true, "0"), (Version::V1, false, "0")]
    {
        let node = FakeCgroups::new(version, Cgroupfs, shape);
        let container = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
        let done = converge(&agent(&node), &with_memory(migrate)).await;
        let file = if version == Version::V1 { "cpuset.effective_mems" } else { "cpuset.mems.effective" };
        assert_eq!(node.cpuset(&container, file), expected, "{version:?} {migrate}");
        let told = done.left.findings.iter().find(|finding| finding.code == "memory-not-moved");
        assert_eq!(told.is_some(), expected == "0-1", "{:?}", done.left.findings);
        if let Some(told) = told {
            assert!(told.message.contains("belongs on NUMA nodes 0 and may be on 0-1"), "{}", told.message);
        }
        assert_eq!(node.effective(&container).to_string(), "1", "its CPUs are pinned all the same");
        // To give back means a wider set, and that moves nothing.
        converge(&agent(&node), &NodeSpec::default()).await;
        assert_eq!(node.cpuset(&container, file), "0-1");
    }
}

#[tokio::test]
async fn cpus_that_come_back_are_used_again() {
    for (version, driver) in [(Version::V1, Cgroupfs), (Version::V2, Systemd)] {
        let node = FakeCgroups::new(version, driver, SMALL);
        let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let shared = node.simple(Burstable, "bbbb", Ask::cpus(1));
        let agent = agent(&node);
        converge(&agent, &static_cpus("0")).await;
        node.offline(3);
        converge(&agent, &static_cpus("0")).await;
        let sets = || [&pinned, &shared].map(|path| node.effective(path).to_string());
        assert_eq!(sets(), ["1-2", "0"], "{version:?}");
        node.online(3);
        converge(&agent, &static_cpus("0")).await;
        assert_eq!(sets(), ["1-2", "0,3"], "{version:?}");
    }
}

#[tokio::test]
async fn a_pinned_cpu_that_goes_is_replaced_and_its_return_harms_nobody() {
    for (version, driver) in [(Version::V1, Cgroupfs), (Version::V2, Systemd)] {
        let node = FakeCgroups::new(version, driver, SMALL);
        let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let shared = node.simple(Burstable, "bbbb", Ask::cpus(1));
        let agent = agent(&node);
        converge(&agent, &static_cpus("0")).await;
        node.offline(2);
        converge(&agent, &static_cpus("0")).await;
        let sets = || [&pinned, &shared].map(|path| node.effective(path).to_string());
        assert_eq!(sets(), ["1,3", "0"], "{version:?}");
        node.online(2);
        converge(&agent, &static_cpus("0")).await;
        assert_eq!(sets(), ["1,3", "0,2"], "{version:?}");
    }
}

#[tokio::test]
async fn a_reserved_cpu_that_goes_moves_nobody_who_is_pinned() {
    for (version, driver) in [(Version::V1, Cgroupfs), (Version::V2, Systemd)] {
        for (reserved, gone, [before, without, after]) in [
            ("0", [0].as_slice(), [["1", "0,2-3"], ["1", "2-3"], ["1", "0,2-3"]]),
            ("0-1", &[0], [["2", "0-1,3"], ["2", "1,3"], ["2", "0-1,3"]]),
            ("0-1", &[0, 1], [["2", "0-1,3"], ["2", "3"], ["2", "0-1,3"]]),
        ] {
            let node = FakeCgroups::new(version, driver, SMALL);
            let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
            let shared = node.simple(Burstable, "bbbb", Ask::cpus(1));
            let spec = static_cpus(reserved);
            let mut agent = agent(&node);
            let sets = || [&pinned, &shared].map(|path| node.effective(path).to_string());
            converge(&agent, &spec).await;
            assert_eq!(sets(), before, "{version:?} {reserved}");
            gone.iter().for_each(|cpu| node.offline(*cpu));
            for restarted in [false, true] {
                if restarted {
                    agent = super::agent(&node);
                }
                let done = converge(&agent, &spec).await;
                assert_eq!(sets(), without, "{version:?} {reserved}, restarted: {restarted}");
                assert!(done.left.refusals.is_empty(), "{:?}", done.left.refusals);
                let said = done.left.findings.iter().filter(|finding| finding.code == "reserved-cpus-offline");
                assert_eq!(said.count(), 1, "{:?}", done.left.findings);
            }
            // Somebody who comes meanwhile is not given what stands in for them.
            let next = node.simple(Guaranteed, "cccc", Ask::cpus(2));
            converge(&agent, &spec).await;
            assert!(node.effective(&next).is_disjoint(&node.effective(&pinned)), "{reserved}");
            node.vanish(next.rsplit_once('/').unwrap().0);
            gone.iter().for_each(|cpu| node.online(*cpu));
            let done = converge(&agent, &spec).await;
            assert_eq!(sets(), after, "{version:?} {reserved}");
            assert!(done.left.findings.iter().all(|finding| finding.code != "reserved-cpus-offline"));
        }
    }
}

#[tokio::test]
async fn a_reserved_cpu_that_the_machine_does_not_have_is_refused() {
    let node = FakeCgroups::new(Version::V2, Systemd, SMALL);
    let done = converge(&agent(&node), &static_cpus("0,99")).await;
    let [refusal] = done.left.refusals.as_slice() else { panic!("{:?}", done.left.refusals) };
    assert!(refusal.detail.contains("is not a subset of online-cpus"), "{refusal:?}");
}

#[tokio::test]
async fn the_time_that_containers_ran_unpinned_is_told() {
    let node = FakeCgroups::new(Version::V2, Systemd, SMALL);
    let runtime = FakeRuntime::new(&node);
    let start = || Pinning::new(PinningPorts { runtime: Some(std::sync::Arc::new(runtime.clone())), ..node.ports() });
    let spec = static_cpus("0");
    let long_ago = 1_600_000_000_000_000_000;
    let early = node.simple(Guaranteed, "aaaa", Ask::cpus(1));
    runtime.knows(&early, long_ago);
    converge(&start().0, &spec).await;
    // It comes while no agent runs, and the next one finds it.
    let between = node.simple(Guaranteed, "bbbb", Ask::cpus(1));
    runtime.knows(&between, long_ago);
    let (agent, view) = start();
    converge(&agent, &spec).await;
    let done = converge(&agent, &spec).await;
    let late = || view.borrow().late_pins;
    let [hand_over] = done.left.findings.as_slice() else { panic!("{:?}", done.left.findings) };
    assert!(hand_over.code == "pinning-hand-over" && hand_over.message.contains(": 1 so far; "), "{hand_over:?}");
    assert_eq!((late().at_start.count, late().later.count), (1, 0), "the first ran when nobody pinned yet");
    assert!(late().at_start.longest.unwrap() > Duration::from_secs(1_000_000), "the runtime tells its age");
    // One that comes now is late by what has passed since the last look at most.
    let late_one = node.simple(Guaranteed, "cccc", Ask::cpus(1));
    converge(&agent, &spec).await;
    let done = converge(&agent, &spec).await;
    assert_eq!((late().at_start.count, late().later.count), (1, 1));
    assert!(late().later.longest.unwrap() < Duration::from_secs(1000), "{:?}", late());
    let [_, race] = done.left.findings.as_slice() else { panic!("{:?}", done.left.findings) };
    assert!(race.code == "pinning-start-race" && race.remedy.contains("NRI"), "{race:?}");
    // A pin that is only repaired is not late, nor is one that waited for CPUs.
    let waiting = node.simple(Guaranteed, "dddd", Ask::cpus(1));
    for _ in 0..5 {
        converge(&agent, &spec).await;
    }
    assert_eq!(node.effective(&waiting).to_string(), "0");
    node.drift(&early, "cpuset.cpus", "0-3");
    node.vanish(late_one.rsplit_once('/').unwrap().0);
    converge(&agent, &spec).await;
    assert_eq!(node.effective(&waiting).to_string(), "3");
    assert_eq!((late().at_start.count, late().later.count), (1, 1));
}
