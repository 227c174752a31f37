#![allow(clippy::unwrap_used, reason = "tests")]
mod node;

use proptest::prelude::*;

use self::node::{Node, Source, TrueContainer, TruePod};
use super::*;
use crate::roster::ContainerState;
use crate::roster::identity::PodOrigin;
use crate::roster::told::Told;
use crate::workload::{ContainerKind, MilliCpu, QosClass};

const ALL: [Source; 4] = [Source::Nri, Source::Cri, Source::Tree, Source::Links];

fn one_pod() -> Node {
    let container =
        |id: &str, name: &str, milli| TrueContainer { id: id.into(), name: name.into(), milli, exited: false };
    Node {
        pods: vec![TruePod {
            uid: "0b7c2c4e".into(),
            qos: QosClass::Guaranteed,
            is_static: false,
            handler: String::new(),
            containers: vec![container("c1", "main", 2000), container("c2", "helper", 500)],
        }],
    }
}

#[test]
fn one_pod_known_from_every_source_is_one() {
    let joined = one_pod().join(&ALL);
    assert_eq!(joined.findings, []);
    assert_eq!(joined.doubtful, []);
    assert_eq!(joined.pods.len(), 1);
    let pod = joined.pods.first().unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("default", "pod-0b7c2c4e"));
    assert_eq!((pod.qos, pod.origin), (Told::Exact(QosClass::Guaranteed), Told::Exact(PodOrigin::Api)));
    let names: Vec<&str> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["main", "helper"]);
    let asked: Vec<_> = pod.containers.iter().map(|container| container.asked.cpu_request).collect();
    assert_eq!(asked, [Told::Exact(MilliCpu(2000)), Told::Exact(MilliCpu(500))]);
    assert!(pod.containers.iter().all(|container| container.cgroup.is_some() && container.pid.is_some()));
}

#[test]
fn what_no_source_tells_is_unknown() {
    let joined = one_pod().join(&[Source::Tree]);
    let pod = joined.pods.first().unwrap();
    assert_eq!((pod.name.as_str(), pod.display_name()), ("", "pod 0b7c2c4e".into()));
    assert_eq!((pod.origin, &pod.sandbox), (Told::Unknown, &None));
    assert_eq!(pod.containers.iter().map(|c| c.key()).collect::<Vec<_>>().len(), 2);
    assert!(pod.containers.iter().all(|container| container.name.is_empty() && container.state.is_none()));
    assert_eq!(one_pod().join(&[]), Joined::default());
}

#[test]
fn a_static_pod_is_known_as_such() {
    let mut node = one_pod();
    node.pods[0].is_static = true;
    let joined = node.join(&[Source::Cri, Source::Tree]);
    assert_eq!(joined.pods[0].origin, Told::Exact(PodOrigin::Static));
    assert_eq!(joined.pods.len(), 1);
}

#[test]
fn pods_of_other_kernels_are_marked_and_told() {
    let mut node = one_pod();
    node.pods[0].handler = "kata".into();
    let joined = node.join(&ALL);
    assert!(joined.pods[0].sandboxed.as_ref().is_some_and(|reason| reason.contains("kata")));
    assert_eq!(joined.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["pod-sandboxed"]);
}

#[test]
fn a_container_that_ended_before_the_next_began_is_taken_for_init() {
    let mut node = one_pod();
    node.pods[0].containers[0].exited = true;
    let kinds =
        |joined: &Joined| joined.pods[0].containers.iter().map(|c| (c.name.clone(), c.kind)).collect::<Vec<_>>();
    let joined = node.join(&[Source::Nri, Source::Tree]);
    let init = Told::Estimated(ContainerKind::Init);
    let app = Told::Estimated(ContainerKind::App);
    assert_eq!(kinds(&joined), [("helper".to_owned(), app), ("main".to_owned(), init)]);
    assert_eq!(joined.pods[0].containers[1].state, Some(ContainerState::Exited));
}

#[test]
fn a_stopped_pod_stays_while_its_cgroup_does() {
    let node = one_pod();
    let mut facts = node.facts(&ALL);
    facts.roster.stop_sandbox(&crate::roster::SandboxId("s-0b7c2c4e".into()));
    let joined = facts.join();
    assert_eq!(joined.pods.iter().map(|pod| pod.ready).collect::<Vec<_>>(), [false]);
    facts.tree = None;
    assert_eq!(facts.join().pods, []);
}

