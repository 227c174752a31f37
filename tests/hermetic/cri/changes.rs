//! Changes of containers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trimtab::ports::runtime::{ContainerRuntime, ResourceChange, RuntimeError, Sandboxes};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::SandboxId;
use trimtab_domain::workload::ContainerId;
use trimtab_proto::runtime::v1 as cri;

use super::Host;

fn set(text: &str) -> Option<CpuSet> {
    Some(CpuSet::parse(text).unwrap())
}

fn id(text: &str) -> ContainerId {
    ContainerId(text.into())
}

#[tokio::test]
async fn a_change_says_only_what_is_to_change() {
    let host = Host::new();
    host.double.table().containers.get_mut("c1").unwrap().resources.hugepage_limits =
        vec![cri::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }];
    host.runtime.list().await.unwrap();
    let change = ResourceChange { cpus: set("2-3"), ..ResourceChange::default() };
    host.runtime.update(&id("c1"), &change).await.unwrap();
    let change = ResourceChange { mems: set("1"), cpu_quota_us: Some(-1), ..ResourceChange::default() };
    host.runtime.update(&id("c1"), &change).await.unwrap();

    let table = host.double.table();
    let expected = [
        cri::LinuxContainerResources { cpuset_cpus: "2-3".into(), ..Default::default() },
        cri::LinuxContainerResources { cpuset_mems: "1".into(), cpu_quota: -1, ..Default::default() },
    ];
    let asked: Vec<_> = table.changes.iter().map(|change| change.linux.clone().unwrap()).collect();
    assert_eq!(asked, expected);
    let own = &table.containers["c1"].resources;
    assert_eq!((own.cpuset_cpus.as_str(), own.cpuset_mems.as_str()), ("2-3", "1"));
    assert_eq!((own.cpu_quota, own.cpu_shares, own.hugepage_limits.len()), (-1, 2048, 1));
}

#[tokio::test]
async fn what_was_changed_is_listed_without_asking_again() {
    let host = Host::new();
    host.runtime.list().await.unwrap();
    let change = ResourceChange { cpus: set("2-3"), ..ResourceChange::default() };
    host.runtime.update(&id("c1"), &change).await.unwrap();
    let listing = host.runtime.list().await.unwrap();
    let told = listing.containers[0].resources.as_ref().unwrap();
    assert_eq!((told.cpus.as_str(), told.cpu_shares), ("2-3", Some(2048)));
    assert_eq!(host.double.count("ContainerStatus"), 2);
}

#[tokio::test]
async fn what_a_runtime_would_take_for_unchanged_is_refused_without_a_call() {
    let host = Host::new();
    let nothing = ResourceChange::default();
    let rows = [
        ResourceChange { cpus: Some(CpuSet::new()), ..nothing.clone() },
        ResourceChange { cpus: set("1"), mems: Some(CpuSet::new()), ..nothing.clone() },
        ResourceChange { cpu_quota_us: Some(0), ..nothing.clone() },
        ResourceChange { cpu_period_us: Some(0), ..nothing.clone() },
    ];
    for change in rows {
        let refused = host.runtime.update(&id("c1"), &change).await;
        assert!(
            matches!(&refused, Err(RuntimeError::Refused { detail, .. }) if detail.contains("unchanged")),
            "{change:?}"
        );
    }
    host.runtime.update(&id("c1"), &nothing).await.unwrap();
    assert_eq!(host.double.count("UpdateContainerResources"), 0);
}

#[tokio::test]
async fn a_container_that_is_gone_is_told_from_one_that_cannot_be_changed() {
    let host = Host::new();
    let change = ResourceChange { cpus: set("1"), ..ResourceChange::default() };
    let gone = host.runtime.update(&id("nobody"), &change).await;
    assert!(matches!(&gone, Err(RuntimeError::Gone(id)) if id == "nobody"), "{gone:?}");
    host.double.table().containers.get_mut("c1").unwrap().state = cri::ContainerState::ContainerExited;
    let refused = host.runtime.update(&id("c1"), &change).await.unwrap_err();
    assert!(refused.to_string().contains("not in CREATED or RUNNING state"), "{refused}");
}

#[tokio::test]
async fn what_the_runtime_was_told_survives_a_reload_of_systemd() {
    let host = Host::new();
    let kernel: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let files = Arc::clone(&kernel);
    host.double.table().apply = Some(Arc::new(move |id, told| {
        files.lock().unwrap().insert(id.to_owned(), told.cpuset_cpus.clone());
    }));
    let change = ResourceChange { cpus: set("2-3"), ..ResourceChange::default() };
    host.runtime.update(&id("c1"), &change).await.unwrap();
    kernel.lock().unwrap().insert("c2".into(), "7".into());
    host.double.daemon_reload();
    let kernel = kernel.lock().unwrap();
    assert_eq!((kernel["c1"].as_str(), kernel["c2"].as_str()), ("2-3", ""), "a hand's write is lost, ours is not");
}

#[tokio::test]
async fn a_sandbox_is_ended_with_its_containers_and_one_that_is_gone_is_fine() {
    let host = Host::new();
    host.double.add_sandbox("s9", "u9");
    host.double.add_container("c9", "s9", "main", 1);
    let before: Vec<String> = host.runtime.ready().await.unwrap().into_iter().map(|one| one.id.0).collect();
    assert!(before.contains(&"s9".to_owned()), "{before:?}");
    let (id, grace) = (SandboxId("s9".into()), Duration::from_secs(30));
    host.runtime.end(&id, grace).await.unwrap();
    host.runtime.end(&id, grace).await.unwrap();
    let after: Vec<String> = host.runtime.ready().await.unwrap().into_iter().map(|one| one.id.0).collect();
    assert_eq!(after, before.iter().filter(|one| *one != "s9").cloned().collect::<Vec<_>>());
    let table = host.double.table();
    let ends: Vec<&(&str, String)> =
        table.calls.iter().filter(|(method, _)| method.starts_with("Stop") || method.starts_with("Remove")).collect();
    let expected = [("StopContainer", "c9"), ("StopPodSandbox", "s9"), ("RemovePodSandbox", "s9")];
    for (call, (method, id)) in ends.iter().zip(expected) {
        assert_eq!((call.0, call.1.as_str()), (method, id));
    }
}
