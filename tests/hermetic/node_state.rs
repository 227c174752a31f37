//! `NodeState` over a real socket: narrow questions, pages, the history, who may give orders.

mod orders;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::Code;
use tonic::transport::Channel;
use trimtab::cli::{explain, history, topology};
use trimtab::reconcile::history::{Change, ChangeKind};
use trimtab::reconcile::report::{ObjectReport, SubsystemReport};
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;

use crate::support::server::{Setup, TestServer, within};

pub(crate) async fn client(server: &TestServer) -> NodeStateClient<Channel> {
    NodeStateClient::new(server.channel().await).max_decoding_message_size(64 * 1024 * 1024)
}

fn object(name: &str, desired: Option<&str>, observed: &str) -> ObjectReport {
    let (desired, observed) = (desired.map(str::to_owned), Some(observed.to_owned()));
    ObjectReport { object: name.into(), desired, observed, attributes: vec![("class", "safe".into())] }
}

/// A server whose sysctls are these.
async fn with_objects(objects: Vec<ObjectReport>) -> TestServer {
    let mut setup = Setup::new();
    let mut sysctl = SubsystemReport::clone(&setup.report.subsystems[0]);
    sysctl.objects = objects.into();
    setup.report.subsystems[0] = std::sync::Arc::new(sysctl);
    setup.start().await
}

#[tokio::test]
async fn a_report_is_as_narrow_as_it_was_asked_for() {
    let server = with_objects(vec![object("a", Some("1"), "1")]).await;
    let mut client = client(&server).await;
    let mut ask = async |subsystems: &[&str], view| {
        let subsystems = subsystems.iter().map(|name| (*name).to_owned()).collect();
        let mut request = wire::GetReportRequest { subsystems, ..wire::GetReportRequest::default() };
        request.set_view(view);
        within(client.get_report(request)).await.map(|answer| answer.into_inner().report.unwrap())
    };
    let all = ask(&[], wire::ReportView::Unspecified).await.unwrap();
    assert_eq!((all.subsystems.len(), all.subsystems[0].objects.len()), (4, 1));
    assert!(all.subsystems[0].age.is_some(), "how old it is, is told");
    let basic = ask(&["pinning", "sysctl"], wire::ReportView::Basic).await.unwrap();
    let names: Vec<_> = basic.subsystems.iter().map(|subsystem| subsystem.name.as_str()).collect();
    assert_eq!(names, ["sysctl", "pinning"], "in the order of the report");
    assert!(basic.subsystems[0].objects.is_empty());
    let status = ask(&["sysctls"], wire::ReportView::Full).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().ends_with("there are sysctl, cgroup, pinning, masquerade"), "{status}");
    server.shut_down().await;
}

