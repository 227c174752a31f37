//! Through whom sets are written, and what comes of each writer's moods.

use std::path::PathBuf;
use std::sync::Arc;

use trimtab::ports::admission::{Admission, RuntimePeer};
use trimtab::reconcile::{Class, Step, Subsystem};
use trimtab::subsystems::pinning::{Pinning, PinningPorts, Via};
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver::{self, Cgroupfs, Systemd};
use trimtab_domain::workload::QosClass::{Burstable, Guaranteed};

use super::{converge, static_cpus};
use crate::laws::{dry_run, pass, texts};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::fake_host::Change;
use crate::support::fake_writers::{FakeRuntime, FakeSystemd, Mood};
use crate::support::node_runtime::NodeRuntime;

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };

/// A pinned container of two CPUs, one on the shared CPUs, and who could write them.
struct Fixture {
    node: FakeCgroups,
    runtime: FakeRuntime,
    systemd: FakeSystemd,
    pinned: String,
    shared: String,
}

impl Fixture {
    fn new(version: Version, driver: CgroupDriver) -> Self {
        let node = FakeCgroups::new(version, driver, SMALL);
        let pinned = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let shared = node.simple(Burstable, "bbbb", Ask::cpus(1));
        let (runtime, systemd) = (FakeRuntime::new(&node), FakeSystemd::new(&node));
        Self { node, runtime, systemd, pinned, shared }
    }

    /// The runtime knows both containers.
    fn known(self) -> Self {
        self.runtime.knows(&self.pinned, 1);
        self.runtime.knows(&self.shared, 1);
        self
    }

    fn with_runtime(&self) -> Pinning {
        let runtime = Arc::new(self.runtime.clone());
        Pinning::new(PinningPorts { runtime: Some(runtime), ..self.node.ports() }).0
    }

    fn with_systemd(&self) -> Pinning {
        let units = Arc::new(self.systemd.clone());
        Pinning::new(PinningPorts { units: Some(units), ..self.node.ports() }).0
    }

    /// Files of containers that the agent wrote itself since the last look.
    fn written_directly(&self) -> Vec<PathBuf> {
        let written = self.node.host.take_changes().into_iter().filter_map(|change| match change {
            Change::Write(path, _) => Some(path),
            Change::Replace(..) | Change::Remove(_) => None,
        });
        let of_container = |path: &PathBuf| {
            path.parent().unwrap().ends_with(&self.pinned) || path.parent().unwrap().ends_with(&self.shared)
        };
        written.filter(of_container).collect()
    }

    fn assert_pinned(&self, why: &str) {
        let sets = [&self.pinned, &self.shared].map(|path| self.node.effective(path).to_string());
        assert_eq!(sets, ["1-2", "0,3"], "{why}");
    }
}

fn spec() -> NodeSpec {
    static_cpus("0")
}

const NODES: [(Version, CgroupDriver); 3] = [(Version::V1, Cgroupfs), (Version::V2, Systemd), (Version::V2, Cgroupfs)];

#[tokio::test]
async fn a_runtime_that_answers_writes_and_what_it_wrote_lasts() {
    for (version, driver) in NODES {
        let all = Fixture::new(version, driver).known();
        converge(&all.with_runtime(), &spec()).await;
        all.assert_pinned("first");
        assert_eq!(all.written_directly(), Vec::<PathBuf>::new(), "{version:?} {driver:?}");
        // It was told of CPUs in calls about CPUs alone, and of the bound in one about that.
        let calls = all.runtime.take_calls();
        assert_eq!(calls.len(), 3, "{calls:?}");
        assert!(calls.iter().all(|(_, change)| change.cpus.is_none() || change.cpu_quota_us.is_none()), "{calls:?}");
        // What the kubelet changes makes the runtime write everything again.
        for path in [&all.pinned, &all.shared] {
            all.runtime.write_again(path);
        }
        assert!(dry_run(&all.with_runtime(), &spec()).await.is_empty());
        // A hand is healed through the runtime, too.
        all.node.drift(&all.pinned, "cpuset.cpus", "0-3");
        converge(&all.with_runtime(), &spec()).await;
        all.assert_pinned("after a hand");
        assert_eq!(all.runtime.take_calls().len(), 1);
        // So is giving back.
        converge(&all.with_runtime(), &NodeSpec::default()).await;
        assert_eq!(all.node.effective(&all.pinned).to_string(), "0-3");
        assert_eq!(all.written_directly(), Vec::<PathBuf>::new(), "{version:?} {driver:?}");
        assert!(all.node.ledger.snapshot().is_empty());
    }
}

