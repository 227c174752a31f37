//! Watches over a real socket: the state, changes, resuming, slow readers, many readers.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use trimtab::reconcile::history::{Change, ChangeKind};
use trimtab::reconcile::node_view::NodeView;
use trimtab::reconcile::report::{NodeReport, ObjectReport, State, SubsystemReport};
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;

use super::client;
use crate::support::server::{Setup, TestServer, within};

type Messages = Streaming<wire::WatchResponse>;

fn everything() -> wire::WatchRequest {
    wire::WatchRequest::default()
}

async fn next(messages: &mut Messages) -> wire::WatchResponse {
    within(messages.message()).await.unwrap().expect("the watch goes on")
}

/// The next message that is no sign of life.
async fn next_news(messages: &mut Messages) -> wire::WatchResponse {
    loop {
        let message = next(messages).await;
        if !message.bookmark {
            return message;
        }
    }
}

/// Changes one subsystem as a pass does.
fn publish(server: &TestServer, change: impl FnOnce(&mut SubsystemReport)) {
    server.report.send_modify(|report| {
        let mut next = NodeReport::clone(report);
        let mut sysctl = SubsystemReport::clone(&next.subsystems[0]);
        change(&mut sysctl);
        next.subsystems[0] = Arc::new(sysctl);
        *report = Arc::new(next);
    });
}

fn passes(message: &wire::WatchResponse) -> u64 {
    message.subsystems[0].totals.unwrap().passes
}

#[tokio::test]
async fn the_whole_state_comes_first_and_then_what_changes() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    let mut messages = within(client.watch(everything())).await.unwrap().into_inner();
    let first = next(&mut messages).await;
    assert!(first.complete && !first.bookmark);
    assert_eq!(first.node.as_ref().unwrap().node, "node-1");
    assert_eq!((first.subsystems.len(), first.placements.as_ref().unwrap().pods.len()), (4, 2));

    publish(&server, |sysctl| sysctl.state = State::Failing);
    let second = next_news(&mut messages).await;
    assert!(!second.complete && second.version > first.version);
    assert_eq!((second.node, second.placements), (None, None), "they have not changed");
    assert_eq!(second.subsystems.len(), 1);
    assert_eq!(second.subsystems[0].state(), wire::State::Failing);

    server.view.send_modify(|view| *view = Arc::new(NodeView { shared_cpus: vec![9], ..NodeView::clone(view) }));
    let third = next_news(&mut messages).await;
    assert_eq!((third.subsystems.len(), third.placements.unwrap().shared_cpus), (0, vec![9]));

    server.history.note(Change::new("sysctl", ChangeKind::Call, ""));
    let fourth = next_news(&mut messages).await;
    assert_eq!((fourth.subsystems.len(), fourth.newest_change_id), (0, 1), "a watcher hears of the history too");

    server.stop.cancel();
    let status = within(messages.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    server.shut_down().await;
}

