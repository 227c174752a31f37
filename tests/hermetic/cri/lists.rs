//! What runs: lists, and the details that are asked once.

use std::sync::Arc;

use trimtab::adapters::cri::Patience;
use trimtab::ports::admission::Terminations;
use trimtab::ports::kubelet::{RuntimeSettings, RuntimeSource};
use trimtab::ports::runtime::ContainerRuntime;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::roster::join::{Sources, join};
use trimtab_domain::roster::names::Names;
use trimtab_domain::roster::told::Told;
use trimtab_domain::roster::{ContainerState, Roster};
use trimtab_domain::workload::{ContainerId, MilliCpu, QosClass};
use trimtab_proto::runtime::v1 as cri;

use super::{Host, below, runtime};
use crate::support::fake_cri::FakeCri;

#[tokio::test]
async fn what_lives_is_listed_with_everything_that_the_runtime_knows() {
    let host = Host::new();
    host.double.add_sandbox("s2", "uid2");
    host.double.table().sandboxes.get_mut("s2").unwrap().state = cri::PodSandboxState::SandboxNotready.into();
    host.double.add_container("gone", "s1", "old", 1);
    host.double.table().containers.get_mut("gone").unwrap().state = cri::ContainerState::ContainerExited;
    host.double.add_container("never", "s2", "app", 1);
    host.double.table().containers.get_mut("never").unwrap().state = cri::ContainerState::ContainerCreated;
    host.double.add_container("over", "s2", "app", 1);
    host.double.table().containers.get_mut("over").unwrap().state = cri::ContainerState::ContainerExited;
    let listing = host.runtime.list().await.unwrap();

    let [sandbox] = listing.sandboxes.as_slice() else { panic!("{:?}", listing.sandboxes) };
    assert_eq!((sandbox.id.0.as_str(), sandbox.uid.0.as_str(), sandbox.name.as_str()), ("s1", "uid1", "pod-uid1"));
    assert_eq!((sandbox.namespace.as_str(), sandbox.cgroup_parent.as_str()), ("default", "/kubepods/poduid1"));
    assert_eq!(sandbox.labels.get("app"), Some("demo"));
    assert!(sandbox.ready && sandbox.pod_resources.is_some());
    let ids: Vec<&str> = listing.containers.iter().map(|container| container.id.0.as_str()).collect();
    assert_eq!(ids, ["c1", "c2"]);
    let main = &listing.containers[0];
    assert_eq!((main.name.as_str(), main.state, main.pid), ("main", ContainerState::Running, Some(1000)));
    assert_eq!(main.cgroups_path, "/kubepods/poduid1/c1");
    let told = main.resources.as_ref().unwrap();
    assert_eq!((told.cpu_shares, told.cpu_quota_us, told.oom_score_adj), (Some(2048), Some(200_000), Some(-997)));
    assert_eq!(host.double.table().authorities.iter().collect::<Vec<_>>(), ["localhost"]);
}

#[tokio::test]
async fn what_runs_in_a_sandbox_that_is_not_ready_is_listed_with_it() {
    for state in [cri::ContainerState::ContainerRunning, cri::ContainerState::ContainerUnknown] {
        let host = Host::new();
        host.double.table().sandboxes.get_mut("s1").unwrap().state = cri::PodSandboxState::SandboxNotready.into();
        for container in host.double.table().containers.values_mut() {
            container.state = state;
        }
        let listing = host.runtime.list().await.unwrap();
        let [sandbox] = listing.sandboxes.as_slice() else { panic!("{:?}", listing.sandboxes) };
        assert_eq!((sandbox.id.0.as_str(), sandbox.ready), ("s1", false), "{state:?}");
        assert_eq!(listing.containers.len(), 2, "{state:?}");
    }
}

#[tokio::test]
async fn details_are_asked_once_and_again_when_they_may_have_changed() {
    let host = Host::new();
    for _ in 0..3 {
        host.runtime.list().await.unwrap();
    }
    assert_eq!((host.double.count("ContainerStatus"), host.double.count("PodSandboxStatus")), (2, 1));

    host.double.table().containers.get_mut("c1").unwrap().resources.cpu_shares = 3072;
    host.runtime.forget(&[ContainerId("c1".into())]);
    let listing = host.runtime.list().await.unwrap();
    assert_eq!(listing.containers[0].resources.as_ref().unwrap().cpu_shares, Some(3072));
    assert_eq!(host.double.count("ContainerStatus"), 3);

    let gone = host.double.table().containers.remove("c2").unwrap();
    host.runtime.list().await.unwrap();
    host.double.table().containers.insert("c2".into(), gone);
    host.runtime.list().await.unwrap();
    assert_eq!(host.double.count("ContainerStatus"), 4, "nothing is kept of what is not listed");
}

