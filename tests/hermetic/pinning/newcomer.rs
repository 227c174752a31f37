//! A cgroup that is just being made: its limits are the kernel's, which look like those of a container with a whole CPU.

use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::cgroup::CgroupDriver::Cgroupfs;
use trimtab_domain::workload::QosClass::Guaranteed;

use super::{converge, static_cpus};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape, id};
use crate::support::node_runtime::NodeRuntime;

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