#[tokio::test]
async fn a_container_that_the_runtime_is_just_starting_is_pinned_at_once() {
    for (version, driver) in NODES {
        let node = FakeCgroups::new(version, driver, SMALL);
        let runtime = FakeRuntime::new(&node);
        let ports = PinningPorts { runtime: Some(Arc::new(runtime.clone())), ..node.ports() };
        let agent = Pinning::new(ports).0;
        runtime.knows(&node.simple(Guaranteed, "aaaa", Ask::cpus(1)), 1);
        converge(&agent, &spec()).await;
        // What it is told of one that does not run yet it only remembers.
        runtime.becomes(Mood::Idle);
        runtime.take_calls();
        let late = node.simple(Guaranteed, "bbbb", Ask::cpus(1));
        runtime.knows(&late, 2);
        let done = pass(&agent, &spec()).await;
        assert!(done.failures.is_empty(), "{version:?} {driver:?}: {:?}", done.failures);
        assert_eq!(node.effective(&late).to_string(), "2", "{version:?} {driver:?}");
        let told = runtime.take_calls();
        assert!(told.iter().any(|(id, change)| late.contains(&id.0) && change.cpus.is_some()), "{told:?}");
    }
}

/// A pinned container of a runtime that asks over NRI, and that nobody reaches over CRI; and what it is told unasked.
async fn without_cri(safe: bool) -> (FakeCgroups, Pinning, FakeRuntime, String) {
    let node = FakeCgroups::new(Version::V2, Systemd, SMALL);
    let unasked = FakeRuntime::new(&node);
    let agent = Pinning::new(node.ports()).0;
    agent.desk().change_by(Arc::new(unasked.clone()));
    converge(&agent, &spec()).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    let (name, version, nri) = ("containerd".to_owned(), "2.4.0".to_owned(), Some((0, 12, 1)));
    agent.desk().connected(&RuntimePeer { name, version, nri, safe_unsolicited_updates: safe });
    runtime.run_pod(Guaranteed, "aaaa", &[]);
    runtime.create("aaaa", "main", Ask::cpus(2)).unwrap();
    let path = runtime.pods["aaaa"].containers["main"].path.clone();
    unasked.knows(&path, 1);
    converge(&agent, &spec()).await;
    assert_eq!(node.effective(&path).to_string(), "1-2");
    (node, agent, unasked, path)
}

#[tokio::test]
async fn where_cri_is_away_a_runtime_that_survives_it_is_told_over_nri() {
    for safe in [true, false] {
        let (node, agent, unasked, path) = without_cri(safe).await;
        node.drift(&path, "cpuset.cpus", "0-3");
        let done = converge(&agent, &spec()).await;
        assert_eq!(node.effective(&path).to_string(), "1-2");
        let by_nri = done.plan.steps().filter(|step| matches!(via(step), Some(Via::Plugin(_)))).count();
        assert_eq!((by_nri, unasked.take_calls().len()), if safe { (1, 1) } else { (0, 0) }, "safe: {safe}");
    }
}

#[tokio::test]
async fn a_runtime_that_does_not_answer_over_nri_is_asked_once() {
    for mood in [Mood::Away, Mood::Refusing] {
        let (node, agent, unasked, path) = without_cri(true).await;
        unasked.becomes(mood);
        node.drift(&path, "cpuset.cpus", "0-3");
        let done = pass(&agent, &spec()).await;
        assert_eq!(done.failures.len(), 1, "{mood:?}: {:?}", done.failures);
        converge(&agent, &spec()).await;
        assert_eq!(node.effective(&path).to_string(), "1-2", "{mood:?}: by the file");
        agent.forget_rejections();
        unasked.becomes(Mood::Obliging);
        node.drift(&path, "cpuset.cpus", "0-3");
        converge(&agent, &spec()).await;
        assert_eq!(unasked.take_calls().len(), 1, "{mood:?}: tried again after a while");
    }
}