#[tokio::test]
async fn a_container_that_starts_is_asked_for_its_process() {
    let host = Host::new();
    host.double.table().containers.get_mut("c1").unwrap().state = cri::ContainerState::ContainerCreated;
    let listing = host.runtime.list().await.unwrap();
    let created = listing.containers.iter().find(|container| container.name == "main").unwrap();
    assert_eq!((created.state, created.pid), (ContainerState::Created, None));
    host.runtime.list().await.unwrap();
    assert_eq!(host.double.count("ContainerStatus"), 2, "nothing new");
    host.double.table().containers.get_mut("c1").unwrap().state = cri::ContainerState::ContainerRunning;
    let listing = host.runtime.list().await.unwrap();
    let started = listing.containers.iter().find(|container| container.name == "main").unwrap();
    assert_eq!((started.state, started.pid), (ContainerState::Running, Some(1000)));
}

#[tokio::test]
async fn an_object_that_vanishes_between_two_calls_is_listed_without_details() {
    let host = Host::new();
    host.double.table().failing.insert("ContainerStatus", tonic::Status::not_found("gone"));
    let listing = host.runtime.list().await.unwrap();
    assert_eq!(listing.containers.len(), 2);
    assert!(listing.containers.iter().all(|container| container.resources.is_none()));
    host.double.table().failing.clear();
    let listing = host.runtime.list().await.unwrap();
    assert!(listing.containers.iter().all(|container| container.resources.is_some()), "asked again");
}

#[tokio::test]
async fn details_that_take_too_long_are_left_to_the_next_list() {
    let root = tempfile::tempdir().unwrap();
    let double = FakeCri::start(&below(root.path(), super::SOCKET));
    double.add_sandbox("s1", "uid1");
    let patience = Patience { details: std::time::Duration::ZERO, ..Default::default() };
    let runtime = runtime(root.path(), "", patience);
    double.add_container("c1", "s1", "main", 1);
    let listing = runtime.list().await.unwrap();
    assert_eq!((listing.sandboxes.len(), listing.containers.len()), (1, 1));
    assert_eq!((listing.sandboxes[0].cgroup_parent.as_str(), listing.containers[0].pid), ("", None));
}

#[tokio::test]
async fn answers_of_many_megabytes_are_taken() {
    let host = Host::new();
    let text = "x".repeat(1 << 20);
    for n in 0..24 {
        host.double.add_container(&format!("big{n}"), "s1", &format!("big{n}"), 1);
        let mut table = host.double.table();
        table.containers.get_mut(&format!("big{n}")).unwrap().annotations.insert("big".into(), text.clone());
    }
    assert_eq!(host.runtime.list().await.unwrap().containers.len(), 26);
}

#[tokio::test]
async fn handlers_of_other_kernels_are_told_by_their_type() {
    let host = Host::new();
    host.double.table().config = Some(
        r#"{"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": {"runtimeType": "io.containerd.runc.v2"}}}}"#
            .into(),
    );
    host.double.table().handler_types.insert("fast".into(), "io.containerd.runc.v2".into());
    host.double.table().handler_types.insert("safe".into(), "io.containerd.kata.v2".into());
    for (id, handler) in [("s2", "fast"), ("s3", "safe")] {
        host.double.add_sandbox(id, &format!("uid-{id}"));
        host.double.table().sandboxes.get_mut(id).unwrap().runtime_handler = handler.into();
        host.double.add_container(&format!("c-{id}"), id, "app", 1);
    }
    let listing = host.runtime.list().await.unwrap();
    host.runtime.list().await.unwrap();
    assert_eq!(host.double.count("Status"), 1, "once per connection");

    let mut roster = Roster::default();
    roster.refresh(listing.sandboxes, listing.containers);
    let handlers: HandlerTypes = listing.handlers;
    let sources =
        Sources { roster: &roster, tree: None, names: &Names::default(), handlers: &handlers, memory_capacity: None };
    let joined = join(&sources);
    let sandboxed: Vec<_> = joined.pods.iter().map(|pod| (pod.uid.0.as_str(), pod.sandboxed.is_some())).collect();
    assert_eq!(sandboxed, [("uid-s2", false), ("uid-s3", true), ("uid1", false)]);
    assert_eq!(joined.findings.len(), 1);
    let pod = joined.pods.iter().find(|pod| pod.uid.0 == "uid1").unwrap();
    assert_eq!(pod.qos, Told::Exact(QosClass::Guaranteed));
    let asked: Vec<_> = pod.containers.iter().map(|c| (c.name.as_str(), c.asked.cpu_request)).collect();
    assert_eq!(asked, [("main", Told::Exact(MilliCpu(2000))), ("helper", Told::Exact(MilliCpu(1000)))]);
}

