//! The kubelet's query service: bytes on the wire, which pods and containers are shown, errors word for word.

mod beside_kubelet;
mod go_client;

use std::sync::Arc;

use prost::Message;
use tonic::Code;
use tonic::transport::Channel;
use trimtab::reconcile::node_view::NodeView;
use trimtab::serve::RateLimit;
use trimtab_domain::workload::QosClass;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use trimtab_proto::podresources::{v1, v1alpha1};

use crate::support::server::{Setup, TestServer, container, memory, pod, within};

async fn lister(server: &TestServer) -> PodResourcesListerClient<Channel> {
    PodResourcesListerClient::new(server.channel().await)
}

async fn list(client: &mut PodResourcesListerClient<Channel>) -> Vec<v1::PodResources> {
    client.list(v1::ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources
}

async fn get(
    client: &mut PodResourcesListerClient<Channel>,
    name: &str,
    namespace: &str,
) -> Result<v1::PodResources, tonic::Status> {
    let request = v1::GetPodResourcesRequest { pod_name: name.into(), pod_namespace: namespace.into() };
    client.get(request).await.map(|answer| answer.into_inner().pod_resources.unwrap())
}

fn topology(nodes: &[i64]) -> Option<v1::TopologyInfo> {
    Some(v1::TopologyInfo { nodes: nodes.iter().map(|id| v1::NumaNode { id: *id }).collect() })
}

fn hex(message: &impl Message) -> String {
    message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn messages_have_the_bytes_of_the_kubelet() {
    let block =
        |size, nodes: &[i64]| v1::ContainerMemory { memory_type: "memory".into(), size, topology: topology(nodes) };
    let rows: Vec<(&str, String, &str)> = vec![
        ("NUMA node 0 is an empty message", hex(&topology(&[0]).unwrap()), "0a 00"),
        ("NUMA node 1", hex(&topology(&[1]).unwrap()), "0a 02 08 01"),
        (
            "cpu_ids are packed",
            hex(&v1::ContainerResources { name: "c".into(), cpu_ids: vec![2, 3], ..Default::default() }),
            "0a 01 63 1a 02 02 03",
        ),
        (
            "name first, namespace second",
            hex(&v1::GetPodResourcesRequest { pod_name: "p".into(), pod_namespace: "n".into() }),
            "0a 01 70 12 01 6e",
        ),
        ("a GiB on node 0", hex(&block(1 << 30, &[0])), "0a 06 6d 65 6d 6f 72 79 10 80 80 80 80 04 1a 02 0a 00"),
        (
            "allocatable has cpu_ids at 2 and memory at 3",
            hex(&v1::AllocatableResourcesResponse {
                devices: vec![],
                cpu_ids: vec![1, 300],
                memory: vec![block(1, &[1])],
            }),
            "12 03 01 ac 02 1a 10 0a 06 6d 65 6d 6f 72 79 10 01 1a 04 0a 02 08 01",
        ),
        (
            "a claim begins at field 2, share_id is optional",
            hex(&v1::DynamicResource {
                claim_name: "c".into(),
                claim_namespace: "n".into(),
                claim_resources: vec![v1::ClaimResource {
                    cdi_devices: vec![v1::CdiDevice { name: "v/c=d".into() }],
                    driver_name: "r".into(),
                    pool_name: "p".into(),
                    device_name: "d".into(),
                    share_id: Some(String::new()),
                }],
            }),
            "12 01 63 1a 01 6e 22 14 0a 07 0a 05 76 2f 63 3d 64 12 01 72 1a 01 70 22 01 64 2a 00",
        ),
        (
            "a pod is name, namespace, containers",
            hex(&v1::ListPodResourcesResponse {
                pod_resources: vec![v1::PodResources {
                    name: "p".into(),
                    namespace: "n".into(),
                    containers: vec![v1::ContainerResources { name: "c".into(), ..Default::default() }],
                }],
            }),
            "0a 0b 0a 01 70 12 01 6e 1a 03 0a 01 63",
        ),
        (
            "v1alpha1 has devices at field 2 of a container",
            hex(&v1alpha1::ListPodResourcesResponse {
                pod_resources: vec![v1alpha1::PodResources {
                    name: "p".into(),
                    namespace: "n".into(),
                    containers: vec![v1alpha1::ContainerResources {
                        name: "c".into(),
                        devices: vec![v1alpha1::ContainerDevices {
                            resource_name: "r".into(),
                            device_ids: vec!["d".into()],
                        }],
                    }],
                }],
            }),
            "0a 13 0a 01 70 12 01 6e 1a 0b 0a 01 63 12 06 0a 01 72 12 01 64",
        ),
    ];
    for (name, found, expected) in rows {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn unpacked_cpu_ids_and_unknown_fields_are_read() {
    let unpacked = v1::ContainerResources::decode(&[0x18, 2, 0x18, 3][..]).unwrap();
    assert_eq!(unpacked.cpu_ids, [2, 3]);
    let with_class_name = v1::DynamicResource::decode(&[0x0a, 1, b'x', 0x12, 1, b'c'][..]).unwrap();
    assert_eq!(with_class_name.claim_name, "c", "field 1 was class_name up to 1.30 and is skipped");
}

#[tokio::test]
async fn list_shows_every_pod_and_container_sorted() {
    let server = TestServer::start().await;
    let pods = list(&mut lister(&server).await).await;

    let names: Vec<_> = pods.iter().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect();
    assert_eq!(names, [("data", "db"), ("web", "shop")]);
    let db: Vec<_> = pods[0].containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(db, ["exporter", "server"], "one that holds nothing exclusive is there too");
    assert_eq!(pods[0].containers[1].cpu_ids, [2, 3], "ascending");
    assert_eq!(
        pods[0].containers[0].memory,
        [v1::ContainerMemory { memory_type: "memory".into(), size: 1 << 20, topology: topology(&[0, 1]) }],
        "the size is that of the whole block"
    );
    assert!(pods[1].containers[0].cpu_ids.is_empty(), "the shared pool is not listed");
    server.shut_down().await;
}

#[tokio::test]
async fn list_follows_the_placements() {
    let server = TestServer::start().await;
    let mut client = lister(&server).await;
    assert_eq!(list(&mut client).await.len(), 2);
    assert_eq!(list(&mut client).await, list(&mut client).await);

    server.view.send_replace(Arc::new(NodeView::default()));
    assert_eq!(list(&mut client).await, []);
    let mut view = NodeView::default();
    view.pods.push(pod("n", "p", QosClass::Guaranteed, vec![container("c", &[5], vec![])]));
    server.view.send_replace(Arc::new(view));
    assert_eq!(list(&mut client).await[0].containers[0].cpu_ids, [5]);
    server.shut_down().await;
}

#[tokio::test]
async fn allocatable_is_what_the_empty_node_could_give() {
    let server = TestServer::start().await;
    let mut client = lister(&server).await;
    let answer = client.get_allocatable_resources(v1::AllocatableResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.cpu_ids, [1, 2, 3], "not reduced by what is given out");
    let memory: Vec<_> = answer.memory.iter().map(|block| (block.size, block.topology.clone())).collect();
    assert_eq!(memory, [(7 << 30, topology(&[0])), (8 << 30, topology(&[1]))]);

    server.view.send_replace(Arc::new(NodeView::default()));
    let answer = client.get_allocatable_resources(v1::AllocatableResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(answer, v1::AllocatableResourcesResponse::default(), "empty when no policy pins");
    server.shut_down().await;
}

#[tokio::test]
async fn get_answers_as_list_does() {
    let server = TestServer::start().await;
    let mut client = lister(&server).await;
    let listed = list(&mut client).await;
    assert_eq!(get(&mut client, "db", "data").await.unwrap(), listed[0]);
    server.shut_down().await;
}

#[tokio::test]
async fn get_of_an_unknown_pod_has_the_kubelets_text_and_code() {
    let server = TestServer::start().await;
    let mut client = lister(&server).await;
    let rows = [
        ("absent", "data", "pod absent in namespace data not found"),
        ("db", "web", "pod db in namespace web not found"),
        ("", "", "pod  in namespace  not found"),
        ("db", "", "pod db in namespace  not found"),
    ];
    for (name, namespace, text) in rows {
        let status = get(&mut client, name, namespace).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    }
    server.shut_down().await;
}

#[tokio::test]
async fn pod_without_a_known_name_is_listed_under_its_uid() {
    let mut setup = Setup::new();
    setup.view = NodeView::default();
    setup.view.pods.push(pod("", "0b6f-uid", QosClass::Guaranteed, vec![container("c", &[2], vec![])]));
    let server = setup.start().await;
    let mut client = lister(&server).await;
    let pods = list(&mut client).await;
    assert_eq!((pods[0].name.as_str(), pods[0].namespace.as_str()), ("0b6f-uid", ""));
    assert_eq!(pods[0].containers[0].cpu_ids, [2], "or its CPUs would look free");
    assert_eq!(get(&mut client, "0b6f-uid", "").await.unwrap(), pods[0]);
    server.shut_down().await;
}

#[tokio::test]
async fn of_two_pods_with_one_name_the_running_one_answers() {
    let mut setup = Setup::new();
    let mut old = pod("n", "p", QosClass::Guaranteed, vec![]);
    old.uid.0 = "older".into();
    let new = pod("n", "p", QosClass::Guaranteed, vec![container("c", &[2], vec![memory(1, &[0])])]);
    setup.view.pods = vec![new, old];
    let server = setup.start().await;
    let found = get(&mut lister(&server).await, "p", "n").await.unwrap();
    assert_eq!(found.containers.len(), 1);
    server.shut_down().await;
}

#[tokio::test]
async fn v1alpha1_lists_names_without_assignments() {
    use v1alpha1::pod_resources_lister_client::PodResourcesListerClient;
    let server = TestServer::start().await;
    let mut client = PodResourcesListerClient::new(server.channel().await);
    let pods = client.list(v1alpha1::ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let names: Vec<_> = pods.iter().map(|pod| (pod.name.as_str(), pod.containers.len())).collect();
    assert_eq!(names, [("db", 2), ("shop", 1)]);
    server.shut_down().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_rejected_word_for_word() {
    let mut setup = Setup::new();
    setup.config.rate_limit = Some(RateLimit { per_second: 1, burst: 10 });
    let server = setup.start().await;
    let mut client = lister(&server).await;
    let mut rejected = Vec::new();
    for _ in 0..12 {
        if let Err(status) = within(client.list(v1::ListPodResourcesRequest {})).await {
            rejected.push((status.code(), status.message().to_owned()));
        }
    }
    assert!(!rejected.is_empty(), "the bucket holds ten");
    for (code, text) in &rejected {
        assert_eq!((*code, text.as_str()), (Code::ResourceExhausted, "rejected by rate limit"));
    }
    let counted = server.metric("trimtab_grpc_rate_limited_total");
    assert_eq!(counted, rejected.len() as f64);
    server.shut_down().await;
}