#[tokio::test]
async fn nobody_is_pinned_onto_cpus_that_others_have_not_left() {
    let all = Fixture::new(Version::V2, Cgroupfs).known();
    all.runtime.becomes(Mood::Idle);
    let agent = all.with_runtime();
    let done = pass(&agent, &spec()).await;
    assert_eq!(done.failures.len(), 1, "{:?}", done.failures);
    let (step, cause) = &done.failures[0];
    assert!(step.object().is_none() && cause.contains("still has 1-2 in cpuset.cpus.effective"), "{cause}");
    assert!(all.runtime.take_calls().iter().all(|(id, _)| !all.pinned.contains(&id.0)), "the pin was withheld");
    all.runtime.becomes(Mood::Obliging);
    converge(&agent, &spec()).await;
    all.assert_pinned("once it works");
}

#[tokio::test]
async fn a_pin_that_did_not_take_keeps_the_shared_pool_from_growing() {
    let all = Fixture::new(Version::V2, Cgroupfs).known();
    let agent = all.with_runtime();
    converge(&agent, &spec()).await;
    // Other CPUs are reserved now: the pinned container moves from 1-2 to 2-3, and the others from 0,3 to 0-1.
    all.runtime.take_calls();
    all.runtime.becomes(Mood::Idle);
    let plan = dry_run(&agent, &NodeSpec::default()).await;
    assert!(plan.steps().count() > 0);
    let done = pass(&agent, &static_cpus("0-1")).await;
    assert!(!done.failures.is_empty());
    all.assert_pinned("nothing grew");
}

#[tokio::test]
async fn a_runtime_that_refuses_or_is_away_is_passed_over() {
    let all = Fixture::new(Version::V2, Cgroupfs).known();
    all.runtime.becomes(Mood::Refusing);
    let agent = all.with_runtime();
    let first = pass(&agent, &spec()).await;
    assert_eq!(first.failures.len(), 1, "{:?}", first.failures);
    assert!(first.failures[0].1.contains("not today"), "{:?}", first.failures);
    for _ in 0..2 {
        pass(&agent, &spec()).await;
    }
    all.assert_pinned("written by the agent itself");
    assert!(!all.written_directly().is_empty());
    // Asked again when everything is tried anew.
    agent.forget_rejections();
    all.runtime.becomes(Mood::Obliging);
    all.node.drift(&all.pinned, "cpuset.cpus", "0-3");
    converge(&agent, &spec()).await;
    assert_eq!(all.runtime.take_calls().len(), 1);

    let all = Fixture::new(Version::V2, Cgroupfs).known();
    all.runtime.becomes(Mood::Away);
    converge(&all.with_runtime(), &spec()).await;
    all.assert_pinned("nobody there");
}

#[tokio::test]
async fn a_container_that_the_runtime_does_not_know_is_written_directly() {
    let all = Fixture::new(Version::V2, Cgroupfs);
    all.runtime.knows(&all.shared, 1);
    converge(&all.with_runtime(), &spec()).await;
    all.assert_pinned("one each way");
    let calls = all.runtime.take_calls();
    assert!(calls.len() == 1 && all.shared.contains(&calls[0].0.0), "{calls:?}");
    let written = all.written_directly();
    assert!(written.iter().all(|path| path.to_string_lossy().contains(&all.pinned)), "{written:?}");
}

