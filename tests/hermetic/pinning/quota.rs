//! Bounds of CPU time: lifted with exclusive CPUs, given back without.

use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver::{Cgroupfs, Systemd};
use trimtab_domain::workload::QosClass::Guaranteed;

use super::{agent, converge, static_cpus};
use crate::laws::{dry_run, pass, texts};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };

/// A pod of 2.5 CPUs: two of its own for the first container, half of one for the second.
struct Bounded {
    node: FakeCgroups,
    pod: String,
    owner: String,
    sharer: String,
}

impl Bounded {
    fn new(version: Version) -> Self {
        let driver = if version == Version::V1 { Cgroupfs } else { Systemd };
        let node = FakeCgroups::new(version, driver, SMALL);
        let pod = node.pod(Guaranteed, "aaaa");
        node.bound_pod(&pod, 2500);
        let owner = node.container(&pod, Guaranteed, 1, Ask::cpus(2));
        let sharer = node.container(&pod, Guaranteed, 2, Ask { milli: 500, memory: Some(1 << 30) });
        Self { node, pod, owner, sharer }
    }

    /// Of the pod and of both containers, without the period.
    fn bounds(&self) -> [String; 3] {
        [&self.pod, &self.owner, &self.sharer].map(|path| {
            let text = self.node.bound(path);
            text.split(' ').next().unwrap().replace("max", "-1")
        })
    }
}

fn spec(lift: Option<bool>) -> NodeSpec {
    let mut spec = static_cpus("0");
    spec.resource_managers.as_mut().unwrap().extensions.lift_cpu_quota = lift;
    spec
}

const BOUND: [&str; 3] = ["250000", "200000", "50000"];
const LIFTED: [&str; 3] = ["-1", "-1", "50000"];

/// Where each step on a bound comes, of the pod and of the owner.
fn order(all: &Bounded, steps: &[String]) -> [Option<usize>; 2] {
    [&all.pod, &all.owner].map(|path| steps.iter().position(|step| step.starts_with(&format!("{path}/cpu."))))
}

#[tokio::test]
async fn the_pod_goes_first_and_comes_back_last() {
    for version in [Version::V1, Version::V2] {
        let all = Bounded::new(version);
        let done = converge(&agent(&all.node), &spec(None)).await;
        assert_eq!(all.bounds(), LIFTED, "{version:?}");
        let steps = texts(&done.plan);
        let [pod, owner] = order(&all, &steps);
        let pinned = steps.iter().position(|step| step.starts_with(&format!("{}/cpuset.cpus", all.owner)));
        assert!(pinned < pod && pod < owner && pod.is_some(), "{steps:?}");
        // A restarted agent still knows what was asked for.
        assert!(dry_run(&agent(&all.node), &spec(None)).await.is_empty());
        let done = converge(&agent(&all.node), &spec(Some(false))).await;
        assert_eq!(all.bounds(), BOUND, "{version:?}");
        let [pod, owner] = order(&all, &texts(&done.plan));
        assert!(owner < pod && owner.is_some(), "{:?}", texts(&done.plan));
        assert_eq!(all.node.effective(&all.owner).to_string(), "1-2", "it keeps its CPUs");
        // And with the policy everything goes.
        converge(&agent(&all.node), &spec(None)).await;
        converge(&agent(&all.node), &NodeSpec::default()).await;
        assert_eq!(all.bounds(), BOUND, "{version:?}");
        assert!(all.node.ledger.snapshot().is_empty());
    }
}

#[tokio::test]
async fn a_bound_that_comes_back_is_lifted_and_a_new_one_remembered() {
    for version in [Version::V1, Version::V2] {
        let all = Bounded::new(version);
        let agent = agent(&all.node);
        converge(&agent, &spec(None)).await;
        let file = all.node.quota_text(None).0;
        let drift = |path: &str, milli: u64| all.node.drift(path, file, &all.node.quota_text(Some(milli * 100)).1);
        // The runtime writes what it knows.
        drift(&all.pod, 2500);
        drift(&all.owner, 2000);
        let plan = dry_run(&agent, &spec(None)).await;
        assert!(plan.steps().all(trimtab::reconcile::Step::is_repair), "{:?}", texts(&plan));
        converge(&agent, &spec(None)).await;
        assert_eq!(all.bounds(), LIFTED);
        // The kubelet resizes the second container, and the pod with it.
        drift(&all.pod, 2700);
        drift(&all.sharer, 700);
        converge(&agent, &spec(None)).await;
        assert_eq!(all.bounds(), ["-1", "-1", "70000"]);
        converge(&agent, &NodeSpec::default()).await;
        assert_eq!(all.bounds(), ["270000", "200000", "70000"], "the new bound comes back");
    }
}

#[tokio::test]
async fn without_a_pin_no_bound_is_lifted() {
    let all = Bounded::new(Version::V2);
    let agent = agent(&all.node);
    all.node.host.fail_writes(all.node.cpuset_file(&all.owner, "cpuset.cpus"), nix::errno::Errno::EIO, usize::MAX);
    let done = pass(&agent, &spec(None)).await;
    assert!(!done.failures.is_empty());
    assert_eq!(all.bounds(), BOUND);
    all.node.host.repair();
    converge(&agent, &spec(None)).await;
    assert_eq!(all.bounds(), LIFTED);
    // The one that leaves the CPUs to others is bounded again.
    all.node.vanish(&all.owner);
    converge(&agent, &spec(None)).await;
    assert_eq!(all.node.bound(&all.pod), "250000 100000");
}

#[tokio::test]
async fn a_pinned_container_is_known_by_its_shape_if_its_bound_and_the_ledger_are_gone() {
    for version in [Version::V1, Version::V2] {
        let all = Bounded::new(version);
        converge(&agent(&all.node), &spec(None)).await;
        all.node.ledger.lose();
        let again = agent(&all.node);
        converge(&again, &spec(None)).await;
        assert_eq!(all.node.effective(&all.owner).to_string(), "1-2", "{version:?}");
        assert_eq!(all.bounds(), LIFTED);
    }
}

#[tokio::test]
async fn a_bound_against_the_order_shows_as_mispinned() {
    let all = Bounded::new(Version::V2);
    let (agent, view) = Pinning::new(all.node.ports());
    converge(&agent, &spec(None)).await;
    let reason = |name: &str| {
        let view = view.borrow();
        let container = view.pods[0].containers.iter().find(|container| container.name == name).unwrap();
        container.mispinned.clone()
    };
    assert_eq!((reason("c1"), reason("c2")), (None, None));
    all.node.drift(&all.pod, "cpu.max", "250000 100000");
    dry_run(&agent, &spec(None)).await;
    assert!(reason("c1").unwrap().contains("bounds it to 250000 µs in 100000 µs"), "{:?}", reason("c1"));
    assert_eq!(reason("c2"), None, "that one is bounded as it should be");
    converge(&agent, &spec(None)).await;
    assert_eq!(reason("c1"), None);
}
