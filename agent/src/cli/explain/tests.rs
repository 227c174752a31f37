#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::picture::{Cpu, Holder, Usage};
use crate::reconcile::node_view::CpuView;

fn cpu(number: u32, usage: Usage, holders: &[usize]) -> Cpu {
    let place = CpuView { cpu: number, core: number % 2, socket: 0, numa_node: 0, uncore_cache: Some(1) };
    Cpu { place, usage, isolated: number == 3, holders: holders.to_vec() }
}

fn container(name: &str, exclusive_cpus: &[u32]) -> wire::Container {
    wire::Container {
        name: name.into(),
        id: format!("0123456789{name}"),
        exclusive_cpus: exclusive_cpus.to_vec(),
        effective_cpus: "1".into(),
        mispinned: (name == "side").then(|| "runs on 0-3".into()),
        explanation: (name == "main").then(|| wire::PlacementExplanation {
            rule: "Guaranteed and whole CPUs".into(),
            request: "cpu 1".into(),
            policy: "static".into(),
            hint: String::new(),
            writer: "the runtime".into(),
        }),
        ..wire::Container::default()
    }
}

fn object(name: &str, desired: Option<&str>, observed: Option<&str>) -> wire::Object {
    let attributes = vec![wire::Attribute { name: "original".into(), value: "128".into() }];
    let (desired, observed) = (desired.map(Into::into), observed.map(Into::into));
    wire::Object { object: name.into(), desired, observed, attributes }
}

fn refusal(object: &str, cause: wire::Cause) -> wire::Refusal {
    let mut refusal = wire::Refusal {
        object: object.into(),
        wish: "7".into(),
        detail: "facts; remedy".into(),
        ..wire::Refusal::default()
    };
    refusal.set_cause(cause);
    refusal
}

fn holder() -> Holder {
    let [namespace, pod, container] = ["data", "db", "main"].map(str::to_owned);
    Holder { namespace, pod, container, ..Holder::default() }
}

fn snapshot() -> Snapshot {
    let sysctl = wire::Subsystem {
        name: "sysctl".into(),
        objects: vec![
            object("net.core.somaxconn", Some("1024"), Some("1024")),
            object("vm.swappiness", Some("10"), Some("60")),
            object("kernel.x", None, Some("1")),
            object("net.ipv4.conf.eth0/100.forwarding", Some("1"), None),
        ],
        refusals: vec![refusal("kernel.absent", wire::Cause::Absent)],
        fights: vec![wire::Fight {
            object: "vm.swappiness".into(),
            rewrites: 6,
            likely_writer: Some("the kubelet".into()),
            held_until: None,
        }],
        ..wire::Subsystem::default()
    };
    let pods = vec![wire::Pod {
        uid: "aaaa-bbbb".into(),
        name: "db".into(),
        namespace: "data".into(),
        qos: wire::QosClass::Guaranteed.into(),
        containers: vec![container("main", &[1]), container("side", &[])],
    }];
    let mut healed = wire::Change {
        id: 9,
        object: "net.core.somaxconn".into(),
        subsystem: "sysctl".into(),
        old_value: Some("7".into()),
        new_value: Some("1024".into()),
        actor: "trimtab".into(),
        reason: "changed by the kubelet".into(),
        ..wire::Change::default()
    };
    healed.set_kind(wire::ChangeKind::Healed);
    Snapshot {
        report: wire::NodeReport { subsystems: vec![sysctl], ..wire::NodeReport::default() },
        placements: wire::ListPlacementsResponse { pods, ..wire::ListPlacementsResponse::default() },
        topology: Topology {
            node: "n".into(),
            cpus: vec![
                cpu(0, Usage::Reserved, &[]),
                cpu(1, Usage::Exclusive, &[0]),
                cpu(2, Usage::Free, &[]),
                cpu(3, Usage::Shared, &[]),
            ],
            offline_cpus: vec![4],
            numa_nodes: Vec::new(),
            holders: vec![holder()],
            sharing_containers: 1,
            mispinned_sharing: Vec::new(),
            observe_only: None,
        },
        changes: vec![healed],
    }
}

