//! Beside a kubelet one socket tells everything; when the kubelet goes away, its last good answer is told, with its age.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use trimtab::adapters::pod_resources::PodResourcesApi;
use trimtab_domain::workload::QosClass;
use trimtab_proto::podresources::v1;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use super::{get, lister, topology};
use crate::support::fake_kubelet::{FakeKubelet, Mood};
use crate::support::server::{Setup, TestServer, container, pod, within};

/// Data, and what the metadata says about the kubelet's part of it.
struct Answer {
    pods: Vec<v1::PodResources>,
    age: Option<Duration>,
    away: Option<String>,
}

async fn list(server: &TestServer) -> Answer {
    let mut client = PodResourcesListerClient::new(server.channel().await);
    let response: Response<_> = within(client.list(v1::ListPodResourcesRequest {})).await.unwrap();
    let text = |key| response.metadata().get(key).map(|value| value.to_str().unwrap().to_owned());
    let age = text("trimtab-kubelet-age-ms").map(|age| Duration::from_millis(age.parse().unwrap()));
    let away = text("trimtab-kubelet-away");
    Answer { pods: response.into_inner().pod_resources, age, away }
}

/// Asks until the kubelet has its part in the answer: a call does not wait for it for ever.
async fn list_with_kubelet(server: &TestServer) -> Answer {
    list_until(server, |answer| answer.age.is_some()).await
}

/// Asks until the answer is as wanted.
async fn list_until(server: &TestServer, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = list(server).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(asking).await
}

fn gpu(id: &str) -> v1::ContainerDevices {
    v1::ContainerDevices {
        resource_name: "nvidia.com/gpu".into(),
        device_ids: vec![id.into()],
        topology: topology(&[0]),
    }
}

fn claim() -> v1::DynamicResource {
    v1::DynamicResource {
        claim_name: "claim".into(),
        claim_namespace: "data".into(),
        claim_resources: vec![v1::ClaimResource {
            cdi_devices: vec![v1::CdiDevice { name: "gpu.nvidia.com/gpu=0".into() }],
            driver_name: "gpu.nvidia.com".into(),
            pool_name: "node-1".into(),
            device_name: "gpu-0".into(),
            share_id: None,
        }],
    }
}

/// The kubelet's view of pod data/db: a sidecar, then the app with a device and a claim; its CPUs it leaves to others.
fn db() -> v1::PodResources {
    let server = v1::ContainerResources {
        name: "server".into(),
        devices: vec![gpu("GPU-0")],
        dynamic_resources: vec![claim()],
        ..Default::default()
    };
    let sidecar = v1::ContainerResources { name: "sidecar".into(), ..Default::default() };
    v1::PodResources { name: "db".into(), namespace: "data".into(), containers: vec![sidecar, server] }
}

fn waiting() -> v1::PodResources {
    let container = v1::ContainerResources { name: "app".into(), devices: vec![gpu("GPU-1")], ..Default::default() };
    v1::PodResources { name: "waiting".into(), namespace: "a".into(), containers: vec![container] }
}

/// Asks for a pod until it is found: on a slow machine the kubelet takes longer than a call waits.
async fn found(client: &mut PodResourcesListerClient<Channel>, name: &str) -> v1::PodResources {
    loop {
        if let Ok(pod) = get(client, name, "a").await {
            return pod;
        }
    }
}

/// A server beside a kubelet with these pods, below the server's own directory.
async fn beside(pods: Vec<v1::PodResources>) -> (TestServer, FakeKubelet) {
    let mut setup = Setup::new();
    let root = setup.dir.path().join("kubelet");
    let kubelet = FakeKubelet::start(&root);
    kubelet.table().answers.list.pod_resources = pods;
    kubelet.table().answers.allocatable.devices = vec![gpu("GPU-0"), gpu("GPU-1")];
    setup.kubelet = Some(Arc::new(PodResourcesApi::new(root)));
    (setup.start().await, kubelet)
}