#[test]
fn the_cgroup_is_believed_before_the_runtime_and_the_contradiction_is_told() {
    let node = one_pod();
    let mut facts = node.facts(&ALL);
    let mut sandboxes: Vec<_> = facts.roster.sandboxes().cloned().collect();
    sandboxes[0].cgroup_parent = "/kubepods/burstable/pod0b7c2c4e".into();
    facts.roster.put_sandbox(sandboxes.remove(0));
    let joined = facts.join();
    assert_eq!(joined.pods[0].qos, Told::Exact(QosClass::Guaranteed));
    assert_eq!(joined.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["pod-contradiction"]);
    assert!(joined.findings[0].message.contains("burstable"), "{:?}", joined.findings);
}

#[test]
fn a_resize_that_the_runtime_did_not_tell_yet_makes_the_container_doubtful() {
    let node = one_pod();
    let mut facts = node.facts(&[Source::Cri, Source::Tree]);
    let leaf = &mut facts.tree.as_mut().unwrap().pods[0].containers[1];
    leaf.cpu.weight = Some(crate::cgroup::Weight::Shares(3072));
    leaf.cpu.quota = None;
    let joined = facts.join();
    assert_eq!(joined.doubtful, [ContainerId("c1".into())]);
    assert_eq!(joined.pods[0].containers[0].asked.cpu_request, Told::Exact(MilliCpu(2000)), "the runtime's is shown");
}

fn pod_strategy(index: usize) -> impl Strategy<Value = TruePod> {
    let qos = prop_oneof![Just(QosClass::Guaranteed), Just(QosClass::Burstable), Just(QosClass::BestEffort)];
    let containers = proptest::collection::vec((3u64..5000, any::<bool>()), 1..4);
    (qos, any::<bool>(), any::<bool>(), containers).prop_map(move |(qos, is_static, kata, containers)| TruePod {
        uid: format!("{index:x}0b7c2c4e"),
        qos,
        is_static,
        handler: if kata { "kata".into() } else { String::new() },
        containers: containers
            .into_iter()
            .enumerate()
            .map(|(at, (milli, exited))| TrueContainer {
                id: format!("c{index}{at}"),
                name: format!("n{at}"),
                milli: if qos == QosClass::BestEffort { 0 } else { milli },
                exited,
            })
            .collect(),
    })
}

fn node_strategy() -> impl Strategy<Value = Node> {
    (pod_strategy(1), pod_strategy(2), pod_strategy(3)).prop_map(|(a, b, c)| Node { pods: vec![a, b, c] })
}

/// Panics unless two exact facts are the same.
fn agree<T: PartialEq + std::fmt::Debug>(name: &str, a: &Told<T>, b: &Told<T>) {
    if let (Some(a), Some(b)) = (a.exact(), b.exact()) {
        assert_eq!(a, b, "{name}");
    }
}

proptest! {
    /// Any subset of the sources of one node gives the same pods as all of them do, as far as it tells.
    #[test]
    fn a_source_that_is_away_makes_facts_unknown_but_never_different(
        node in node_strategy(),
        subset in proptest::sample::subsequence(ALL.to_vec(), 0..=4),
    ) {
        let (all, some) = (node.join(&ALL), node.join(&subset));
        prop_assert!(some.doubtful.is_empty() && all.doubtful.is_empty());
        for pod in &some.pods {
            let whole = all.pod(&pod.uid).unwrap();
            agree("qos", &pod.qos, &whole.qos);
            agree("origin", &pod.origin, &whole.origin);
            prop_assert!(pod.name.is_empty() || (&pod.name, &pod.namespace) == (&whole.name, &whole.namespace));
            prop_assert!(pod.sandboxed.is_none() || pod.sandboxed == whole.sandboxed);
            prop_assert!(pod.cgroup.is_none() || pod.cgroup == whole.cgroup);
            for container in &pod.containers {
                let other = whole.container(&container.id).unwrap();
                prop_assert!(container.name.is_empty() || container.name == other.name);
                agree("request", &container.asked.cpu_request, &other.asked.cpu_request);
                agree("limit", &container.asked.cpu_limit, &other.asked.cpu_limit);
                agree("memory", &container.asked.memory_limit, &other.asked.memory_limit);
                agree("memory request", &container.asked.memory_request, &other.asked.memory_request);
            }
        }
        let told = subset.iter().any(|source| *source != Source::Links);
        prop_assert_eq!(some.pods.len(), if told { node.pods.len() } else { 0 }, "each pod once");
        let mut uids: Vec<_> = all.pods.iter().map(|pod| &pod.uid).collect();
        uids.sort();
        uids.dedup();
        prop_assert_eq!(uids.len(), node.pods.len());
    }
}
