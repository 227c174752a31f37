//! A cgroup that is just being made: its limits are the kernel's, which look like those of a container with a whole CPU.

use trimtab::ports::admission::{Admission, Lifecycle};
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::roster::{ContainerState, SandboxContainer};
use trimtab_domain::spec::cgroup::CgroupDriver::Cgroupfs;
use trimtab_domain::workload::QosClass::{BestEffort, Guaranteed};
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

#[tokio::test]
async fn a_container_that_the_runtime_is_still_making_is_left_to_it_and_not_late() {
    let node = FakeCgroups::new(Version::V1, Cgroupfs, SMALL);
    let (agent, view) = Pinning::new(node.ports());
    let spec = static_cpus("0");
    converge(&agent, &spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    runtime.run_pod(BestEffort, "slow", &[]);
    let pod = runtime.pods["slow"].clone();
    let mut container = SandboxContainer {
        id: ContainerId(id("slow", 1)),
        sandbox: pod.sandbox.id.clone(),
        name: "app".into(),
        state: ContainerState::Created,
        created_at_ns: 1,
        pid: None,
        cgroups_path: String::new(),
        labels: Labels::default(),
        annotations: Labels::default(),
        resources: Some(told(Ask::cpus(0), BestEffort)),
    };
    agent.desk().create(&pod.sandbox, &container).unwrap();
    // Between the making of the directory and the writing of the set: with nobody in it.
    let path = node.leaf(&pod.path, (&container.id.0, Some("app")), Ask::cpus(0), BestEffort);
    node.stop_processes();
    node.drift(&path, "cpuset.cpus", "");
    converge(&agent, &spec).await;
    assert_eq!(node.cpuset(&path, "cpuset.cpus"), "", "nobody is in there yet");
    node.drift(&path, "cpuset.cpus", "0-3");
    container.state = ContainerState::Running;
    agent.desk().event(Lifecycle::ContainerStarted, &pod.sandbox, Some(&container));
    converge(&agent, &spec).await;
    assert_eq!((node.cpuset(&path, "cpuset.cpus"), view.borrow().late_pins.later.count), ("0-3".to_owned(), 0));
}