#[tokio::test]
async fn one_socket_tells_the_whole_truth() {
    let (server, _kubelet) = beside(vec![db(), waiting()]).await;
    let answer = list_with_kubelet(&server).await;
    assert_eq!(answer.away, None);

    let names: Vec<_> = answer.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["waiting", "db"], "the kubelet says which pods there are; web/shop is over");
    let containers: Vec<_> = answer.pods[1].containers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(containers, ["sidecar", "server"], "in the kubelet's order, and the container `exporter` is none of it");
    let own = &answer.pods[1].containers[1];
    assert_eq!(own.cpu_ids, [2, 3], "CPUs from who gave them out");
    assert_eq!((own.devices.clone(), own.dynamic_resources.clone()), (vec![gpu("GPU-0")], vec![claim()]));

    let mut client = lister(&server).await;
    assert_eq!(get(&mut client, "db", "data").await.unwrap(), answer.pods[1]);
    let allocatable = client.get_allocatable_resources(v1::AllocatableResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!((allocatable.cpu_ids, allocatable.devices), (vec![1, 2, 3], vec![gpu("GPU-0"), gpu("GPU-1")]));
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn v1alpha1_shows_devices() {
    use trimtab_proto::podresources::v1alpha1;
    use v1alpha1::pod_resources_lister_client::PodResourcesListerClient;
    let (server, kubelet) = beside(vec![waiting()]).await;
    list_with_kubelet(&server).await;
    // A device on two nodes is told once for each.
    let mut twice = waiting();
    let mut other_node = gpu("GPU-1");
    other_node.topology = topology(&[1]);
    twice.containers[0].devices.push(other_node);
    kubelet.table().answers.list.pod_resources = vec![twice];
    list_until(&server, |answer| answer.pods[0].containers[0].devices.len() == 2).await;
    let mut client = PodResourcesListerClient::new(server.channel().await);
    let pods = client.list(v1alpha1::ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let device =
        v1alpha1::ContainerDevices { resource_name: "nvidia.com/gpu".into(), device_ids: vec!["GPU-1".into()] };
    assert_eq!(pods[0].containers[0].devices, [device]);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn pod_that_the_kubelet_has_just_admitted_is_found() {
    let (server, kubelet) = beside(vec![db()]).await;
    let mut client = lister(&server).await;
    for round in 0..5 {
        let mut new = waiting();
        new.name = format!("pod-{round}");
        kubelet.table().answers.list.pod_resources.push(new.clone());
        let found = within(found(&mut client, &new.name)).await;
        assert_eq!(found.containers[0].devices, [gpu("GPU-1")], "a CNI plugin asks before the sandbox exists");
    }
    let status = within(get(&mut client, "absent", "a")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "pod absent in namespace a not found"));
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn last_good_answer_outlives_the_kubelet() {
    let (server, mut kubelet) = beside(vec![db()]).await;
    assert_eq!(list_with_kubelet(&server).await.pods[0].name, "db");
    kubelet.stop();
    let answer = list_until(&server, |answer| answer.away.is_some()).await;
    assert_eq!(answer.away.as_deref(), Some("no-socket"));
    assert_eq!(answer.pods[0].containers[1].devices, [gpu("GPU-0")]);
    let (first, then) = (answer.age.unwrap(), list_until(&server, |next| next.age > answer.age).await.age.unwrap());
    assert!(then > first, "the age grows: {first:?}, {then:?}");

    let mut view = trimtab::reconcile::node_view::NodeView::default();
    view.pods.push(pod("data", "db", QosClass::Guaranteed, vec![container("server", &[1], vec![])]));
    server.view.send_replace(Arc::new(view));
    let answer = list_with_kubelet(&server).await;
    assert_eq!(answer.pods[0].containers[1].cpu_ids, [1], "what the agent knows itself stays new");

    kubelet.table().answers.list.pod_resources.push(waiting());
    kubelet.serve();
    let answer = list_until(&server, |answer| answer.away.is_none()).await;
    assert_eq!(answer.pods.len(), 2, "the kubelet is back");
    assert_eq!(server.metric("trimtab_kubelet_answering"), 1.0);
    server.shut_down().await;
}

#[tokio::test]
async fn badly_behaved_kubelet_harms_nobody() {
    type Spoil = fn(&mut FakeKubelet);
    let rows: [(&str, Spoil, &str); 4] = [
        ("an error", |kubelet| kubelet.table().mood = Mood::Refuses(Status::internal("no")), "failed"),
        ("17 MiB", |kubelet| kubelet.table().mood = Mood::Endless, "failed"),
        ("garbage", FakeKubelet::become_something_else, "failed"),
        ("silence", |kubelet| kubelet.table().mood = Mood::Hangs, "too-late"),
    ];
    for (name, spoil, word) in rows {
        let (server, mut kubelet) = beside(vec![db()]).await;
        let before = list_with_kubelet(&server).await.pods;
        spoil(&mut kubelet);
        let answer = list_until(&server, |answer| answer.away.is_some()).await;
        assert_eq!((answer.away.as_deref(), answer.pods), (Some(word), before), "{name}");
        assert_eq!(server.metric("trimtab_kubelet_answering"), 0.0, "{name}");
        assert!(server.metric(&format!("trimtab_kubelet_questions_total{{result=\"{word}\"}}")) >= 1.0, "{name}");
        server.shut_down().await;
    }
}

#[tokio::test]
async fn without_a_kubelet_the_agent_answers_alone() {
    let mut setup = Setup::new();
    setup.kubelet = Some(Arc::new(PodResourcesApi::new(setup.dir.path().join("nothing"))));
    let server = setup.start().await;
    let answer = list_until(&server, |answer| answer.away.is_some()).await;
    let names: Vec<_> = answer.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!((names, answer.age, answer.away.as_deref()), (vec!["db", "shop"], None, Some("no-socket")));
    server.shut_down().await;
}

#[tokio::test]
async fn kubelet_of_old_has_no_allocatable_resources() {
    let (server, kubelet) = beside(vec![db()]).await;
    kubelet.table().mood = Mood::Old;
    list_with_kubelet(&server).await;
    let mut client = lister(&server).await;
    let without_devices = async {
        loop {
            let answer =
                client.get_allocatable_resources(v1::AllocatableResourcesRequest {}).await.unwrap().into_inner();
            if answer.devices.is_empty() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(within(without_devices).await.cpu_ids, [1, 2, 3]);
    assert_eq!(list_with_kubelet(&server).await.away, None);
    server.shut_down().await;
}

#[tokio::test]
async fn agent_that_stands_in_for_the_kubelet_does_not_ask_itself() {
    let mut setup = Setup::new();
    let link = setup.dir.path().join("kubelet.sock");
    std::os::unix::fs::symlink(&setup.config.socket.path, &link).unwrap();
    let api = PodResourcesApi::at(link);
    api.leave_alone(&setup.config.socket.path);
    setup.kubelet = Some(Arc::new(api));
    let server = setup.start().await;
    let answer = list_until(&server, |answer| answer.away.as_deref() == Some("itself")).await;
    assert_eq!((answer.pods.len(), answer.age), (2, None));
    server.shut_down().await;
}
