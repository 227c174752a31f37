//! What is read of the protocol, and what is never written.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn set(list: &str) -> CpuSet {
    CpuSet::parse(list).unwrap()
}

fn update(id: &str, cpus: Option<&str>, mems: Option<&str>) -> CpusetUpdate {
    CpusetUpdate { id: ContainerId(id.into()), cpus: cpus.map(set), mems: mems.map(set), lift_quota: false }
}

fn said(update: &nri::ContainerUpdate) -> (&str, &str, &str) {
    let cpu = update.linux.as_ref().unwrap().resources.as_ref().unwrap().cpu.as_ref().unwrap();
    (&update.container_id, &cpu.cpus, &cpu.mems)
}

#[test]
fn a_container_is_read_with_everything_that_decides() {
    let told = nri::Container {
        id: "c".into(),
        pod_sandbox_id: "s".into(),
        name: "app".into(),
        state: nri::ContainerState::Paused.into(),
        labels: [("l".to_owned(), "1".to_owned())].into(),
        annotations: [("a".to_owned(), "2".to_owned())].into(),
        pid: 7,
        created_at: 9,
        linux: Some(nri::LinuxContainer {
            resources: Some(nri::LinuxResources {
                memory: Some(nri::LinuxMemory { limit: Some(nri::OptionalInt64 { value: 1 << 30 }) }),
                cpu: Some(nri::LinuxCpu {
                    shares: Some(nri::OptionalUInt64 { value: 2048 }),
                    quota: Some(nri::OptionalInt64 { value: 200_000 }),
                    period: Some(nri::OptionalUInt64 { value: 100_000 }),
                    cpus: "0-3".into(),
                    mems: "0".into(),
                }),
                hugepage_limits: vec![
                    nri::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 },
                    nri::HugepageLimit { page_size: "strange".into(), limit: 1 },
                ],
            }),
            oom_score_adj: Some(nri::OptionalInt64 { value: -997 }),
            cgroups_path: "kubepods:cri:c".into(),
        }),
    };
    let read = container(told);
    assert_eq!((read.id.0.as_str(), read.sandbox.0.as_str(), read.name.as_str()), ("c", "s", "app"));
    assert_eq!((read.state, read.pid, read.created_at_ns), (ContainerState::Running, Some(7), 9));
    assert_eq!((read.cgroups_path.as_str(), read.labels.len(), read.annotations.len()), ("kubepods:cri:c", 1, 1));
    let expected = ToldResources {
        cpu_shares: Some(2048),
        cpu_quota_us: Some(200_000),
        made_with_quota_us: None,
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(1 << 30),
        hugepage_limits: [("hugepages-2Mi".to_owned(), 4 << 20)].into(),
        cpus: "0-3".into(),
        mems: "0".into(),
        oom_score_adj: Some(-997),
    };
    assert_eq!(read.resources, Some(expected));
}

#[test]
fn what_is_not_told_is_absent() {
    let read = container(nri::Container { id: "c".into(), state: 99, ..nri::Container::default() });
    assert_eq!((read.state, read.pid, read.resources), (ContainerState::Unknown, None, None));
    let read = sandbox(nri::PodSandbox { id: "s".into(), ..nri::PodSandbox::default() }, false);
    assert_eq!((read.uid.0.as_str(), read.ready, read.pod_resources), ("", false, None));
}

#[test]
fn empty_set_is_an_error_and_never_sent() {
    let id = ContainerId("new".into());
    let empty = || Err(Unsayable::EmptySet("new".into()));
    for (cpus, mems) in [(Some(""), None), (None, Some("")), (Some("0"), Some(""))] {
        let own = Created { cpus: cpus.map(set), mems: mems.map(set), ..Created::default() };
        assert_eq!(created(&id, own).map(drop), empty(), "{cpus:?} {mems:?}");
        assert_eq!(updates(vec![update("new", cpus, mems)], Failures::AreIgnored).map(drop), empty());
    }
}

#[test]
fn created_container_is_adjusted_and_the_others_are_updated() {
    let answer = Created {
        cpus: Some(set("2-3")),
        mems: Some(set("0")),
        lift_quota: true,
        updates: vec![update("a", Some("0-1"), None)],
    };
    let message = created(&ContainerId("new".into()), answer).unwrap();
    let own = message.adjust.unwrap().linux.unwrap().resources.unwrap().cpu.unwrap();
    assert_eq!((own.cpus.as_str(), own.mems.as_str(), own.quota.map(|q| q.value)), ("2-3", "0", Some(-1)));
    assert_eq!(message.update.iter().map(said).collect::<Vec<_>>(), [("a", "0-1", "")]);
    assert!(message.update.iter().all(|update| !update.ignore_failure));
}

#[test]
fn a_container_that_is_left_alone_gets_no_adjustment() {
    let message = created(&ContainerId("new".into()), Created::default()).unwrap();
    assert_eq!(message, nri::CreateContainerResponse::default());
}

#[test]
fn the_created_container_is_not_updated_in_the_same_answer() {
    let answer = Created { updates: vec![update("new", Some("0"), None)], ..Created::default() };
    let refused = created(&ContainerId("new".into()), answer);
    assert_eq!(refused, Err(Unsayable::UpdateOfTheCreated("new".into())));
}

#[test]
fn a_container_is_updated_once_and_only_if_something_changes() {
    let all = vec![
        update("a", Some("0"), None),
        update("b", None, None),
        update("c", Some("1"), Some("1")),
        update("a", Some("2"), Some("0")),
    ];
    let sent = updates(all, Failures::AreIgnored).unwrap();
    assert_eq!(sent.iter().map(said).collect::<Vec<_>>(), [("a", "2", "0"), ("c", "1", "1")]);
    assert!(sent.iter().all(|update| update.ignore_failure));
}