#[tokio::test]
async fn who_resumes_gets_what_was_missed_and_no_more() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    let mut messages = within(client.watch(everything())).await.unwrap().into_inner();
    let first = next(&mut messages).await;
    publish(&server, |sysctl| sysctl.totals.passes = 2);
    let second = next_news(&mut messages).await;
    drop(messages);

    let mut resume = async |version: u64| {
        let request = wire::WatchRequest { resume_version: version, ..everything() };
        let mut messages = within(client.watch(request)).await.unwrap().into_inner();
        next(&mut messages).await
    };
    let missed = resume(first.version).await;
    assert!(!missed.complete);
    assert_eq!((missed.version, missed.subsystems.len(), passes(&missed)), (second.version, 1, 2));
    let nothing = resume(second.version).await;
    assert!(nothing.bookmark && nothing.subsystems.is_empty(), "{nothing:?}");
    for unknown in [1, first.version - 1, second.version + 1, u64::MAX] {
        let whole = resume(unknown).await;
        assert!(whole.complete && whole.subsystems.len() == 4, "a version of another run: {unknown}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn only_what_is_wanted_is_told() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    let parts = vec![wire::WatchPart::Subsystems.into()];
    let request = wire::WatchRequest { parts, subsystems: vec!["sysctl".into()], ..everything() };
    let mut messages = within(client.watch(request)).await.unwrap().into_inner();
    let first = next(&mut messages).await;
    assert_eq!((first.node, first.placements, first.subsystems.len()), (None, None, 1));
    let unknown = wire::WatchRequest { subsystems: vec!["sysctls".into()], ..everything() };
    let status = within(client.watch(unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    server.shut_down().await;
}

#[tokio::test]
async fn changes_that_come_together_are_told_together() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    let mut messages = within(client.watch(everything())).await.unwrap().into_inner();
    next(&mut messages).await;
    for passes in 1..=100 {
        publish(&server, |sysctl| sysctl.totals.passes = 1_000 + passes);
    }
    let told = next_news(&mut messages).await;
    assert_eq!(passes(&told), 1_100, "the newest state, not each");
    server.shut_down().await;
}

#[tokio::test]
async fn a_quiet_watch_shows_that_the_agent_is_there() {
    let mut setup = Setup::new();
    setup.config.watch.heartbeat = Duration::from_millis(5);
    let server = setup.start().await;
    let mut client = client(&server).await;
    let mut messages = within(client.watch(everything())).await.unwrap().into_inner();
    let first = next(&mut messages).await;
    for _ in 0..3 {
        let sign = next(&mut messages).await;
        assert!(sign.bookmark && !sign.complete && sign.subsystems.is_empty() && sign.node.is_none());
        assert_eq!(sign.version, first.version);
    }
    server.shut_down().await;
}

/// A connection on which the reader has little room.
async fn narrow(server: &TestServer) -> NodeStateClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", server.socket().display())).unwrap();
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    NodeStateClient::new(channel).max_decoding_message_size(64 * 1024 * 1024)
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_sent_away_and_can_resume() {
    let mut setup = Setup::new();
    setup.config.watch.watchers = 1;
    setup.config.watch.patience = Duration::from_millis(100);
    let mut sysctl = SubsystemReport::clone(&setup.report.subsystems[0]);
    let object = |number| ObjectReport {
        object: format!("{number}.{}", "x".repeat(1_000)),
        desired: None,
        observed: None,
        attributes: Vec::new(),
    };
    sysctl.objects = (0..1_000).map(object).collect();
    setup.report.subsystems[0] = Arc::new(sysctl);
    let server = setup.start().await;
    let mut slow = narrow(&server).await;
    let mut stuck = within(slow.watch(everything())).await.unwrap().into_inner();
    // The one place is taken until the reader that does not read is sent away.
    let mut quick = client(&server).await;
    let parts = vec![wire::WatchPart::Node.into()];
    let request = wire::WatchRequest { parts, ..everything() };
    let mut messages = loop {
        match within(quick.watch(request.clone())).await {
            Ok(messages) => break messages.into_inner(),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("1 watches are open already"), "{status}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    assert!(next(&mut messages).await.complete);
    let status = loop {
        match within(stuck.message()).await {
            Ok(message) => assert!(message.is_some(), "it does not end as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("watch again with resume_version"), "{status}");
    server.shut_down().await;
}

#[tokio::test]
async fn a_hundred_watchers_hear_the_same_and_the_next_one_is_turned_away() {
    let mut setup = Setup::new();
    setup.config.watch.watchers = 100;
    let server = setup.start().await;
    let (mut clients, mut watches) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut client = client(&server).await;
        for _ in 0..25 {
            let mut messages = within(client.watch(everything())).await.unwrap().into_inner();
            assert!(next(&mut messages).await.complete);
            watches.push(messages);
        }
        clients.push(client);
    }
    let status = within(clients[0].watch(everything())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    publish(&server, |sysctl| sysctl.totals.passes = 77);
    let mut versions = std::collections::BTreeSet::new();
    for messages in &mut watches {
        let news = next_news(messages).await;
        assert_eq!(passes(&news), 77);
        versions.insert(news.version);
    }
    assert_eq!(versions.len(), 1, "one change, one version: {versions:?}");
    drop((watches, clients));
    let mut late = client(&server).await;
    let again = async {
        loop {
            if let Ok(messages) = late.watch(everything()).await {
                break messages.into_inner();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(next(&mut within(again).await).await.complete, "places are given back");
    server.shut_down().await;
}
