//! Orders to an engine that runs: who may give them, what is wrong with them, what they do.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::{Code, Status};
use trimtab::reconcile::history::ChangeKind;
use trimtab::reconcile::report::State;
use trimtab_proto::node::v1alpha1 as wire;

use super::client;
use crate::engine::Bench;
use crate::support::server::{Setup, TestServer, within};
use crate::support::toy::ToyNode;

fn pause(subsystem: &str, duration: Option<Duration>) -> wire::PauseRequest {
    let duration = duration.map(|duration| duration.try_into().unwrap());
    wire::PauseRequest { subsystem: subsystem.into(), duration, reason: "a test".into() }
}

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

/// A server before an engine that holds `a` at 1.
async fn before_an_engine() -> (TestServer, Bench) {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("a", "1")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    let mut setup = Setup::new();
    setup.switchboard = std::sync::Arc::clone(&bench.switchboard);
    (setup.start().await, bench)
}

/// Every call that changes something.
async fn give_all_orders(server: &TestServer) -> Vec<(&'static str, Status)> {
    let mut client = client(server).await;
    let duration = HOUR.map(|hour| hour.try_into().unwrap());
    let subsystem = "toy".to_owned();
    let resync = wire::ResyncRequest { subsystems: vec![] };
    let rollback = wire::RollbackRequest { subsystem: subsystem.clone(), pause: duration, reason: String::new() };
    vec![
        ("Resync", within(client.resync(resync)).await.unwrap_err()),
        ("Rollback", within(client.rollback(rollback)).await.unwrap_err()),
        ("Pause", within(client.pause(pause("toy", HOUR))).await.unwrap_err()),
        ("Resume", within(client.resume(wire::ResumeRequest { subsystem })).await.unwrap_err()),
    ]
}

#[tokio::test]
async fn whoever_may_ask_may_not_give_orders() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("a", "1")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    let mut setup = Setup::new();
    setup.switchboard = std::sync::Arc::clone(&bench.switchboard);
    setup.config.peers.admins.uids = BTreeSet::from([4_000_000]);
    let server = setup.start().await;
    for (call, status) in give_all_orders(&server).await {
        assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
        assert!(status.message().contains("--admin-uid"), "{call} tells the remedy: {status}");
    }
    assert!(server.history.entries().is_empty(), "what was refused has changed nothing");
    let mut client = client(&server).await;
    let plan = within(client.plan(wire::PlanRequest::default())).await.unwrap().into_inner();
    assert_eq!(plan.plans.len(), 1, "asking is allowed");
    server.shut_down().await;
}

#[tokio::test]
async fn an_order_reaches_the_engine_and_stands_in_the_history_with_its_giver() {
    let (server, mut bench) = before_an_engine().await;
    let mut client = client(&server).await;
    let paused = within(client.pause(pause("toy", HOUR))).await.unwrap().into_inner();
    assert!(!paused.durable, "this engine has no book");
    assert_eq!(paused.pause.unwrap().reason, "a test");
    bench.until("paused", |report| report.state == State::Paused).await;
    bench.set("a", "7");
    let plan = within(client.plan(wire::PlanRequest::default())).await.unwrap().into_inner();
    assert_eq!(plan.plans[0].steps[0].step, "a: 7 -> 1");
    assert_eq!(bench.value("a").as_deref(), Some("7"), "a plan changes nothing");
    let resumed = within(client.resume(wire::ResumeRequest { subsystem: "toy".into() })).await.unwrap().into_inner();
    assert!(resumed.was_paused);
    bench.until("held again", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    bench.set("a", "8");
    let done =
        within(client.resync(wire::ResyncRequest { subsystems: vec!["toy".into()] })).await.unwrap().into_inner();
    assert_eq!((done.outcomes.len(), done.outcomes[0].steps[0].step.as_str()), (1, "a: 8 -> 1"));
    let calls: Vec<_> = server.history.entries().iter().map(|entry| entry.change.clone()).collect();
    let said: Vec<_> = calls.iter().map(|call| call.new.as_deref().unwrap_or_default()).collect();
    assert_eq!(said, ["pause", "resume", "resync"]);
    let uid = format!("uid {}", nix::unistd::geteuid());
    for call in calls {
        assert_eq!((call.kind, call.subsystem.as_str()), (ChangeKind::Call, "toy"));
        assert!(call.actor.starts_with(&uid), "{}", call.actor);
    }
    server.shut_down().await;
}

#[tokio::test]
async fn a_rollback_leaves_the_subsystem_alone_until_its_deadline() {
    let (server, mut bench) = before_an_engine().await;
    let mut client = client(&server).await;
    let pause = HOUR.map(|hour| hour.try_into().unwrap());
    let request = wire::RollbackRequest { subsystem: "toy".into(), pause, reason: String::new() };
    let answer = within(client.rollback(request)).await.unwrap().into_inner();
    assert_eq!(answer.outcome.unwrap().error, None);
    assert!(answer.pause.unwrap().until.is_some());
    let report = bench.until("paused", |report| report.state == State::Paused).await;
    assert!(report.objects.is_empty(), "nothing is asked of the node: {:?}", report.objects);
    server.shut_down().await;
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_with_the_reason() {
    let (server, _bench) = before_an_engine().await;
    let mut client = client(&server).await;
    let rows = [
        ("no deadline", pause("toy", None), "duration: it is not given; give a time between 1 second and 24 hours"),
        ("too short", pause("toy", Some(Duration::from_millis(10))), "duration: it is 10ms"),
        ("too long", pause("toy", Some(Duration::from_secs(90_000))), "duration: it is 1day 1h"),
        ("unknown", pause("toys", HOUR), "there is no subsystem \"toys\"; there are toy"),
        (
            "long reason",
            wire::PauseRequest { reason: "x".repeat(300), ..pause("toy", HOUR) },
            "reason: it has 300 bytes",
        ),
    ];
    for (name, request, text) in rows {
        let status = within(client.pause(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status}");
        assert!(status.message().contains(text), "{name}: {status}");
    }
    assert!(server.history.entries().is_empty());
    server.shut_down().await;
}

#[tokio::test]
async fn plans_and_orders_are_limited_in_rate() {
    let (server, _bench) = before_an_engine().await;
    let mut client = client(&server).await;
    let mut refused = None;
    for _ in 0..1_000 {
        if let Err(status) = within(client.plan(wire::PlanRequest::default())).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("a thousand plans in a row are too many");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    within(client.get_report(wire::GetReportRequest::default())).await.unwrap();
    server.shut_down().await;
}

#[tokio::test]
async fn a_profile_that_is_not_valid_has_no_plan() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    let request = |profile: &str| wire::PlanRequest { subsystems: vec![], profile: profile.into() };
    let answer = within(client.plan(request("kind: Pod"))).await.unwrap().into_inner();
    assert!(answer.plans.is_empty() && !answer.profile_errors.is_empty(), "{answer:?}");
    let status = within(client.plan(request(&"#".repeat(62_000)))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    server.shut_down().await;
}

#[tokio::test]
async fn an_engine_that_has_ended_is_said_to_stop() {
    let (server, bench) = before_an_engine().await;
    bench.cancel.cancel();
    within(bench.task).await.unwrap();
    let mut client = client(&server).await;
    let status = within(client.plan(wire::PlanRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    server.shut_down().await;
}
