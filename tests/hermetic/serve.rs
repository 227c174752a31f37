//! The servers: the socket's life, who may ask, health, reflection, and what happens under load and at the end.

mod arguments;
mod http;
mod limits;
mod remote;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use trimtab::client::{self, ClientError};
use trimtab::reconcile::report::{Fight, NodeReport, ObjectReport, State, StepReport, SubsystemReport, Trigger};
use trimtab::serve::{AllowedPeers, ServeError, SocketError};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::podresources::v1::ListPodResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use crate::support::server::{Setup, TestServer, eventually, pending_report, ready_report, within};

const SERVICES: [&str; 4] =
    ["", "v1.PodResourcesLister", "v1alpha1.PodResourcesLister", "trimtab.node.v1alpha1.NodeState"];

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

fn status_of(answer: &HealthCheckResponse) -> ServingStatus {
    answer.status()
}

#[tokio::test]
async fn socket_has_its_mode_and_a_directory_of_its_own() {
    let mut setup = Setup::new();
    setup.config.socket.mode = 0o600;
    setup.config.socket.group = Some(nix::unistd::getegid().as_raw());
    let server = setup.start().await;
    let socket = server.socket();
    let found = std::fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(found.gid(), nix::unistd::getegid().as_raw());
    let directory = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o027, 0, "nobody else may enter, the group may not write");
    let names: Vec<_> = std::fs::read_dir(socket.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["trimtab.sock"], "no temporary name is left");
    server.shut_down().await;
}

#[tokio::test]
async fn socket_that_nobody_serves_is_replaced() {
    let setup = Setup::new();
    let path = setup.config.socket.path.clone();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind as after a crash");
    let server = setup.start().await;
    client::connect(&path).await.unwrap().report().await.unwrap();
    server.shut_down().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn path_of_something_else_is_left_alone() {
    type Make = fn(&Path);
    let rows: [(&str, Make, &str); 4] = [
        ("file", |path| std::fs::write(path, "precious").unwrap(), "is a file, not a socket"),
        ("directory", |path| std::fs::create_dir(path).unwrap(), "is a directory, not a socket"),
        ("link", |path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap(), "is a symbolic link, not a socket"),
        ("pipe", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(), "is a pipe, not a socket"),
    ];
    for (name, make, text) in rows {
        let setup = Setup::new();
        let path = setup.config.socket.path.clone();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        let before = std::fs::symlink_metadata(&path).unwrap();
        let (directory, config) = (setup.dir.path().to_owned(), setup.config.clone());
        let keep = setup.dir;
        let error = Setup { dir: tempfile::TempDir::new().unwrap(), config, ..Setup::new() }.try_start().await.err();
        let Some(ServeError::Socket(error @ SocketError::NotASocket { .. })) = error else {
            panic!("{name}: {error:?}")
        };
        assert!(error.to_string().contains(text), "{name}: {error}");
        let after = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((before.ino(), before.len()), (after.ino(), after.len()), "{name}");
        assert!(directory.exists());
        drop(keep);
    }
}

#[tokio::test]
async fn path_that_a_live_process_serves_is_refused() {
    let server = TestServer::start().await;
    let mut second = Setup::new();
    second.config.socket.path = server.socket();
    let error = second.try_start().await.err();
    assert!(matches!(error, Some(ServeError::Socket(SocketError::InUse { .. }))), "{error:?}");
    client::connect(&server.socket()).await.unwrap().report().await.unwrap();
    server.shut_down().await;
}

#[tokio::test]
async fn path_that_cannot_be_a_socket_is_refused_with_the_reason() {
    let mut long = Setup::new();
    long.config.socket.path = long.dir.path().join("x".repeat(120));
    let error = long.try_start().await.err().unwrap();
    assert!(matches!(error, ServeError::Socket(SocketError::TooLong { .. })), "{error:?}");

    let mut under_a_file = Setup::new();
    std::fs::write(under_a_file.dir.path().join("file"), "").unwrap();
    under_a_file.config.socket.path = under_a_file.dir.path().join("file/sub/s.sock");
    let error = under_a_file.try_start().await.err().unwrap();
    assert!(matches!(error, ServeError::Socket(SocketError::Io { op: "create the directory", .. })), "{error:?}");

    let mut root = Setup::new();
    root.config.socket.path = "/".into();
    let error = root.try_start().await.err().unwrap();
    assert!(matches!(error, ServeError::Socket(SocketError::NoName { .. })), "{error:?}");
}

#[tokio::test]
async fn socket_is_removed_at_the_end_only_if_it_is_still_ours() {
    let server = TestServer::start().await;
    let path = server.socket();
    let keep = tempfile::TempDir::new_in(server.dir.path().parent().unwrap()).unwrap();
    let moved = keep.path().join("moved.sock");
    std::fs::rename(&path, &moved).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let ours = std::fs::symlink_metadata(&path).unwrap().ino();
    let TestServer { dir, stop, handle, .. } = server;
    stop.cancel();
    within(handle.stopped()).await;
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().ino(), ours, "another process took the path over");
    drop((other, dir));
}

