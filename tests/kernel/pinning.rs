//! Pinning on the real kernel: a temporary subtree of the machine's cgroups, real processes in place of containers.

mod readback;

use std::collections::BTreeMap;
use std::path::PathBuf;

use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};

use crate::laws::{Fixture, pass, prove_five_laws, texts};
use crate::support::cgroups::Subtree;
use crate::support::fake_ledger::Records;

const POD: &str = "kubepods/pod11111111-1111-4111-8111-111111111111";
const OTHER: &str = "kubepods/burstable/pod22222222-2222-4222-8222-222222222222";

/// Static CPU policy, CPU 0 reserved.
fn spec() -> NodeSpec {
    let managers = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: "0".into(),
        ..ResourceManagersSpec::default()
    };
    NodeSpec { resource_managers: Some(managers), ..NodeSpec::default() }
}

struct Pods {
    tree: Subtree,
    agent: Pinning,
    sandbox: String,
    pinned: String,
    shared: String,
}

impl Pods {
    /// A Guaranteed pod with a sandbox and a container of one CPU, and a Burstable one.
    fn new() -> Option<Self> {
        let mut tree = Subtree::new()?;
        tree.make(POD);
        let sandbox = tree.container(POD, 1, "pause", None);
        let pinned = tree.container(POD, 2, "server", Some(1));
        tree.make(OTHER);
        let shared = tree.container(OTHER, 3, "server", Some(1));
        if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
            crate::support::namespace::cannot_run("two CPUs are needed");
            return None;
        }
        Some(Self { agent: Pinning::new(tree.ports()).0, tree, sandbox, pinned, shared })
    }

    fn converge(&self, spec: &NodeSpec) -> Vec<String> {
        let done = run(pass(&self.agent, spec));
        let failures: Vec<&String> = done.failures.iter().map(|(_, cause)| cause).collect();
        assert!(failures.is_empty(), "{failures:?} of {:?}", texts(&done.plan));
        assert!(done.left.is_empty(), "left {:?}", texts(&done.left));
        texts(&done.plan)
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Fixture for Pods {
    type Sub = Pinning;
    type State = (BTreeMap<PathBuf, String>, Records);

    fn subsystem(&self) -> &Pinning {
        &self.agent
    }

    fn spec(&self) -> NodeSpec {
        spec()
    }

    fn state(&self) -> Self::State {
        (self.tree.cpusets(), self.tree.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        None
    }

    fn drift(&self) {
        self.tree.set("cpuset.cpus", &self.pinned, "0-1");
        self.tree.set("cpuset.cpus", &self.shared, "1");
    }

    fn break_one(&self) -> Option<String> {
        // The kernel has no way to fail one write of root; the hermetic tests prove this law.
        None
    }

    fn repair(&self) {}
}

#[test]
fn five_laws() {
    let Some(first) = Pods::new() else { return };
    if first.tree.version() == Version::V2 {
        // Under version 2 an empty list cannot be restored while processes run; see the test below.
        return;
    }
    drop(first);
    run(prove_five_laws(|| Pods::new().unwrap()));
}

#[test]
fn processes_run_where_they_are_pinned() {
    let Some(mut pods) = Pods::new() else { return };
    let (before, everything) = (pods.tree.cpusets(), pods.tree.allowed(&pods.sandbox));
    pods.converge(&spec());
    assert_eq!(pods.tree.allowed(&pods.pinned), "1");
    let rest = pods.tree.allowed(&pods.shared);
    assert!(!rest.contains('1') || rest.len() > 1, "{rest}");
    assert_eq!(pods.tree.allowed(&pods.sandbox), everything, "the sandbox is left alone");

    // A restarted agent finds nothing to do.
    assert_eq!(run(pass(&Pinning::new(pods.tree.ports()).0, &spec())).plan.steps().count(), 0);

    // Drift by hand is healed.
    pods.tree.set("cpuset.cpus", &pods.pinned, "0-1");
    assert_eq!(pods.tree.allowed(&pods.pinned), "0-1");
    let steps = pods.converge(&spec());
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(pods.tree.allowed(&pods.pinned), "1");

    // The container ends: its CPU goes back to the others.
    let pinned = pods.pinned.clone();
    pods.tree.stop(&pinned);
    pods.converge(&spec());
    assert_eq!(pods.tree.allowed(&pods.shared), everything);
    assert!(pods.tree.ledger.snapshot().is_empty(), "{:?}", pods.tree.ledger.snapshot());

    // And the next one gets it.
    let next = pods.tree.container(POD, 4, "server", Some(1));
    pods.converge(&spec());
    assert_eq!(pods.tree.allowed(&next), "1");

    // Roll-back, byte for byte where the kernel allows it.
    pods.converge(&NodeSpec::default());
    assert_eq!(pods.tree.allowed(&next), everything);
    assert!(pods.tree.ledger.snapshot().is_empty());
    if pods.tree.version() == Version::V1 {
        let mut after = pods.tree.cpusets();
        after.retain(|path, _| before.contains_key(path));
        let gone = |path: &PathBuf| path.to_string_lossy().contains(&pinned);
        assert!(before.iter().filter(|(path, _)| !gone(path)).eq(after.iter()), "{before:?} became {after:?}");
    }
    let path = pods.tree.path();
    drop(pods);
    assert!(!path.exists(), "the subtree is removed");
}

#[test]
fn cgroups_that_a_container_made_go_along() {
    let Some(mut pods) = Pods::new() else { return };
    if pods.tree.version() == Version::V2 {
        // Nothing inside can be in the way there.
        return;
    }
    let inner = format!("{}/inner", pods.shared);
    pods.tree.make(&inner);
    let before = pods.tree.cpusets();
    pods.converge(&spec());
    assert_ne!(pods.tree.cpusets(), before);
    pods.converge(&NodeSpec::default());
    assert_eq!(pods.tree.cpusets(), before);
}

#[test]
fn a_new_cpuset_of_version_1_gets_both_files() {
    let Some(mut pods) = Pods::new() else { return };
    if pods.tree.version() == Version::V2 {
        return;
    }
    // As a kernel makes it: empty, and closed to processes until both files are written.
    let path = format!("{POD}/{:064x}", 9);
    pods.tree.make(&path);
    pods.tree.set("cpuset.cpus", &path, "\n");
    pods.tree.set("cpuset.mems", &path, "\n");
    pods.tree.set("cpu.shares", &path, "512");
    pods.converge(&spec());
    let filled = pods.tree.cpusets();
    let text =
        |file: &str| filled.iter().find(|(p, _)| p.ends_with(format!("{path}/{file}"))).unwrap().1.trim().to_owned();
    assert_eq!((text("cpuset.cpus"), text("cpuset.mems").is_empty()), ("0".into(), false));
}
