use proptest::prelude::*;

use super::*;
use crate::workload::Labels;

fn sandbox(id: &str, uid: &str) -> Sandbox {
    Sandbox {
        id: SandboxId(id.into()),
        uid: PodUid(uid.into()),
        namespace: "default".into(),
        name: uid.into(),
        labels: Labels::default(),
        annotations: Labels::default(),
        runtime_handler: String::new(),
        cgroup_parent: "/kubepods".into(),
        ready: true,
        created_at_ns: 0,
        pod_resources: None,
    }
}

fn container(id: &str, sandbox: &str, name: &str) -> SandboxContainer {
    SandboxContainer {
        id: ContainerId(id.into()),
        sandbox: SandboxId(sandbox.into()),
        name: name.into(),
        state: ContainerState::Created,
        created_at_ns: 0,
        pid: None,
        cgroups_path: String::new(),
        labels: Labels::default(),
        annotations: Labels::default(),
        resources: None,
    }
}

fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.put_sandbox(sandbox("s", "u"));
    roster.put_container(container("c", "s", "app"));
    roster
}

fn keeps(roster: &Roster, name: &str) -> bool {
    roster.keeps(&PodUid("u".into()), name)
}

#[test]
fn a_container_that_exits_keeps_its_place_until_it_is_removed() {
    let mut roster = roster();
    let id = ContainerId("c".into());
    roster.stop_container(&id);
    roster.stop_container(&id);
    assert!(keeps(&roster, "app"));
    assert_eq!(roster.container(&id).map(|container| container.state), Some(ContainerState::Exited));
    roster.put_container(container("c2", "s", "app"));
    assert_eq!(roster.container(&id), None, "the new one of the same name takes its place");
    roster.remove_container(&id);
    assert!(keeps(&roster, "app"), "the old one is removed after the new one was made");
    roster.remove_container(&ContainerId("c2".into()));
    assert!(!keeps(&roster, "app"));
}

#[test]
fn a_stopped_sandbox_keeps_nothing_and_does_not_come_back() {
    let mut roster = roster();
    roster.stop_sandbox(&SandboxId("s".into()));
    assert!(!keeps(&roster, "app"));
    assert_eq!(roster.ready_sandbox(&PodUid("u".into())), None);
    roster.put_sandbox(sandbox("s", "u"));
    assert!(!keeps(&roster, "app"), "a late event about it");
    roster.put_sandbox(sandbox("s2", "u"));
    assert_eq!(roster.ready_sandbox(&PodUid("u".into())).map(|sandbox| sandbox.id.0.as_str()), Some("s2"));
    roster.remove_sandbox(&SandboxId("s".into()));
    assert_eq!(roster.containers(), Vec::<&SandboxContainer>::new());
}

#[test]
fn an_event_that_leaves_facts_out_does_not_wipe_them_out() {
    let mut roster = roster();
    roster.put_sandbox(Sandbox { namespace: String::new(), cgroup_parent: String::new(), ..sandbox("s", "") });
    let known = roster.sandbox(&SandboxId("s".into())).cloned();
    assert_eq!(known, Some(sandbox("s", "u")));
    roster.put_sandbox(sandbox("unknown", ""));
    assert_eq!(roster.sandbox(&SandboxId("unknown".into())), None, "nothing but an id is no sandbox");
}

#[test]
fn states_never_go_back() {
    use ContainerState::{Created, Exited, Running, Unknown};
    let rows = [
        ([Created, Running, Created], Running),
        ([Running, Unknown, Unknown], Running),
        ([Exited, Running, Created], Exited),
        ([Unknown, Created, Unknown], Created),
    ];
    for (states, last) in rows {
        let mut roster = Roster::default();
        for state in states {
            roster.put_container(SandboxContainer { state, ..container("c", "s", "app") });
        }
        assert_eq!(roster.container(&ContainerId("c".into())).map(|c| c.state), Some(last), "{states:?}");
    }
}

#[test]
fn a_listing_tells_what_is_over() {
    let mut roster = roster();
    roster.put_sandbox(sandbox("gone", "v"));
    roster.put_container(container("g", "gone", "app"));
    let created = |id, name, at| SandboxContainer { created_at_ns: at, ..container(id, "s", name) };
    roster.refresh(vec![sandbox("s", "u")], vec![created("d", "second", 9)]);
    assert!(keeps(&roster, "app") && keeps(&roster, "second"));
    assert_eq!(roster.container(&ContainerId("c".into())).map(|c| c.state), Some(ContainerState::Exited));
    assert_eq!(roster.container(&ContainerId("g".into())), None);
    roster.refresh(Vec::new(), Vec::new());
    assert!(roster.is_empty());
}

#[test]
fn what_runs_in_a_sandbox_that_is_not_ready_keeps_its_place() {
    let runs = |id: &str, state| SandboxContainer { state, ..container(id, "s", "app") };
    let dead = || Sandbox { ready: false, ..sandbox("s", "u") };
    let uid = PodUid("u".into());
    for state in [ContainerState::Running, ContainerState::Unknown] {
        let mut roster = roster();
        roster.refresh(vec![dead()], vec![runs("c", state)]);
        assert!(keeps(&roster, "app") && roster.lives(&uid), "{state:?}");
        assert_eq!(roster.ready_sandbox(&uid), None);
        roster.refresh(vec![sandbox("s", "u")], vec![runs("c", state)]);
        assert!(roster.ready_sandbox(&uid).is_some(), "the runtime has found it again");
        roster.refresh(vec![dead()], Vec::new());
        assert!(!keeps(&roster, "app") && !roster.lives(&uid), "nothing runs");
    }
}

