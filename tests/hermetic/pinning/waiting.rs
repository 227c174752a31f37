//! Containers that do not run at the moment: listed as the kubelet lists them, with what they keep.

use std::sync::Arc;

use tokio::sync::watch;
use trimtab::reconcile::node_view::{ContainerView, NodeView};
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{Burstable, Guaranteed};

use super::{converge, static_cpus};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::NodeRuntime;

struct Play {
    runtime: NodeRuntime,
    agent: Pinning,
    view: watch::Receiver<Arc<NodeView>>,
    spec: NodeSpec,
}

impl Play {
    /// Eight CPUs on two NUMA nodes; CPU 0 is reserved.
    async fn new() -> Self {
        let shape = Shape { nodes: 2, cores_per_node: 4, threads: 1 };
        let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, shape);
        let (agent, view) = Pinning::new(node.ports());
        let spec = static_cpus("0");
        converge(&agent, &spec).await;
        let mut runtime = NodeRuntime::new(&node);
        runtime.connect(agent.desk());
        Self { runtime, agent, view, spec }
    }

    /// What is told of a pod after a pass: name, CPUs of its own, whether it waits.
    async fn told(&self, uid: &str) -> Vec<(String, Vec<u32>, bool)> {
        converge(&self.agent, &self.spec).await;
        let view = Arc::clone(&self.view.borrow());
        let pods = view.pods.iter().filter(|pod| pod.uid.0 == uid);
        let told = |one: &ContainerView| (one.name.clone(), one.exclusive_cpus.clone(), one.waiting);
        pods.flat_map(|pod| &pod.containers).map(told).collect()
    }
}

fn row(name: &str, cpus: &[u32], waiting: bool) -> (String, Vec<u32>, bool) {
    (name.to_owned(), cpus.to_vec(), waiting)
}

#[tokio::test]
async fn a_crashed_container_is_told_with_the_cpus_that_it_keeps_until_its_pod_ends() {
    let mut play = Play::new().await;
    play.runtime.run_pod(Guaranteed, "a", &[]);
    play.runtime.create("a", "main", Ask::cpus(2)).unwrap();
    play.runtime.create("a", "side", Ask { milli: 500, memory: Some(1 << 28) }).unwrap();
    assert_eq!(play.told("a").await, [row("main", &[1, 2], false), row("side", &[], false)]);
    play.runtime.exit("a", "main");
    assert_eq!(play.told("a").await, [row("side", &[], false), row("main", &[1, 2], true)]);
    play.runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!(play.told("a").await, [row("side", &[], false), row("main", &[1, 2], false)], "each once");
    play.runtime.exit("a", "side");
    play.runtime.exit("a", "main");
    let all_wait = [row("main", &[1, 2], true), row("side", &[], true)];
    let mut told = play.told("a").await;
    told.sort();
    assert_eq!(told, all_wait, "a pod in which nothing runs is active all the same");
    let view = Arc::clone(&play.view.borrow());
    assert_eq!((view.pods[0].namespace.as_str(), view.pods[0].name.as_str()), ("shop", "pod-a"));
    play.runtime.stop_pod("a");
    assert!(play.told("a").await.is_empty(), "its pod is over");
}

#[tokio::test]
async fn a_container_of_the_shared_pool_waits_without_cpus() {
    let mut play = Play::new().await;
    play.runtime.run_pod(Burstable, "b", &[]);
    play.runtime.create("b", "main", Ask { milli: 100, memory: None }).unwrap();
    play.runtime.exit("b", "main");
    assert_eq!(play.told("b").await, [row("main", &[], true)]);
}

#[tokio::test]
async fn an_init_container_that_is_over_is_told_no_more() {
    let mut play = Play::new().await;
    play.runtime.run_pod(Guaranteed, "a", &[]);
    play.runtime.create("a", "init", Ask::cpus(3)).unwrap();
    converge(&play.agent, &play.spec).await;
    play.runtime.exit("a", "init");
    play.runtime.create("a", "main", Ask::cpus(3)).unwrap();
    let told = play.told("a").await;
    assert_eq!(told.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["main"]);
}
