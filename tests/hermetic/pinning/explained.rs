//! Why a container has what it has, in words: each kind of container has its reason.

use std::sync::Arc;

use trimtab::reconcile::node_view::{Explained, NodeView};
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{self, BestEffort, Burstable, Guaranteed};

use super::{converge, static_cpus};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::NodeRuntime;

/// Eight CPUs on two NUMA nodes with these containers, each in a pod of its own: class, name, what it asks for.
async fn view_of(spec: &NodeSpec, containers: &[(QosClass, &str, Ask)]) -> Arc<NodeView> {
    let shape = Shape { nodes: 2, cores_per_node: 4, threads: 1 };
    let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, shape);
    let (agent, view) = Pinning::new(node.ports());
    converge(&agent, spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    for (qos, name, ask) in containers {
        runtime.run_pod(*qos, name, &[]);
        runtime.create(name, "main", *ask).unwrap();
    }
    converge(&agent, spec).await;
    Arc::clone(&view.borrow())
}

fn of<'a>(view: &'a NodeView, pod: &str) -> Option<&'a Explained> {
    let pod = view.pods.iter().find(|found| found.uid.0 == pod).unwrap();
    view.explanations.get(&pod.containers[0].id)
}

#[tokio::test]
async fn each_kind_of_container_has_its_reason() {
    let memory = Some(1 << 28);
    let containers = [
        (Guaranteed, "whole", Ask { milli: 2000, memory }),
        (Guaranteed, "part", Ask { milli: 1500, memory }),
        (Burstable, "burst", Ask { milli: 1000, memory: None }),
        (BestEffort, "best", Ask { milli: 0, memory: None }),
    ];
    let view = view_of(&static_cpus("0"), &containers).await;
    let rows = [
        ("whole", "it is entitled to 2 CPUs of its own (a Guaranteed pod and whole CPUs, or an annotation)", "cpu 2"),
        ("part", "it shares CPUs: it asks for a part of a CPU; only whole CPUs are given out", "cpu 1500m"),
        ("burst", "it shares CPUs: its pod is Burstable, and only Guaranteed pods own CPUs or memory", ""),
        ("best", "it shares CPUs: its pod is BestEffort, and only Guaranteed pods own CPUs or memory", ""),
    ];
    for (pod, rule, request) in rows {
        let told = of(&view, pod).unwrap_or_else(|| panic!("{pod} is not explained"));
        assert_eq!(told.rule, rule, "{pod}");
        assert!(told.request.contains(request), "{pod}: {told:?}");
        assert_eq!(told.policy, "CPUs static, memory None, topology none, scope container", "{pod}");
        assert!(!told.writer.is_empty(), "{pod}");
    }
    assert_eq!(of(&view, "whole").unwrap().hint, "CPUs on NUMA node 0");
    assert_eq!(of(&view, "burst").unwrap().hint, "");
}

#[tokio::test]
async fn where_nobody_decides_nothing_is_explained() {
    let view = view_of(&NodeSpec::default(), &[(Guaranteed, "whole", Ask::cpus(2))]).await;
    assert_eq!(of(&view, "whole"), None);
}
