#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::roster::ContainerState::{self, Created, Running};
use crate::workload::{Labels, PodUid};

/// What the kubelet tells for whole CPUs.
fn cpus(count: u64) -> ToldResources {
    ToldResources {
        cpu_shares: Some(count * 1024),
        cpu_quota_us: Some(i64::try_from(count * 100_000).unwrap()),
        cpu_period_us: Some(100_000),
        ..ToldResources::default()
    }
}

fn container(id: &str, state: ContainerState) -> SandboxContainer {
    let (name, attempt) = id.split_once('#').unwrap_or((id, "0"));
    SandboxContainer {
        id: ContainerId(id.into()),
        sandbox: SandboxId("s".into()),
        name: name.into(),
        state,
        created_at_ns: 0,
        pid: None,
        cgroups_path: String::new(),
        labels: Labels::default(),
        annotations: [(RESTARTS.to_owned(), attempt.to_owned())].into(),
        resources: Some(cpus(if name.starts_with("big") { 2 } else { 1 })),
    }
}

/// Plays a story: `a` is made and started, `-a` ends, `+a` is made only; `a#1` is its first restart.
fn play(story: &str, sum: Option<u64>) -> Roster {
    let mut roster = Roster::default();
    roster.put_sandbox(Sandbox {
        id: SandboxId("s".into()),
        uid: PodUid("u".into()),
        namespace: "n".into(),
        name: "p".into(),
        labels: Labels::default(),
        annotations: Labels::default(),
        runtime_handler: String::new(),
        cgroup_parent: "/kubepods/podu".into(),
        ready: true,
        created_at_ns: 0,
        pod_resources: sum.map(cpus),
    });
    for word in story.split_whitespace() {
        match (word.strip_prefix('-'), word.strip_prefix('+')) {
            (Some(id), _) => roster.stop_container(&ContainerId(id.into())),
            (_, Some(id)) => roster.put_container(container(id, Created)),
            _ => {
                roster.put_container(container(word, Created));
                roster.put_container(container(word, Running));
            }
        }
    }
    roster
}

fn init(roster: &Roster, newcomer: Option<&str>) -> String {
    let newcomer = newcomer.map(|id| container(id, Created));
    let kinds = roster.kinds(&SandboxId("s".into()), newcomer.as_ref());
    let init = kinds.iter().filter(|(_, kind)| **kind == ContainerKind::Init).map(|(id, _)| id.0.as_str());
    init.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_order_of_events_tells_init_containers() {
    let rows = [
        ("one after the other", "a -a b -b", Some("c"), "a b"),
        ("nobody comes after it", "a -a", None, ""),
        ("one that comes", "a -a", Some("b"), "a"),
        ("itself again", "a -a", Some("a#1"), ""),
        ("tried again before the next", "a -a a#1 -a#1", Some("b"), "a#1"),
        ("something later ran beside it", "a b -a", Some("c"), ""),
        ("so did one of its name", "a b -a a#1 -a#1", Some("c"), ""),
        ("its end is told late", "a +b -a b", Some("c"), "a"),
        ("made again after another one", "a -a b a#1 -a#1", Some("c"), ""),
        ("the next one is no new one", "a b -b -a", Some("b#1"), ""),
        ("nor one from before we listened", "a -a", Some("b#3"), ""),
        ("a sidecar from before", "side a -a", Some("b"), "a"),
    ];
    for (name, story, newcomer, expected) in rows {
        assert_eq!(init(&play(story, None), newcomer), expected, "{name}");
    }
}

#[test]
fn the_sum_of_the_pod_tells_what_crashed_from_what_is_over() {
    let rows = [
        ("room for both: it crashed", 2, "a -a", Some("b"), ""),
        ("room for one at a time", 1, "a -a", Some("b"), "a"),
        ("a larger one first", 2, "big -big", Some("b"), "big"),
        ("the first of two", 2, "a -a b -b", Some("c"), "a"),
        ("the last one comes", 2, "a -a b c", None, "a"),
        ("all of three", 3, "a -a b c", None, ""),
    ];
    for (name, sum, story, newcomer, expected) in rows {
        assert_eq!(init(&play(story, Some(sum)), newcomer), expected, "{name}");
    }
}
