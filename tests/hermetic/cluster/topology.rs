//! What the scheduler is told of NUMA nodes, where the profile asks for it.

use serde_json::json;
use trimtab::reconcile::node_view::{
    ContainerView, CpuView, MachineView, MemoryBook, MemoryUse, NumaNodeView, PodView,
};
use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

use super::*;
use crate::pinning::static_cpus;

const OBJECT: &str = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies/n1";

/// Two NUMA nodes of two CPUs; CPU 0 is reserved, these are held.
fn view(held: &[u32]) -> Arc<NodeView> {
    let cpu = |cpu: u32| CpuView { cpu, core: cpu, socket: 0, numa_node: cpu / 2, uncore_cache: None };
    let memory = |book| vec![MemoryUse { memory_type: "memory".into(), total_bytes: 1000, book }];
    let book = MemoryBook { reserved_bytes: 100, allocatable_bytes: 900, held_bytes: 300 };
    let container = ContainerView {
        name: "main".into(),
        id: ContainerId("c".into()),
        exclusive_cpus: held.to_vec(),
        memory: Vec::new(),
        effective_cpus: String::new(),
        effective_mems: String::new(),
        mispinned: None,
        waiting: false,
    };
    let pod = PodView {
        uid: PodUid("u".into()),
        name: "p".into(),
        namespace: "shop".into(),
        qos: QosClass::Guaranteed,
        containers: vec![container],
    };
    Arc::new(NodeView {
        machine: MachineView {
            cpus: (0..4).map(cpu).collect(),
            numa_nodes: vec![
                NumaNodeView { id: 0, memory: memory(Some(book)) },
                NumaNodeView { id: 1, memory: memory(None) },
            ],
            ..MachineView::default()
        },
        pods: vec![pod],
        allocatable_cpus: vec![1, 2, 3],
        ..NodeView::default()
    })
}

fn asking() -> NodeSpec {
    let mut spec = static_cpus("0");
    spec.kubernetes.node_resource_topology = true;
    spec.resource_managers.as_mut().unwrap().topology_manager_policy = "single-numa-node".into();
    spec
}

#[tokio::test(start_paused = true)]
async fn zones_show_what_can_be_given_out_and_what_of_it_is_free() {
    let server = Scene::server();
    let scene = Scene::new(&server);
    scene.engine.hold(1, asking());
    scene.engine.view.send_replace(view(&[2]));
    pass(Duration::from_secs(30)).await;
    let object = server.object(OBJECT).unwrap();
    assert_eq!(object["topologyPolicies"], json!(["SingleNUMANodeContainerLevel"]));
    assert_eq!(
        object["zones"],
        json!([
            {"name": "node-0", "type": "Node", "resources": [
                {"name": "cpu", "capacity": "2", "allocatable": "1", "available": "1"},
                {"name": "memory", "capacity": "1000", "allocatable": "900", "available": "600"},
            ]},
            {"name": "node-1", "type": "Node", "resources": [
                {"name": "cpu", "capacity": "2", "allocatable": "2", "available": "1"},
            ]},
        ])
    );
    scene.engine.view.send_replace(view(&[2, 3]));
    pass(Duration::from_secs(30)).await;
    let zones = server.object(OBJECT).unwrap()["zones"].clone();
    assert_eq!(zones[1]["resources"][0]["available"], "0");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_who_did_not_ask_and_a_missing_kind_is_no_trouble() {
    let server = Scene::server();
    let scene = Scene::new(&server);
    scene.engine.hold(1, static_cpus("0"));
    scene.engine.view.send_replace(view(&[]));
    pass(Duration::from_secs(600)).await;
    assert_eq!(server.count("apply", "noderesourcetopologies"), 0);
    server.without_kind("topology.node.k8s.io", "noderesourcetopologies");
    scene.engine.hold(2, asking());
    pass(Duration::from_secs(3600)).await;
    let tries = server.count("apply", "noderesourcetopologies");
    assert!((10..=62).contains(&tries), "{tries} tries in an hour");
}
