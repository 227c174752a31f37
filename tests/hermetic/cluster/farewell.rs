//! What becomes of all that was told of a node when it is given back.

use trimtab::cluster::farewell::{Leftover, leftovers, take_leave};

use super::*;
use crate::support::api_server::Fault;

const STATE: &str = "/apis/trimtab.dev/v1alpha1/nodestates/n1";
const TOPOLOGY: &str = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies/n1";

/// A node of which everything was told by an agent that has ended since.
async fn told() -> (Double, ApiServer) {
    let server = Scene::server();
    let kubelets = json!([{"type": "Ready", "status": "True"}]);
    let others = json!({"key": "example.com/x", "effect": "NoSchedule"});
    server.edit(NODE, |node| {
        node["status"] = json!({"conditions": kubelets, "capacity": {"cpu": "4"}});
        node["spec"] = json!({"taints": [others]});
    });
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    let mut spec = NodeSpec { name: "web".into(), ..NodeSpec::default() };
    spec.kubernetes.extended_resources = [("example.com/dongle".to_owned(), 2)].into();
    scene.engine.hold(1, spec);
    scene.engine.converge();
    pass(Duration::from_secs(60)).await;
    drop(scene);
    pass(Duration::from_secs(1)).await;
    let api = ApiServer::new(server.client());
    let zones = json!({
        "apiVersion": "topology.node.k8s.io/v1alpha2", "kind": "NodeResourceTopology",
        "metadata": {"name": "n1"}, "zones": [{"name": "node-0", "type": "Node"}],
    });
    api.apply(TOPOLOGY, "trimtab", &zones).await.unwrap();
    let ours = json!({"key": "trimtab.dev/not-ready", "effect": "NoSchedule"});
    server.edit(NODE, |node| node["spec"]["taints"].as_array_mut().unwrap().push(ours));
    server.forget_calls();
    (server, api)
}

#[tokio::test(start_paused = true)]
async fn nothing_of_ours_is_left_and_nothing_of_others_is_touched() {
    let (server, api) = told().await;
    let before = server.object(NODE).unwrap();
    assert_eq!(before["status"]["capacity"], json!({"cpu": "4", "example.com/dongle": "2"}));
    assert_eq!(before["status"]["conditions"].as_array().unwrap().len(), 6);
    let shown: Vec<String> = leftovers(&api, "n1").await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "Node: conditions -> none",
            "Node: extended resources -> none",
            "Node: taint trimtab.dev/not-ready -> none",
            "NodeState -> none",
            "NodeResourceTopology -> none",
        ]
    );
    assert!(server.calls().iter().all(|call| call.verb == "get"), "looking changes nothing");
    server.edit(STATE, |state| state["metadata"]["annotations"] = json!({"note": "of a person"}));
    let (removed, error) = take_leave(&api, "n1").await;
    assert_eq!((removed.len(), error), (5, None));
    let after = server.object(NODE).unwrap();
    assert_eq!(after["status"]["conditions"], json!([{"type": "Ready", "status": "True"}]));
    assert_eq!(after["status"]["capacity"], json!({"cpu": "4"}));
    assert_eq!(after["spec"]["taints"], json!([{"key": "example.com/x", "effect": "NoSchedule"}]));
    assert_eq!((server.object(STATE), server.object(TOPOLOGY)), (None, None));
    assert_eq!(take_leave(&api, "n1").await, (Vec::new(), None), "a second time there is nothing");
}

#[tokio::test(start_paused = true)]
async fn a_topology_that_another_exporter_writes_too_stays() {
    let (server, api) = told().await;
    server.edit(TOPOLOGY, |object| object["attributes"] = json!([{"name": "a", "value": "b"}]));
    let (removed, error) = take_leave(&api, "n1").await;
    assert!(!removed.iter().any(|one| one.to_string().starts_with("NodeResourceTopology")) && error.is_none());
    assert!(server.object(TOPOLOGY).is_some() && server.object(STATE).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_leaves_no_other_and_is_tried_again_a_few_times() {
    let (server, api) = told().await;
    server.fault(Fault::status(500).on("delete").of_resource("nodestates").times(2));
    let (removed, error) = take_leave(&api, "n1").await;
    assert_eq!((removed.len(), error), (5, None));

    let (server, api) = told().await;
    server.fault(Fault::status(500).on("delete").of_resource("nodestates"));
    let (removed, error) = take_leave(&api, "n1").await;
    assert!(removed.len() == 4 && error.is_some(), "{removed:?} {error:?}");
    assert_eq!(server.count("delete", "nodestates"), 4);

    let (server, api) = told().await;
    server.permit(|call| call.verb == "get");
    let (removed, error) = take_leave(&api, "n1").await;
    assert!(removed.is_empty() && error.is_some_and(|error| error.to_string().contains("ClusterRole")));
    assert_eq!(server.count("delete", "nodestates"), 1, "what is forbidden is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_node_or_kinds_that_are_gone_are_no_error() {
    let (server, api) = told().await;
    server.remove(NODE);
    server.without_kind("topology.node.k8s.io", "noderesourcetopologies");
    let (removed, error) = take_leave(&api, "n1").await;
    assert!(matches!(removed.as_slice(), [Leftover::Object(_)]) && error.is_none(), "{removed:?}");
}