#[tokio::test]
async fn peer_that_is_not_allowed_is_refused_and_counted() {
    let mut setup = Setup::new();
    setup.config.peers = AllowedPeers { uids: vec![4_000_000], gids: vec![], ..AllowedPeers::default() };
    let server = setup.start().await;
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    let status = within(lister.list(ListPodResourcesRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains(&format!("uid {}", nix::unistd::geteuid())), "{status}");
    assert_eq!(server.metric("trimtab_grpc_peers_refused_total"), 1.0);
    let error = client::connect(&server.socket()).await.unwrap().report().await.unwrap_err();
    assert!(error.to_string().contains("run the command as root"), "{error}");
    server.shut_down().await;
}

#[tokio::test]
async fn peers_that_are_not_allowed_cannot_keep_others_out() {
    let mut setup = Setup::new();
    setup.config.peers = AllowedPeers { uids: vec![4_000_000], gids: vec![], ..AllowedPeers::default() };
    let server = setup.start().await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(tokio::net::UnixStream::connect(server.socket()).await.unwrap());
    }
    eventually("counting", || server.metric("trimtab_grpc_peers_refused_total") == 40.0).await;
    assert_eq!(server.metric("trimtab_grpc_connections"), 16.0);
    drop(open);
    eventually("the end", || server.metric("trimtab_grpc_connections") == 0.0).await;
    server.shut_down().await;
}

#[tokio::test]
async fn peer_is_allowed_by_its_group() {
    let mut setup = Setup::new();
    setup.config.peers =
        AllowedPeers { uids: vec![], gids: vec![nix::unistd::getegid().as_raw()], ..AllowedPeers::default() };
    let server = setup.start().await;
    client::connect(&server.socket()).await.unwrap().report().await.unwrap();
    assert_eq!(server.metric("trimtab_grpc_peers_refused_total"), 0.0);
    server.shut_down().await;
}