#[tokio::test]
async fn a_property_of_the_unit_outlives_a_daemon_reload() {
    let all = Fixture::new(Version::V2, Systemd);
    let unit = all.pinned.rsplit('/').next().unwrap().to_owned();
    // What the runtime has asked for when it made the scope.
    all.systemd.has_property(&unit, "cpuset.cpus", "0-3");
    all.systemd.has_property(&unit, "cpu.max", "200000 100000");
    // Written past systemd: undone by the next reload.
    let bare = Pinning::new(all.node.ports()).0;
    converge(&bare, &spec()).await;
    all.systemd.daemon_reload();
    assert_eq!(all.node.effective(&all.pinned).to_string(), "0-3");
    assert_eq!(all.node.bound(&all.pinned), "200000 100000");
    // As a property it lasts.
    let agent = all.with_systemd();
    converge(&agent, &spec()).await;
    all.systemd.daemon_reload();
    all.assert_pinned("after the reload");
    assert_eq!(all.node.bound(&all.pinned), "max 100000");
    assert!(dry_run(&agent, &spec()).await.is_empty());
    // Given back, it stays so as well.
    converge(&agent, &NodeSpec::default()).await;
    all.systemd.daemon_reload();
    assert_eq!(all.node.effective(&all.pinned).to_string(), "0-3");
    assert_eq!(all.systemd.property(&unit, "cpu.max").as_deref(), Some("200000 100000"));
}

#[tokio::test]
async fn systemd_is_asked_only_about_what_it_can_do() {
    for (version, driver, mood, cpus_by_unit) in [
        (Version::V2, Systemd, Mood::Obliging, true),
        (Version::V2, Systemd, Mood::Away, false),
        (Version::V2, Cgroupfs, Mood::Obliging, false),
        // AllowedCPUs is for version 2 only.
        (Version::V1, Systemd, Mood::Obliging, false),
    ] {
        let all = Fixture::new(version, driver);
        all.systemd.becomes(mood);
        let plan = dry_run(&all.with_systemd(), &spec()).await;
        let by_unit = plan.steps().filter(|step| step.object().is_some_and(|object| object.ends_with("cpuset.cpus")));
        let by_unit: Vec<bool> = by_unit.map(|step| matches!(via(step), Some(Via::Unit(_)))).collect();
        assert_eq!(by_unit, [cpus_by_unit, cpus_by_unit], "{version:?} {driver:?} {mood:?}: {:?}", texts(&plan));
    }
    let all = Fixture::new(Version::V2, Systemd);
    all.systemd.becomes(Mood::Refusing);
    let agent = all.with_systemd();
    assert!(!pass(&agent, &spec()).await.failures.is_empty());
    for _ in 0..2 {
        pass(&agent, &spec()).await;
    }
    all.assert_pinned("written past it");
}

fn via(step: &<Pinning as Subsystem>::Step) -> Option<&Via> {
    match step {
        trimtab::subsystems::pinning::PinStep::Write(write) => Some(&write.via),
        _ => None,
    }
}

#[tokio::test]
async fn nothing_grows_once_somebody_else_has_come() {
    let all = Fixture::new(Version::V2, Cgroupfs);
    let agent = Pinning::new(all.node.ports()).0;
    converge(&agent, &spec()).await;
    all.node.vanish(&all.pinned);
    let desired = Pinning::desired(&spec()).clone();
    let observed = agent.observe(&desired).await.unwrap();
    let plan = Pinning::plan(&desired, &observed);
    let grow = plan.steps().find(|step| step.object().is_some()).unwrap();
    assert!(grow.to_string().ends_with("0,3 -> (empty)"), "{grow}");
    // A runtime has connected and told of nobody: whatever was planned before is old.
    agent.desk().synchronize(Vec::new(), Vec::new());
    let error = agent.apply(grow).await.unwrap_err();
    assert_eq!(error.class, Class::Refused);
    assert_eq!(all.node.effective(&all.shared).to_string(), "0,3");
}

#[tokio::test]
async fn what_a_container_was_created_with_is_no_original() {
    for (version, driver) in NODES {
        let all = Fixture::new(version, driver).known();
        converge(&all.with_runtime(), &spec()).await;
        // As if the runtime had been told at creation: it tells the sets, and nobody remembers others.
        all.node.ledger.lose();
        converge(&all.with_runtime(), &spec()).await;
        all.assert_pinned("as before");
        assert!(!all.node.ledger.snapshot().is_empty());
        converge(&all.with_runtime(), &NodeSpec::default()).await;
        let sets = [&all.pinned, &all.shared].map(|path| all.node.effective(path).to_string());
        assert_eq!(sets, ["0-3", "0-3"], "{version:?} {driver:?}");
        assert!(all.node.ledger.snapshot().is_empty());
    }
}
