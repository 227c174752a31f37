//! What a call may cost at most: calls in progress at once, and time to the first byte of an answer.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Request};
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::podresources::v1::ListPodResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use crate::support::server::{Setup, TestServer, eventually, within};

/// Calls in progress at once, and how many of them one connection carries.
const CALLS: usize = 4096;
const CALLS_PER_CONNECTION: usize = 64;

#[tokio::test]
async fn calls_beyond_the_bound_are_turned_away_until_others_end() {
    let mut setup = Setup::new();
    setup.config.watch.watchers = 2 * CALLS;
    let server = setup.start().await;
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    let only_node = wire::WatchRequest { parts: vec![wire::WatchPart::Node.into()], ..Default::default() };
    let mut watches = Vec::with_capacity(CALLS);
    for _ in 0..CALLS / CALLS_PER_CONNECTION {
        let mut client = NodeStateClient::new(server.channel().await);
        for _ in 0..CALLS_PER_CONNECTION {
            watches.push(within(client.watch(only_node.clone())).await.unwrap().into_inner());
        }
    }
    let status = within(lister.list(ListPodResourcesRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.message(), "too many calls are in progress; try again later");
    assert!(!status.details().is_empty(), "it says after which time");
    assert!(server.metric("trimtab_grpc_calls_in_progress") >= 4096.0);

    watches.truncate(CALLS - 100);
    eventually("the ended calls are noticed", || server.metric("trimtab_grpc_calls_in_progress") < 4096.0).await;
    assert_eq!(within(lister.list(ListPodResourcesRequest {})).await.unwrap().into_inner().pod_resources.len(), 2);
    drop(watches);
    server.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_given_up_after_the_servers_deadline_or_the_clients() {
    // No engine takes what is asked of it.
    let server = TestServer::start().await;
    let mut client = NodeStateClient::new(server.channel().await);
    let plan = || wire::PlanRequest { subsystems: vec!["sysctl".into()], ..Default::default() };
    let rows = [
        ("none", None, 30, Code::DeadlineExceeded),
        ("shorter", Some(7), 7, Code::Cancelled),
        ("longer", Some(100), 30, Code::DeadlineExceeded),
    ];
    for (name, own, expected, code) in rows {
        let mut request = Request::new(plan());
        if let Some(seconds) = own {
            // The header alone: a client that counted too would end the call itself.
            request.metadata_mut().insert("grpc-timeout", format!("{seconds}S").parse().unwrap());
        }
        let begun = Instant::now();
        let status = client.plan(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status}");
        let took = begun.elapsed();
        let bound = Duration::from_secs(expected);
        assert!(took >= bound && took < bound + Duration::from_secs(1), "{name}: {took:?}");
    }
    server.shut_down().await;
}