#[tokio::test]
async fn health_serves_once_the_node_is_ready() {
    let mut setup = Setup::new();
    setup.report = pending_report();
    let server = setup.start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES {
        let answer = health.check(check(service)).await.unwrap().into_inner();
        assert_eq!(status_of(&answer), ServingStatus::NotServing, "{service:?}");
    }
    let mut watch = health.watch(check("v1.PodResourcesLister")).await.unwrap().into_inner();
    assert_eq!(status_of(&within(watch.next()).await.unwrap().unwrap()), ServingStatus::NotServing);

    server.report.send_replace(Arc::new(ready_report()));
    assert_eq!(status_of(&within(watch.next()).await.unwrap().unwrap()), ServingStatus::Serving);
    for service in SERVICES {
        let answer = health.check(check(service)).await.unwrap().into_inner();
        assert_eq!(status_of(&answer), ServingStatus::Serving, "{service:?}");
    }
    let status = health.check(check("no.such.Service")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut unknown = health.watch(check("no.such.Service")).await.unwrap().into_inner();
    assert_eq!(status_of(&within(unknown.next()).await.unwrap().unwrap()), ServingStatus::ServiceUnknown);

    server.stop.cancel();
    assert_eq!(status_of(&within(watch.next()).await.unwrap().unwrap()), ServingStatus::NotServing, "before the end");
    assert_eq!(within(watch.next()).await.unwrap().unwrap_err().code(), Code::Unavailable);
    drop((watch, unknown, health));
    server.shut_down().await;
}

#[tokio::test]
async fn reflection_lists_every_service_in_both_versions() {
    let server = TestServer::start().await;
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "trimtab.node.v1alpha1.NodeState",
        "v1.PodResourcesLister",
        "v1alpha1.PodResourcesLister",
    ];

    use tonic_reflection::pb::v1;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let question = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let stream = tokio_stream::once(request);
    let answer = within(client.server_reflection_info(stream)).await.unwrap().into_inner().next().await.unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.unwrap().message_response
    else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, expected);

    use tonic_reflection::pb::v1alpha;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let symbol = "v1.PodResourcesLister.List".to_owned();
    let question = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol);
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let stream = tokio_stream::once(request);
    let answer = within(client.server_reflection_info(stream)).await.unwrap().into_inner().next().await.unwrap();
    let Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file)) =
        answer.unwrap().message_response
    else {
        panic!("no file")
    };
    assert_eq!(file.file_descriptor_proto.len(), 1);
    drop(client);
    server.shut_down().await;
}

#[tokio::test]
async fn reflection_can_be_off() {
    use tonic_reflection::pb::v1;
    let mut setup = Setup::new();
    setup.config.reflection = trimtab::serve::Reflection::Off;
    let server = setup.start().await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let stream = tokio_stream::once(v1::ServerReflectionRequest::default());
    let status = within(client.server_reflection_info(stream)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    server.shut_down().await;
}

/// A report in which every field says something.
fn full_report() -> NodeReport {
    let mut report = ready_report();
    let finding = |severity, code| Finding {
        severity,
        code,
        object: "object".into(),
        message: "facts".into(),
        remedy: "remedy".into(),
    };
    let mut sysctl = SubsystemReport::clone(&report.subsystems[0]);
    sysctl.state = State::Fighting;
    sysctl.generation = 3;
    sysctl.trigger = Some(Trigger::Drift);
    sysctl.last_change = sysctl.last_pass;
    sysctl.steps = vec![
        StepReport { step: "a: 1 -> 2".into(), error: None },
        StepReport { step: "b: 1 -> 2".into(), error: Some("cannot write".into()) },
    ];
    sysctl.refusals = Cause::ALL
        .map(|cause| Refusal { object: "o".into(), wish: "w".into(), cause, detail: cause.to_string() })
        .into();
    sysctl.findings = vec![finding(Severity::Warning, "owned"), finding(Severity::Info, "note")];
    sysctl.fights = vec![Fight {
        object: "a".into(),
        rewrites: 5,
        likely_writer: Some("kubelet".into()),
        held_until: std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_060),
    }];
    sysctl.objects = vec![ObjectReport {
        object: "a".into(),
        desired: Some("2".into()),
        observed: None,
        attributes: vec![("class", "safe".into())],
    }]
    .into();
    sysctl.last_error = Some("cannot write b".into());
    sysctl.totals.steps_failed = 1;
    sysctl.totals.drift_found = 4;
    report.subsystems[0] = Arc::new(sysctl);
    report.findings = vec![finding(Severity::Error, "ledger-set-aside")];
    report
}

