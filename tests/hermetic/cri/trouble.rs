//! Runtimes that are away, come back, hang, or are not there at all.

use trimtab::adapters::cri::{CriRuntime, Patience, SocketSearch};
use trimtab::config::CriSocket;
use trimtab::ports::runtime::{ContainerRuntime, ResourceChange, RuntimeError};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::ContainerId;

use super::{Host, Kubelet, SOCKET, below, impatient, runtime};
use crate::support::fake_cri::FakeCri;

fn is_away<T>(answer: &Result<T, RuntimeError>) -> bool {
    matches!(answer, Err(RuntimeError::Away { .. }))
}

#[tokio::test]
async fn a_runtime_that_restarts_is_found_again() {
    let mut host = Host::new();
    host.runtime.list().await.unwrap();
    host.double.stop();
    for _ in 0..2 {
        let away = host.runtime.list().await;
        assert!(is_away(&away), "{away:?}");
        assert!(away.unwrap_err().to_string().contains(SOCKET));
    }
    host.double.serve();
    assert_eq!(host.runtime.list().await.unwrap().containers.len(), 2);
    host.double.stop();
    host.double.serve();
    // The connection is dead and nothing has told so yet: one call may be lost, no more.
    let first = host.runtime.list().await;
    assert!(first.is_ok() || is_away(&first), "{first:?}");
    assert_eq!(host.runtime.list().await.unwrap().containers.len(), 2);
}

#[tokio::test]
async fn a_runtime_that_hangs_is_not_asked_again_at_once() {
    let host = Host::new();
    let runtime = runtime(host.root.path(), &format!("unix://{SOCKET}"), impatient());
    host.double.table().slow.insert("ListContainers", std::time::Duration::MAX);
    let away = runtime.list().await;
    assert!(away.as_ref().is_err_and(|error| error.to_string().contains("no answer within")), "{away:?}");
    let calls = host.double.table().calls.len();
    let change = ResourceChange { cpus: Some(CpuSet::parse("1").unwrap()), ..ResourceChange::default() };
    assert!(is_away(&runtime.list().await));
    assert!(is_away(&runtime.about().await));
    assert!(is_away(&runtime.update(&ContainerId("c1".into()), &change).await));
    assert_eq!(host.double.table().calls.len(), calls, "it was left alone");
}

#[tokio::test]
async fn a_change_that_was_not_answered_is_read_back() {
    let host = Host::new();
    let change = impatient().change;
    let patience = Patience { change, quiet: std::time::Duration::ZERO, ..Patience::default() };
    let runtime = runtime(host.root.path(), &format!("unix://{SOCKET}"), patience);
    runtime.list().await.unwrap();
    host.double.table().slow.insert("UpdateContainerResources", std::time::Duration::MAX);
    let change = ResourceChange { cpus: Some(CpuSet::parse("1").unwrap()), ..ResourceChange::default() };
    assert!(is_away(&runtime.update(&ContainerId("c1".into()), &change).await));
    host.double.table().containers.get_mut("c1").unwrap().resources.cpuset_cpus = "1".into();
    let listing = runtime.list().await.unwrap();
    assert_eq!(listing.containers[0].resources.as_ref().unwrap().cpus, "1");
}

#[tokio::test]
async fn a_runtime_that_says_unavailable_is_away() {
    let host = Host::new();
    host.double.table().failing.insert("ListContainers", tonic::Status::unavailable("server is not initialized yet"));
    let away = host.runtime.list().await;
    assert!(is_away(&away), "{away:?}");
    host.double.table().failing.clear();
    assert!(host.runtime.list().await.is_ok());
}

#[tokio::test]
async fn an_error_of_the_runtime_is_told_in_its_words() {
    let host = Host::new();
    host.double.table().failing.insert("ListPodSandbox", tonic::Status::internal("the store is broken"));
    let refused = host.runtime.list().await.unwrap_err();
    assert!(matches!(&refused, RuntimeError::Refused { method: "ListPodSandbox", .. }), "{refused}");
    assert!(refused.to_string().contains("the store is broken"), "{refused}");
}

#[tokio::test]
async fn without_a_word_of_the_kubelet_the_first_runtime_of_kubernetes_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let runtime = runtime(root.path(), "", Patience::default());
    let nobody = runtime.list().await.unwrap_err().to_string();
    assert!(nobody.contains("--cri-socket"), "{nobody}");

    // Docker's containerd has the socket and serves no CRI.
    let docker = FakeCri::start(&below(root.path(), SOCKET));
    let unknown = tonic::Status::unimplemented("unknown service runtime.v1.RuntimeService");
    docker.table().failing.insert("Version", unknown);
    let crio = FakeCri::start(&below(root.path(), "/run/crio/crio.sock"));
    crio.table().name = "cri-o".into();
    let about = runtime.about().await.unwrap();
    assert_eq!((about.name.as_str(), about.socket.as_str()), ("cri-o", "/run/crio/crio.sock"));
}

#[tokio::test]
async fn no_other_runtime_will_do_than_the_kubelets() {
    let root = tempfile::tempdir().unwrap();
    let _containerd = FakeCri::start(&below(root.path(), SOCKET));
    let runtime = runtime(root.path(), "unix:///var/run/crio/crio.sock", Patience::default());
    let away = runtime.list().await;
    assert!(is_away(&away), "its pods are not those of the kubelet: {away:?}");
    assert!(away.unwrap_err().to_string().contains("/run/crio/crio.sock"));
}

#[tokio::test]
async fn a_runtime_that_is_switched_off_is_never_looked_for() {
    let host = Host::new();
    let kubelet = std::sync::Arc::new(Kubelet(format!("unix://{SOCKET}")));
    let search = SocketSearch { socket: CriSocket::Off, host_root: host.root.path().into(), kubelet };
    let runtime = CriRuntime::new(search, Patience::default());
    assert!(is_away(&runtime.list().await));
    assert_eq!(host.double.table().calls.len(), 0);
}