#[tokio::test]
async fn objects_come_in_pages() {
    let mut objects: Vec<_> = (0..7).map(|number| object(&format!("net.{number}"), Some("1"), "1")).collect();
    objects.push(object("net.drifted", Some("1"), "2"));
    objects.push(object("vm.only.observed", None, "2"));
    let server = with_objects(objects).await;
    let mut client = client(&server).await;
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let (subsystem, contains) = ("sysctl".into(), "net.".into());
        let request =
            wire::ListObjectsRequest { subsystem, contains, only_drifted: false, page_size: 3, page_token: token };
        let page = within(client.list_objects(request)).await.unwrap().into_inner();
        assert_eq!((page.total, page.observed.is_some()), (8, true));
        assert!(page.objects.len() <= 3);
        names.extend(page.objects.into_iter().map(|object| object.object));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 8, "{names:?}");
    let request = wire::ListObjectsRequest { subsystem: "sysctl".into(), only_drifted: true, ..Default::default() };
    let drifted = within(client.list_objects(request)).await.unwrap().into_inner();
    assert_eq!(drifted.objects.iter().map(|object| object.object.as_str()).collect::<Vec<_>>(), ["net.drifted"]);
    for (subsystem, page_token) in [("", ""), ("other", ""), ("sysctl", "x"), ("sysctl", "-1")] {
        let (subsystem, page_token) = (subsystem.to_owned(), page_token.to_owned());
        let request = wire::ListObjectsRequest { subsystem, page_token, ..Default::default() };
        let status = within(client.list_objects(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn a_subsystem_tells_what_it_counts() {
    let mut setup = Setup::new();
    let mut sysctl = SubsystemReport::clone(&setup.report.subsystems[0]);
    (sysctl.totals.drift_found, sysctl.totals.drift_healed) = (4, 3);
    setup.report.subsystems[0] = Arc::new(sysctl);
    let server = setup.start().await;
    let mut client = client(&server).await;
    let mut counters = Vec::new();
    for subsystem in ["sysctl", "masquerade"] {
        let request = wire::ListObjectsRequest { subsystem: subsystem.into(), ..Default::default() };
        let told = within(client.list_objects(request)).await.unwrap().into_inner().counters;
        counters.push(told.into_iter().map(|counter| (counter.name, counter.value)).collect::<BTreeMap<_, _>>());
    }
    let [sysctl, masquerade] = counters.as_slice() else { panic!() };
    assert_eq!((sysctl["passes"], sysctl["drift-found"], sysctl["drift-healed"]), (1, 4, 3));
    assert_eq!(sysctl.len(), 5, "{sysctl:?}");
    for name in ["ipv4-connections-masquerade", "ipv6-connections-non-masquerade", "ipv4-packets-blocked"] {
        assert!(masquerade.contains_key(name), "{name} is not in {masquerade:?}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn placements_are_those_of_one_pod_if_asked_for() {
    let server = TestServer::start().await;
    let mut client = client(&server).await;
    for (namespace, pod, expected) in
        [("", "", 2), ("data", "", 1), ("", "shop", 1), ("data", "shop", 0), ("", "uid-of-db", 1), ("data", "db", 1)]
    {
        let request = wire::ListPlacementsRequest { namespace: namespace.into(), pod: pod.into() };
        let answer = within(client.list_placements(request)).await.unwrap().into_inner();
        assert_eq!(answer.pods.len(), expected, "{namespace:?} {pod:?}");
    }
    server.shut_down().await;
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)
}

/// Four changes.
async fn with_history() -> TestServer {
    let server = TestServer::start().await;
    let change = |subsystem: &str, kind, object: &str| Change::new(subsystem, kind, object);
    let started = Change { new: Some("1.2.3".into()), ..change("", ChangeKind::Started, "") };
    let applied = Change {
        old: Some("128".into()),
        new: Some("1024".into()),
        reason: "profile generation 1, pass for start".into(),
        ..change("sysctl", ChangeKind::Applied, "net.core.somaxconn")
    };
    let failed = Change { error: Some("cannot write".into()), ..change("sysctl", ChangeKind::Failed, "vm.x") };
    let placed = Change { new: Some("CPUs 2-3".into()), ..change("pinning", ChangeKind::Placed, "data/db/server") };
    for (second, change) in (0..).zip([started, applied, failed, placed]) {
        server.history.note_at(change, at(second));
    }
    server
}

#[tokio::test]
async fn history_is_asked_by_subsystem_object_kind_time_and_page() {
    let server = with_history().await;
    let mut client = client(&server).await;
    let all = wire::ListHistoryRequest::default();
    let sysctl = wire::ListHistoryRequest { subsystems: vec!["sysctl".into()], ..all.clone() };
    let rows = [
        ("all", all.clone(), vec![4, 3, 2, 1]),
        ("subsystem", sysctl.clone(), vec![3, 2]),
        ("object", wire::ListHistoryRequest { contains: "somaxconn".into(), ..all.clone() }, vec![2]),
        ("kind", wire::ListHistoryRequest { kinds: vec![wire::ChangeKind::Failed.into()], ..all.clone() }, vec![3]),
        ("since", wire::ListHistoryRequest { since: Some(at(2).into()), ..all.clone() }, vec![4, 3]),
        ("after", wire::ListHistoryRequest { after_id: 3, ..all.clone() }, vec![4]),
        ("nothing", wire::ListHistoryRequest { after_id: 9, ..all.clone() }, vec![]),
    ];
    for (name, request, expected) in rows {
        let answer = within(client.list_history(request)).await.unwrap().into_inner();
        assert_eq!(answer.changes.iter().map(|change| change.id).collect::<Vec<_>>(), expected, "{name}");
        assert_eq!((answer.oldest_id, answer.newest_id), (1, 4));
    }
    let first = within(client.list_history(wire::ListHistoryRequest { page_size: 3, ..all.clone() })).await.unwrap();
    let page_token = first.into_inner().next_page_token;
    let second = wire::ListHistoryRequest { page_size: 3, page_token, ..all.clone() };
    let second = within(client.list_history(second)).await.unwrap().into_inner();
    assert_eq!(second.changes.iter().map(|change| change.id).collect::<Vec<_>>(), [1]);
    assert_eq!(second.next_page_token, "", "the last page");
    let wrong = wire::ListHistoryRequest { page_token: "never given".into(), ..all };
    assert_eq!(within(client.list_history(wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    server.shut_down().await;
}

#[tokio::test]
async fn data_of_history_and_explain_keeps_its_form() {
    let server = with_history().await;
    let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
    let answer = within(client.history(wire::ListHistoryRequest::default())).await.unwrap();
    let pretty = |value: serde_json::Value| serde_json::to_string_pretty(&value).unwrap() + "\n";
    let data = history::History::from(answer.clone());
    crate::picture::golden("history.json", &pretty(serde_json::to_value(&data).unwrap()));
    let table = history::render(&data, trimtab::cli::output::Detail::Wide);
    for part in ["128 -> 1024", "cannot write", "data/db/server", "2023-11-14T22:13:23Z"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    let snapshot = explain::Snapshot {
        report: within(client.report()).await.unwrap(),
        placements: within(client.placements()).await.unwrap(),
        topology: topology::from_wire(within(client.topology()).await.unwrap()),
        changes: answer.changes,
    };
    let stories = explain::explain("db", &snapshot);
    crate::picture::golden("explain.json", &pretty(serde_json::to_value(&stories).unwrap()));
    server.shut_down().await;
}