#[tokio::test]
async fn report_arrives_whole() {
    let mut setup = Setup::new();
    setup.report = full_report();
    let server = setup.start().await;
    let report = client::connect(&server.socket()).await.unwrap().report().await.unwrap();

    assert_eq!((report.node.as_str(), report.version.as_str(), report.ready), ("node-1", "1.2.3", true));
    assert_eq!(report.started.unwrap().seconds, 1_600_000_000);
    let profile = report.profile.unwrap();
    assert_eq!((profile.name.as_str(), profile.generation, profile.valid), ("web", 3, true));
    assert_eq!(profile.source, "/etc/p.yaml");
    let finding = &report.findings[0];
    assert_eq!((finding.code.as_str(), finding.severity()), ("ledger-set-aside", wire::Severity::Error));
    assert_eq!((finding.message.as_str(), finding.remedy.as_str()), ("facts", "remedy"));

    let names: Vec<_> = report.subsystems.iter().map(|subsystem| subsystem.name.as_str()).collect();
    assert_eq!(names, ["sysctl", "cgroup", "pinning", "masquerade"]);
    let sysctl = &report.subsystems[0];
    assert_eq!((sysctl.state(), sysctl.trigger()), (wire::State::Fighting, wire::Trigger::Drift));
    assert_eq!((sysctl.generation, sysctl.last_duration.unwrap().nanos), (3, 4_000_000));
    assert_eq!(sysctl.last_pass.unwrap().seconds, 1_700_000_000);
    assert_eq!(sysctl.last_change, sysctl.last_pass);
    assert_eq!(sysctl.steps[0], wire::Step { step: "a: 1 -> 2".into(), error: None });
    assert_eq!(sysctl.steps[1].error.as_deref(), Some("cannot write"));
    let causes: Vec<_> = sysctl.refusals.iter().map(|refusal| refusal.cause().as_str_name().to_owned()).collect();
    let expected: Vec<_> =
        Cause::ALL.iter().map(|cause| format!("CAUSE_{}", cause.as_str().to_uppercase().replace('-', "_"))).collect();
    assert_eq!(causes, expected, "each cause keeps its name on the wire");
    assert_eq!(sysctl.findings.len(), 2);
    let fight = &sysctl.fights[0];
    assert_eq!((fight.rewrites, fight.likely_writer.as_deref()), (5, Some("kubelet")));
    assert_eq!(fight.held_until.unwrap().seconds, 1_700_000_060);
    let object = &sysctl.objects[0];
    assert_eq!((object.desired.as_deref(), object.observed.as_deref()), (Some("2"), None));
    assert_eq!(object.attributes, [wire::Attribute { name: "class".into(), value: "safe".into() }]);
    assert_eq!(sysctl.last_error.as_deref(), Some("cannot write b"));
    let totals = sysctl.totals.unwrap();
    assert_eq!((totals.passes, totals.steps_failed, totals.drift_found), (1, 1, 4));
    server.shut_down().await;
}

#[tokio::test]
async fn pending_report_has_no_times() {
    let mut setup = Setup::new();
    setup.report = pending_report();
    let server = setup.start().await;
    let report = client::connect(&server.socket()).await.unwrap().report().await.unwrap();
    assert!(!report.ready);
    let sysctl = &report.subsystems[0];
    assert_eq!((sysctl.state(), sysctl.trigger()), (wire::State::Pending, wire::Trigger::Unspecified));
    assert_eq!((sysctl.last_pass, sysctl.last_success, sysctl.last_change), (None, None, None));
    server.shut_down().await;
}

