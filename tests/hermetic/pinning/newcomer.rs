//! A cgroup that is just being made: its limits are the kernel's, which look like those of a container with a whole CPU.

use trimtab::ports::admission::{Admission, Lifecycle};
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{ContainerState, SandboxContainer};
use trimtab_domain::spec::cgroup::CgroupDriver::Cgroupfs;
use trimtab_domain::workload::QosClass::{BestEffort, Burstable, Guaranteed};
use trimtab_domain::workload::{ContainerId, Labels};

use super::{converge, static_cpus};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape, id};
use crate::support::node_runtime::{NodeRuntime, told};

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };

#[tokio::test]
async fn a_sandbox_on_its_way_takes_no_cpu_from_the_pods_that_come() {
    let node = FakeCgroups::new(Version::V1, Cgroupfs, SMALL);
    let (agent, _) = Pinning::new(node.ports());
    let spec = static_cpus("0");
    converge(&agent, &spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    // The runtime has made the cgroup and has not announced the sandbox yet; it does so in a moment.
    let early = node.pod(Guaranteed, "early");
    node.leaf(&early, (&id("early", 7), None), Ask::cpus(1), Guaranteed);
    converge(&agent, &spec).await;
    assert_eq!(agent.desk().view().places, []);
    runtime.run_pod(Guaranteed, "whole", &[]);
    runtime.create("whole", "app", Ask::cpus(3)).unwrap();
}

/// On version 2 runc fails if systemd sets a property of its scope at the wrong moment.
#[tokio::test]
async fn a_sandbox_in_the_making_is_left_to_the_runtime() {
    // Before and after the runtime has set the limits.
    for ask in [Ask::cpus(1), Ask::cpus(0)] {
        let (node, agent, mut runtime) = beside_an_owner(Version::V2).await;
        let early = node.pod(Burstable, "early");
        let sandbox = node.leaf(&early, (&id("early", 7), None), ask, Burstable);
        converge(&agent, &static_cpus("0")).await;
        assert_eq!(node.cpuset(&sandbox, "cpuset.cpus"), "", "{ask:?}");
        // Somebody is there whom the runtime knows to run, and this one it does not know.
        runtime.run_pod(Burstable, "known", &[]);
        let stranger = node.leaf(&runtime.pods["known"].path, (&id("known", 7), None), ask, Burstable);
        converge(&agent, &static_cpus("0")).await;
        assert_eq!(node.effective(&stranger), CpuSet::parse("0,2-3").unwrap(), "{ask:?}");
    }
}

/// The agent on a node whose runtime asks it, and where somebody owns CPU 1.
async fn beside_an_owner(version: Version) -> (FakeCgroups, Pinning, NodeRuntime) {
    let node = FakeCgroups::new(version, Cgroupfs, SMALL);
    let (agent, _) = Pinning::new(node.ports());
    converge(&agent, &static_cpus("0")).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    runtime.run_pod(Guaranteed, "owner", &[]);
    runtime.create("owner", "app", Ask::cpus(1)).unwrap();
    converge(&agent, &static_cpus("0")).await;
    (node, agent, runtime)
}

#[tokio::test]
async fn a_container_that_the_runtime_is_still_making_is_left_to_it_and_not_late() {
    for version in [Version::V1, Version::V2] {
        // A runtime need not say in its request that the container is created.
        for told in [ContainerState::Created, ContainerState::Unknown] {
            still_being_made(version, told).await;
        }
    }
}

async fn still_being_made(version: Version, told_state: ContainerState) {
    let (node, agent, mut runtime) = beside_an_owner(version).await;
    runtime.run_pod(BestEffort, "slow", &[]);
    let pod = runtime.pods["slow"].clone();
    let mut container = SandboxContainer {
        id: ContainerId(id("slow", 1)),
        sandbox: pod.sandbox.id.clone(),
        name: "app".into(),
        state: told_state,
        created_at_ns: 1,
        pid: None,
        cgroups_path: String::new(),
        labels: Labels::default(),
        annotations: Labels::default(),
        resources: Some(told(Ask::cpus(0), BestEffort)),
    };
    let answer = agent.desk().create(&pod.sandbox, &container).unwrap();
    let answered = answer.cpus.unwrap().to_string();
    assert_eq!(answered, "0,2-3");
    // Between the making of the directory and the writing of the set: with nobody in it but the runtime.
    let path = node.leaf(&pod.path, (&container.id.0, Some("app")), Ask::cpus(0), BestEffort);
    if version == Version::V1 {
        node.stop_processes();
        node.drift(&path, "cpuset.cpus", "");
    }
    converge(&agent, &static_cpus("0")).await;
    assert_eq!(node.cpuset(&path, "cpuset.cpus"), "", "it is not running yet");
    node.drift(&path, "cpuset.cpus", &answered);
    container.state = ContainerState::Running;
    agent.desk().event(Lifecycle::ContainerStarted, &pod.sandbox, Some(&container));
    converge(&agent, &static_cpus("0")).await;
    assert_eq!(node.cpuset(&path, "cpuset.cpus"), answered);
    let observed = agent.observe(&static_cpus("0").resource_managers).await.unwrap();
    assert_eq!(observed.late.later.count, 0);
    // One whom the runtime has not given what it was told is made good once it runs.
    node.drift(&path, "cpuset.cpus", "0-3");
    converge(&agent, &static_cpus("0")).await;
    assert_eq!(node.effective(&path).to_string(), answered);
}