/// Files of CRI-O.
struct Files;

impl RuntimeSource for Files {
    fn drivers(&self) -> RuntimeSettings {
        let handlers = HandlerTypes([("kata".to_owned(), "vm".to_owned())].into());
        RuntimeSettings { handlers, ..RuntimeSettings::default() }
    }
}

#[tokio::test]
async fn files_tell_the_types_of_handlers_where_the_runtime_does_not() {
    let host = Host::new();
    let runtime = || runtime(host.root.path(), "", Patience::default()).with_configuration(Arc::new(Files));
    let listing = runtime().list().await.unwrap();
    assert_eq!(listing.handlers.0, [("kata".to_owned(), "vm".to_owned())].into());
    let config = r#"{"containerd": {"runtimes": {"runc": {"runtimeType": "io.containerd.runc.v2"}}}}"#;
    host.double.table().config = Some(config.into());
    let listing = runtime().list().await.unwrap();
    assert_eq!(listing.handlers.0.keys().collect::<Vec<_>>(), ["runc"], "what it shows is in force");
}

#[tokio::test]
async fn the_events_of_the_kubelet_are_left_to_it() {
    let host = Host::new();
    host.runtime.list().await.unwrap();
    host.runtime.about().await.unwrap();
    host.runtime.cgroup_drivers().await.unwrap();
    host.runtime.terminating().await.unwrap();
    let methods: std::collections::BTreeSet<_> = host.double.table().calls.iter().map(|(method, _)| *method).collect();
    assert!(!methods.contains("GetContainerEvents") && methods.contains("ListContainers"), "{methods:?}");
}

#[tokio::test]
async fn stops_are_told_as_far_as_the_runtime_tells_them() {
    let host = Host::new();
    let grace = |seconds: &str| [("io.kubernetes.pod.terminationGracePeriod".to_owned(), seconds.to_owned())];
    host.double.table().containers.get_mut("c1").unwrap().annotations = grace("600").into();
    let none = host.runtime.terminating().await.unwrap();
    assert_eq!(none.longest, None);
    host.double.table().sandboxes.get_mut("s1").unwrap().state = cri::PodSandboxState::SandboxNotready.into();
    let some = host.runtime.terminating().await.unwrap();
    assert!(some.longest.is_some_and(|left| left.as_secs() > 500), "{some:?}");
    assert!(host.runtime.longest_remaining().await.is_some_and(|left| left.as_secs() > 500));
    host.double.table().containers.clear();
    assert_eq!(host.runtime.terminating().await.unwrap().longest, None);
}

/// The kubelet stops all containers of a pod at once; its sandbox stays ready until the last one is over.
#[tokio::test]
async fn a_stop_under_way_shows_in_what_has_ended_beside_it() {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    let ago = |seconds: i64| now - seconds * 1_000_000_000;
    let rows = [
        ("stopped with it", ago(5), "0", "c1", true),
        ("an init container", 500, "0", "c1", false),
        ("too long ago", ago(700), "0", "c1", false),
        ("crashed before", ago(5), "3", "c1", false),
        ("alone", ago(5), "0", "c2", false),
    ];
    for (name, finished_at, restarts, runs, seen) in rows {
        let host = Host::new();
        let mut notes = std::collections::HashMap::new();
        notes.insert("io.kubernetes.pod.terminationGracePeriod".to_owned(), "600".to_owned());
        notes.insert("io.kubernetes.container.restartCount".to_owned(), restarts.to_owned());
        let over = if runs == "c1" { "c2" } else { "c1" };
        for (id, container) in &mut host.double.table().containers {
            container.annotations = notes.clone();
            if id == over {
                (container.state, container.finished_at) = (cri::ContainerState::ContainerExited, finished_at);
            }
        }
        if name == "alone" {
            host.double.table().containers.remove("c2");
        }
        for _ in 0..2 {
            let longest = host.runtime.terminating().await.unwrap().longest;
            assert_eq!(longest.is_some_and(|left| left.as_secs() > 500), seen, "{name}: {longest:?}");
        }
        let asked = usize::from(restarts == "0" && name != "alone");
        assert_eq!(host.double.count("ContainerStatus"), asked, "{name}: an end is asked for once");
    }
}