#[tokio::test]
async fn placements_arrive_with_what_the_kubelets_service_cannot_say() {
    let mut setup = Setup::new();
    setup.view.observe_only = Some("the kubelet pins".into());
    let server = setup.start().await;
    let placements = client::connect(&server.socket()).await.unwrap().placements().await.unwrap();
    let db = placements.pods.iter().find(|pod| pod.name == "db").unwrap();
    assert_eq!((db.uid.as_str(), db.namespace.as_str(), db.qos()), ("uid-of-db", "data", wire::QosClass::Guaranteed));
    let container = &db.containers[0];
    assert_eq!((container.id.as_str(), container.effective_cpus.as_str()), ("id-of-server", "0-3"));
    assert_eq!(container.memory[0].numa_nodes, [0]);
    assert_eq!((placements.shared_cpus, placements.reserved_cpus), (vec![1], vec![0]));
    assert_eq!(placements.allocatable_memory.len(), 2);
    assert_eq!(placements.observe_only.as_deref(), Some("the kubelet pins"));
    server.shut_down().await;
}

#[tokio::test]
async fn client_says_how_to_reach_the_agent() {
    let dir = tempfile::TempDir::new().unwrap();
    let absent = dir.path().join("absent.sock");
    let error = client::connect(&absent).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach the agent at {}; there is no such socket: start the agent with `trimtab run`, or name its \
             socket with --socket",
            absent.display()
        )
    );
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let error = client::connect(&stale).await.unwrap_err();
    assert!(error.to_string().contains("nobody serves the socket any more"), "{error}");
}

#[tokio::test]
async fn thousand_calls_over_one_connection_succeed() {
    let server = TestServer::start().await;
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    for _ in 0..1000 {
        assert_eq!(lister.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources.len(), 2);
    }
    let series = "trimtab_grpc_handled_total{service=\"v1.PodResourcesLister\",method=\"List\",code=\"OK\"}";
    eventually("counting", || server.metric(series) == 1000.0).await;
    drop(lister);
    eventually("the end of the connection", || server.metric("trimtab_grpc_connections") == 0.0).await;
    server.shut_down().await;
}

#[tokio::test]
async fn many_connections_at_once_are_served() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(PodResourcesListerClient::new(server.channel().await));
    }
    assert_eq!(server.metric("trimtab_grpc_connections"), 64.0);
    let calls: Vec<_> = clients
        .iter()
        .cloned()
        .map(|mut client| tokio::spawn(async move { client.list(ListPodResourcesRequest {}).await }))
        .collect();
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap().into_inner().pod_resources.len(), 2);
    }
    drop(clients);
    server.shut_down().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_counted() {
    let server = TestServer::start().await;
    let mut open = Vec::new();
    for _ in 0..260 {
        open.push(tokio::net::UnixStream::connect(server.socket()).await.unwrap());
    }
    let closed = "trimtab_grpc_connections_closed_total{reason=\"capacity\"}";
    eventually("closing", || server.metric(closed) == 4.0).await;
    assert_eq!(server.metric("trimtab_grpc_connections"), 256.0);
    drop(open);
    eventually("room again", || server.metric("trimtab_grpc_connections") == 0.0).await;
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    within(lister.list(ListPodResourcesRequest {})).await.unwrap();
    drop(lister);
    server.shut_down().await;
}

#[tokio::test]
async fn shutdown_frees_the_path_and_ends_connections() {
    let server = TestServer::start().await;
    let path = server.socket();
    let mut lister = PodResourcesListerClient::new(server.channel().await);
    within(lister.list(ListPodResourcesRequest {})).await.unwrap();
    let TestServer { dir, stop, handle, .. } = server;
    stop.cancel();
    within(handle.stopped()).await;
    assert!(!path.exists());
    assert!(within(lister.list(Request::new(ListPodResourcesRequest {}))).await.is_err());
    drop(dir);
}

#[tokio::test]
async fn restart_takes_the_path_over_at_once() {
    let first = TestServer::start().await;
    let path = first.socket();
    let TestServer { dir, stop, handle, .. } = first;
    stop.cancel();
    within(handle.stopped()).await;
    let mut second = Setup::new();
    second.config.socket.path = path.clone();
    let second = second.start().await;
    client::connect(&path).await.unwrap().report().await.unwrap();
    second.shut_down().await;
    drop(dir);
}
