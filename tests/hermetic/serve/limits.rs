//! What a call may cost at most: calls in progress at once, and time to the first byte of an answer.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Request};
use trimtab::reconcile::orders::Done;
use trimtab::reconcile::report::StepReport;
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::podresources::v1::ListPodResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use crate::support::raw_http2::{EMPTY_MESSAGE, RawClient, call, call_block, frame};
use crate::support::server::{Setup, TestServer, eventually, within};

#[tokio::test]
async fn calls_beyond_the_bound_are_turned_away_until_others_end() {
    let mut setup = Setup::new();
    assert_eq!(setup.config.calls, 4096, "unless a test asks for less");
    setup.config.calls = 20;
    let server = setup.start().await;
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    let mut watches = Vec::new();
    for _ in 0..2 {
        let mut client = NodeStateClient::new(server.channel().await);
        for _ in 0..10 {
            watches.push(within(client.watch(wire::WatchRequest::default())).await.unwrap().into_inner());
        }
    }
    let status = within(lister.list(ListPodResourcesRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.message(), "too many calls are in progress; try again later");
    assert!(!status.details().is_empty(), "it says after which time");
    let in_progress = || server.metric("trimtab_grpc_calls_in_progress");
    assert!(in_progress() >= 20.0, "{}", in_progress());

    watches.truncate(19);
    eventually("the end of one is noticed", || in_progress() < 20.0).await;
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

/// A frame of HTTP/2 by which a client looks whether the server is still there (RFC 9113, section 6.7).
const PING: u8 = 6;

#[tokio::test]
async fn clients_may_look_for_a_sign_of_life_as_often_as_they_like() {
    let server = TestServer::start().await;
    let mut client = RawClient::begin(&server.socket(), b"").await;
    for number in 0..200_u64 {
        client.send(&frame(PING, 0, 0, &number.to_be_bytes())).await;
    }
    client.send(&call(1, &call_block("/v1.PodResourcesLister/List", "localhost", &[]), EMPTY_MESSAGE)).await;
    let answer = within(client.answer(1)).await;
    assert_eq!((answer.header("grpc-status"), answer.reset), ("0", None), "no \"too_many_pings\": {answer:?}");
    drop(client);
    server.shut_down().await;
}

const PROFILE: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: candidate}
spec: {sysctls: {values: {net.core.somaxconn: 20000}}}
";

#[tokio::test(start_paused = true)]
async fn a_call_in_progress_is_answered_after_the_order_to_stop() {
    let server = TestServer::start().await;
    let socket = server.socket();
    let mut rehearsals = server.switchboard.rehearsals().unwrap();
    let mut client = NodeStateClient::new(server.channel().await);
    let request = wire::PlanRequest { subsystems: vec!["sysctl".into()], profile: PROFILE.into() };
    let calling = tokio::spawn(async move { client.plan(request).await });
    let rehearsal = rehearsals.recv().await.unwrap();
    assert_eq!(rehearsal.subsystems, ["sysctl"]);
    assert_eq!(rehearsal.spec.sysctls.values.len(), 1, "the profile that was sent along: {:?}", rehearsal.spec);

    server.stop.cancel();
    eventually("nobody new finds the socket", || !socket.exists()).await;
    let step = StepReport { step: "net.core.somaxconn: 4096 -> 20000".into(), error: None };
    rehearsal.answer.send(vec![("sysctl", Done { steps: vec![step], ..Done::default() })]).unwrap();
    let told = calling.await.unwrap().unwrap().into_inner();
    assert_eq!(told.plans.len(), 1);
    let steps: Vec<&str> = told.plans[0].steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["net.core.somaxconn: 4096 -> 20000"]);
    server.shut_down().await;
}