/// What is asked, what is found, words of the answer, and words of the facts.
type Row = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const ROWS: [Row; 17] = [
    ("0", &["0"], "reserved for the system", &["threads of the same core: 2", "L3 cache: 1"]),
    ("1", &["1"], "data/db/main holds it", &["why: Guaranteed and whole CPUs", "place: socket 0, NUMA node 0, core 1"]),
    ("cpu2", &["2"], "free to be given out", &[]),
    ("cpu:3", &["3"], "one of the shared pool", &["isolated: the kernel keeps it free of ordinary tasks (isolcpus=)"]),
    ("4", &["4"], "it is offline", &[]),
    ("5", &["5"], "no such CPU; online are 0-3", &[]),
    (
        "net.core.somaxconn",
        &["net.core.somaxconn"],
        "it is as ordered",
        &[
            "desired: 1024",
            "original: 128",
            "changed:  healed sysctl net.core.somaxconn: 7 -> 1024 by trimtab (changed by the kubelet)",
        ],
    ),
    ("/proc/sys/net/core/somaxconn", &["net.core.somaxconn"], "it is as ordered", &[]),
    (
        "net/ipv4/conf/eth0.100/forwarding",
        &["net.ipv4.conf.eth0/100.forwarding"],
        "it is not as ordered",
        &["observed: absent"],
    ),
    ("vm.swappiness", &["vm.swappiness"], "keeps changing it back", &["fight: the kubelet changed it back 6 times"]),
    ("kernel.x", &["kernel.x"], "only observed", &["observed: 1"]),
    ("kernel.absent", &["kernel.absent"], "refused (absent)", &["because: facts; remedy"]),
    (
        "db",
        &["data/db/main", "data/db/side"],
        "CPUs 1 are its own",
        &["QoS class: Guaranteed", "asks for: cpu 1", "written by: the runtime"],
    ),
    ("data/db", &["data/db/main", "data/db/side"], "CPUs 1 are its own", &[]),
    (
        "side",
        &["data/db/side"],
        "it runs in the shared pool, on CPUs 1; it does not run as ordered",
        &["mispinned: runs on 0-3"],
    ),
    ("containerd://0123456789main", &["data/db/main"], "CPUs 1 are its own", &[]),
    ("012", &["12"], "no such CPU", &[]),
];

#[test]
fn each_thing_has_its_story() {
    let snapshot = snapshot();
    for (what, subjects, answer, facts) in ROWS {
        let found = explain(what, &snapshot);
        let names: Vec<&str> = found.iter().map(|explanation| explanation.subject.as_str()).collect();
        assert_eq!(names, subjects, "{what}");
        let first = found.first().unwrap();
        assert!(first.answer.contains(answer), "{what}: {}", first.answer);
        let told: Vec<String> = first.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)).collect();
        for fact in facts {
            assert!(told.contains(&(*fact).to_owned()), "{what}: {fact:?} is not in {told:#?}");
        }
    }
}

#[test]
fn what_is_not_known_has_no_story() {
    for what in ["nobody", "net.core.other", "", "cpu", "cpu:", "-1", "+1", "dat", "data/", "1.5"] {
        assert_eq!(explain(what, &snapshot()), [], "{what:?}");
    }
}

#[test]
fn a_drift_in_a_paused_subsystem_names_the_pause() {
    let mut snapshot = snapshot();
    let sysctl = snapshot.report.subsystems.first_mut().unwrap();
    sysctl.pause = Some(wire::Hold { by: "uid 0".into(), ..wire::Hold::default() });
    let found = explain("vm.swappiness", &snapshot);
    assert!(found.first().unwrap().answer.ends_with("sysctl is paused"), "{found:?}");
}

#[test]
fn names_from_the_node_cannot_drive_the_terminal() {
    let mut snapshot = snapshot();
    let pod = snapshot.placements.pods.first_mut().unwrap();
    pod.namespace = "\u{1b}[2J".into();
    let text = render(&explain("db", &snapshot));
    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
}
