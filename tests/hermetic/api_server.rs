//! The double of the API server does what the agent relies on, over a real connection and with a real client.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, EvictParams, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt};

use crate::support::api_server::{ApiServer, Fault, Listening};

/// Longest wait for something that is expected at once.
const LIMIT: Duration = Duration::from_secs(20);

const NODE: &str = "/api/v1/nodes/n1";

async fn scene() -> (ApiServer, Listening, Client) {
    let server = ApiServer::new();
    let listening = server.listen().await;
    let mut config = kube::Config::new(format!("http://{}", listening.address).parse().unwrap());
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    (server, listening, client)
}

fn nodes(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node")))
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other:?}"),
    }
}

fn condition(kind: &str, status: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"conditions": [{"type": kind, "status": status}]},
    })
}

#[tokio::test]
async fn applied_conditions_are_merged_and_conflict_and_go_with_their_owner() {
    let (server, _listening, client) = scene().await;
    server.put(
        NODE,
        json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let nodes = nodes(&client);
    let ours = PatchParams::apply("trimtab");
    nodes.patch_status("n1", &ours, &Patch::Apply(condition("TrimtabReady", "True"))).await.unwrap();
    let types = |server: &ApiServer| {
        let node = server.object(NODE).unwrap();
        let conditions = node["status"]["conditions"].as_array().unwrap().clone();
        conditions.iter().map(|c| c["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(types(&server), ["Ready", "TrimtabReady"]);
    let version = server.object(NODE).unwrap()["metadata"]["resourceVersion"].clone();
    nodes.patch_status("n1", &ours, &Patch::Apply(condition("TrimtabReady", "True"))).await.unwrap();
    assert_eq!(server.object(NODE).unwrap()["metadata"]["resourceVersion"], version, "nothing new, no new version");

    let refused = nodes.patch_status("n1", &ours, &Patch::Apply(condition("Ready", "False"))).await.unwrap_err();
    assert_eq!(code(&refused), 409, "another owner's");
    nodes.patch_status("n1", &ours.clone().force(), &Patch::Apply(condition("Ready", "False"))).await.unwrap();
    assert_eq!(server.object(NODE).unwrap()["status"]["conditions"][0]["status"], "False");
    assert_eq!(types(&server), ["Ready"], "what is not applied any more is removed");
    assert_eq!(server.object(NODE).unwrap()["spec"]["podCIDR"], "10.0.0.0/24", "others' fields stay");
}

#[tokio::test]
async fn the_status_and_the_rest_are_written_apart() {
    let (server, _listening, client) = scene().await;
    server.put(NODE, json!({"spec": {}, "status": {"capacity": {"cpu": "4"}}}));
    let nodes = nodes(&client);
    let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"capacity": {"cpu": "8"}}});
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    let node = server.object(NODE).unwrap();
    assert_eq!((&node["metadata"]["labels"]["a"], &node["status"]["capacity"]["cpu"]), (&json!("b"), &json!("4")));
    let operations = json!([{"op": "add", "path": "/status/capacity/example.com~1dongle", "value": "4"}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
    nodes.patch_status("n1", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(server.object(NODE).unwrap()["status"]["capacity"], json!({"cpu": "4", "example.com/dongle": "4"}));
    let strategic = json!({"status": {"conditions": [{"type": "X", "status": "True"}]}});
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(&strategic)).await.unwrap();
    assert_eq!(server.object(NODE).unwrap()["status"]["conditions"][0]["type"], "X");
}

async fn next<S: Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin>(
    stream: &mut S,
) -> Option<kube::Result<WatchEvent<DynamicObject>>> {
    tokio::time::timeout(LIMIT, stream.next()).await.expect("no event in time")
}

#[tokio::test]
async fn a_watch_goes_on_from_its_version_until_that_is_gone() {
    let (server, _listening, client) = scene().await;
    let nodes = nodes(&client);
    server.put(NODE, json!({}));
    server.put("/api/v1/nodes/n2", json!({}));
    let one = ListParams::default().fields("metadata.name=n1");
    let list = nodes.list(&one).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let version = list.metadata.resource_version.unwrap();
    server.edit(NODE, |node| node["metadata"]["labels"] = json!({"a": "b"}));
    server.edit("/api/v1/nodes/n2", |node| node["metadata"]["labels"] = json!({"a": "b"}));
    let params = WatchParams::default().fields("metadata.name=n1");
    let stream = nodes.watch(&params, &version).await.unwrap();
    let mut stream = Box::pin(stream);
    assert!(matches!(next(&mut stream).await, Some(Ok(WatchEvent::Modified(_)))), "what came between is told");
    server.remove("/api/v1/nodes/n2");
    server.remove(NODE);
    assert!(matches!(next(&mut stream).await, Some(Ok(WatchEvent::Deleted(_)))), "only of the object asked for");
    server.compact();
    match next(&mut stream).await {
        Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
    let refused = nodes.watch(&params, &version).await.err().expect("refused");
    assert_eq!(code(&refused), 410);
    let mut again = Box::pin(nodes.watch(&params, "0").await.unwrap());
    server.put(NODE, json!({}));
    assert!(matches!(next(&mut again).await, Some(Ok(WatchEvent::Added(_)))));
    server.cut_watches();
    // The client takes some cuts for an end, and some for an error.
    assert!(matches!(next(&mut again).await, None | Some(Err(_))));
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_gets_bookmarks_and_ends_in_its_time() {
    let server = ApiServer::new();
    let params = WatchParams::default().timeout(150);
    let mut stream = Box::pin(nodes(&server.client()).watch(&params, "0").await.unwrap());
    for _ in 0..2 {
        assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Bookmark(_)))));
    }
    assert!(stream.next().await.is_none());
    assert_eq!(server.watchers(), 0);
}

#[tokio::test]
async fn writes_over_stale_versions_conflict() {
    let (server, _listening, client) = scene().await;
    server.put(NODE, json!({}));
    let nodes = nodes(&client);
    let mut stale = nodes.get("n1").await.unwrap();
    server.edit(NODE, |node| node["metadata"]["labels"] = json!({"a": "b"}));
    stale.metadata.annotations = Some([("x".to_owned(), "y".to_owned())].into());
    assert_eq!(code(&nodes.replace("n1", &PostParams::default(), &stale).await.unwrap_err()), 409);
    let wrong = DeleteParams {
        preconditions: Some(kube::api::Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(code(&nodes.delete("n1", &wrong).await.unwrap_err()), 409);
    let mut new = stale.clone();
    new.metadata.resource_version = None;
    assert_eq!(code(&nodes.create(&PostParams::default(), &new).await.unwrap_err()), 409);
    let pages = nodes.list(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(pages.items.len(), 1);
}

#[tokio::test]
async fn an_eviction_waits_for_its_budget() {
    let (server, _listening, client) = scene().await;
    server.put("/api/v1/namespaces/shop/pods/a", json!({"metadata": {"labels": {"app": "a"}}}));
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/a";
    server
        .put(budget, json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}, "status": {"disruptionsAllowed": 0}}));
    let pods: Api<Pod> = Api::namespaced(client, "shop");
    assert_eq!(code(&pods.evict("a", &EvictParams::default()).await.unwrap_err()), 429);
    server.edit(budget, |budget| budget["status"]["disruptionsAllowed"] = 1.into());
    pods.evict("a", &EvictParams::default()).await.unwrap();
    assert!(server.objects("/api/v1/namespaces/shop/pods").is_empty());
    assert_eq!(server.object(budget).unwrap()["status"]["disruptionsAllowed"], 0);
}

#[tokio::test]
async fn faults_strike_the_calls_that_they_are_for_and_all_is_logged() {
    let (server, _listening, client) = scene().await;
    server.put(NODE, json!({}));
    let nodes = nodes(&client);
    server.fault(Fault::status(500).on("get").of_resource("nodes").times(1));
    assert_eq!(code(&nodes.get("n1").await.unwrap_err()), 500);
    nodes.get("n1").await.unwrap();
    server.fault(Fault::down());
    assert!(!matches!(nodes.get("n1").await.unwrap_err(), kube::Error::Api(_)), "no answer at all");
    server.heal();
    server.fault(Fault::throttle(7));
    assert_eq!(code(&nodes.get("n1").await.unwrap_err()), 429);
    server.heal();
    server.accept_tokens(&["right"]);
    assert_eq!(code(&nodes.get("n1").await.unwrap_err()), 401);
    server.accept_tokens(&[""]);
    server.permit(|call| call.verb == "list");
    assert_eq!(code(&nodes.get("n1").await.unwrap_err()), 403);
    nodes.list(&ListParams::default()).await.unwrap();
    assert_eq!((server.count("get", "nodes"), server.count("list", "nodes")), (6, 1));
}