#[test]
fn a_replacement_forgets_what_is_not_told_and_keeps_what_is() {
    let mut roster = roster();
    roster.put_container(SandboxContainer { pid: Some(7), ..container("d", "s", "other") });
    roster.replace(vec![sandbox("s", "u")], vec![container("d", "s", "other")]);
    assert_eq!(roster.container(&ContainerId("c".into())), None);
    assert_eq!(roster.container(&ContainerId("d".into())).and_then(|c| c.pid), Some(7));
}

#[test]
fn pods_that_are_not_retained_are_over_with_all_that_they_had() {
    let mut roster = roster();
    roster.put_sandbox(sandbox("t", "v"));
    roster.put_container(container("d", "t", "app"));
    roster.retain_pods(|uid| uid.0 == "v");
    assert!(!keeps(&roster, "app") && roster.keeps(&PodUid("v".into()), "app"));
    assert_eq!((roster.sandboxes().count(), roster.containers().len()), (1, 1));
}

#[test]
fn facts_complete_only_what_is_known() {
    let mut roster = roster();
    let told = SandboxContainer { pid: Some(7), state: ContainerState::Exited, ..container("c", "s", "else") };
    roster.complete(&[sandbox("new", "v")], &[told, container("new", "s", "x")]);
    let known = roster.container(&ContainerId("c".into())).cloned();
    assert_eq!(known, Some(SandboxContainer { pid: Some(7), ..container("c", "s", "app") }));
    assert_eq!((roster.sandboxes().count(), roster.containers().len()), (1, 1));
}

#[test]
fn what_is_told_again_is_not_copied() {
    let mut roster = roster();
    let told = || SandboxContainer { pid: Some(7), created_at_ns: 9, ..container("c", "s", "app") };
    roster.complete(&[sandbox("s", "u")], &[told()]);
    let before = roster.clone();
    roster.complete(&[sandbox("s", "u")], &[told()]);
    roster.refresh(vec![sandbox("s", "u")], vec![told()]);
    roster.put_sandbox(sandbox("s", "u"));
    roster.put_container(told());
    let [now, then] = [&roster, &before].map(|roster| {
        let (sandbox, container) = (SandboxId("s".into()), ContainerId("c".into()));
        (roster.sandbox(&sandbox).map(std::ptr::from_ref), roster.container(&container).map(std::ptr::from_ref))
    });
    assert!(now.0.is_some() && now.1.is_some() && now == then, "whoever looked before still shares it");
}

#[test]
fn a_change_of_resources_leaves_the_rest_as_it_was() {
    let mut roster = roster();
    let id = ContainerId("c".into());
    roster.update_container(&id, &ToldResources { cpu_shares: Some(2), cpus: "1".into(), ..ToldResources::default() });
    roster.update_container(&id, &ToldResources { cpu_quota_us: Some(-1), ..ToldResources::default() });
    let expected =
        ToldResources { cpu_shares: Some(2), cpu_quota_us: Some(-1), cpus: "1".into(), ..ToldResources::default() };
    assert_eq!(roster.container(&id).and_then(|c| c.resources.clone()), Some(expected));
}

#[derive(Debug, Clone)]
enum Event {
    Sandbox(u8),
    Create(u8, u8, u8),
    Stop(u8),
    Remove(u8),
    StopSandbox(u8),
    RemoveSandbox(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3u8).prop_map(Event::Sandbox),
        (0..9u8, 0..3u8, 0..2u8).prop_map(|(id, sandbox, name)| Event::Create(id, sandbox, name)),
        (0..9u8).prop_map(Event::Stop),
        (0..9u8).prop_map(Event::Remove),
        (0..3u8).prop_map(Event::StopSandbox),
        (0..3u8).prop_map(Event::RemoveSandbox),
    ]
}

proptest! {
    /// Whatever comes in whatever order: a restart leaves no trace, and what is kept belongs to a ready sandbox.
    #[test]
    fn nothing_piles_up(events in proptest::collection::vec(event(), 0..200)) {
        let mut roster = Roster::default();
        let sandbox_id = |n: u8| SandboxId(format!("s{n}"));
        let container_id = |n: u8| ContainerId(format!("c{n}"));
        for event in events {
            match event {
                Event::Sandbox(n) => roster.put_sandbox(sandbox(&format!("s{n}"), &format!("u{n}"))),
                Event::Create(id, s, name) => {
                    let (id, name) = (container_id(id), format!("n{name}"));
                    let new = roster.container(&id).is_none();
                    roster.put_container(container(&id.0, &format!("s{s}"), &name));
                    if new {
                        let id = sandbox_id(s);
                        let mut named = roster.containers_of(&id).filter(|c| c.name == name);
                        prop_assert!(named.all(|c| c.state != ContainerState::Exited));
                    }
                }
                Event::Stop(n) => roster.stop_container(&container_id(n)),
                Event::Remove(n) => roster.remove_container(&container_id(n)),
                Event::StopSandbox(n) => roster.stop_sandbox(&sandbox_id(n)),
                Event::RemoveSandbox(n) => roster.remove_sandbox(&sandbox_id(n)),
            }
            for s in 0..3 {
                for name in ["n0", "n1"] {
                    let (id, uid) = (sandbox_id(s), PodUid(format!("u{s}")));
                    let ready = roster.ready_sandbox(&uid).is_some();
                    // One that is made in a sandbox that was stopped may run for all we know.
                    let runs = |c: &SandboxContainer| c.state != ContainerState::Exited;
                    let known = roster.sandbox(&id).is_some();
                    let any = roster.containers_of(&id).any(|c| c.name == name && (ready || runs(c)));
                    prop_assert_eq!(roster.keeps(&uid, name), known && any);
                    prop_assert_eq!(roster.lives(&uid), known && (ready || roster.containers_of(&id).any(runs)));
                }
            }
        }
    }
}
