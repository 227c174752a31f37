//! The life of CPUs: given, kept, used again, given back.

#![allow(clippy::unwrap_used, reason = "tests")]

mod beyond;
mod pod_level;

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::hint::{NumaMask, ProviderHints};
use crate::topology::shape::{A, B, C, D, Shape};
use crate::workload::{ContainerKind, Labels, MilliCpu, QosClass, ResourceName, Resources};

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

/// Containers as `kind:name:cpu`, the kind one of `i`, `s`, `a`.
fn pod(uid: &str, containers: &[&str]) -> Pod {
    let container = |text: &&str| {
        let mut parts = text.split(':');
        let kind = match parts.next().unwrap() {
            "i" => ContainerKind::Init,
            "s" => ContainerKind::Sidecar,
            _ => ContainerKind::App,
        };
        let name = parts.next().unwrap().to_owned();
        let cpu = BTreeMap::from([(ResourceName::Cpu, parts.next().unwrap().parse().unwrap())]);
        Container { name, kind, resources: Resources { requests: cpu.clone(), limits: cpu } }
    };
    Pod {
        uid: PodUid(uid.into()),
        namespace: "default".into(),
        name: uid.into(),
        qos: QosClass::Guaranteed,
        containers: containers.iter().map(container).collect(),
        resources: None,
        annotations: Labels::default(),
    }
}

fn config(options: &[&str], reserved: &str) -> CpuConfig {
    let listed = set(reserved);
    CpuConfig {
        policy: "static".into(),
        options: options.iter().map(|name| ((*name).to_owned(), "true".to_owned())).collect(),
        gates: CpuGates { alpha_options: true, ..CpuGates::default() },
        single_numa_node: false,
        reservation: CpuReservation { total: Some(MilliCpu(listed.len() as u64 * 1000)), listed },
        extensions: CpuExtensions::default(),
    }
}

fn manager(shape: Shape, options: &[&str], reserved: &str) -> CpuManager {
    let mut manager = CpuManager::new(Arc::new(shape.machine()), &config(options, reserved)).unwrap();
    manager.start(CpuState::default()).unwrap();
    manager
}

fn admit(manager: &mut CpuManager, pod: &Pod) -> Result<(), AllocationError> {
    pod.containers.iter().try_for_each(|container| manager.allocate(pod, container, &TopologyHint::NONE))
}

fn owned(manager: &CpuManager, pod: &Pod, container: &str) -> String {
    manager.state().cpus_of(&pod.uid, container).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn only_whole_requests_of_guaranteed_pods_own_cpus() {
    let mut manager = manager(A, &[], "0");
    let mixed = pod("mixed", &["a:whole:2", "a:milli:1000m", "a:part:1500m", "a:none:0"]);
    admit(&mut manager, &mixed).unwrap();
    let all: Vec<_> = mixed.containers.iter().map(|c| owned(&manager, &mixed, &c.name)).collect();
    assert_eq!(all, ["1,5", "4", "", ""]);
    for other in [
        Pod { qos: QosClass::Burstable, ..pod("burstable", &["a:c:1"]) },
        Pod { resources: Some(Resources::default()), ..pod("pod-level", &["a:c:1"]) },
    ] {
        admit(&mut manager, &other).unwrap();
        assert_eq!(owned(&manager, &other, "c"), "", "{}", other.name);
        assert!(manager.hints_for_pod(&other).is_empty(), "{}", other.name);
    }
}

#[test]
fn reserved_cpus_are_computed_or_listed() {
    type Row<'a> = (&'a str, &'a [&'a str], u64, &'a str, Result<&'a str, &'a str>);
    let rows: [Row<'_>; 6] = [
        ("one", &[], 500, "", Ok("0")),
        ("two", &[], 1001, "", Ok("0,4")),
        ("three", &[], 3000, "", Ok("0-1,4")),
        ("spread", &["distribute-cpus-across-cores"], 3000, "", Ok("0-2")),
        ("listed", &[], 2000, "3,7", Ok("3,7")),
        (
            "too many",
            &[],
            9000,
            "",
            Err(
                "new static policy error: [cpumanager] unable to reserve the required amount of CPUs (size of  did not equal 9)",
            ),
        ),
    ];
    for (name, options, milli, listed, expected) in rows {
        let mut config = config(options, listed);
        config.reservation.total = Some(MilliCpu(milli));
        let made = CpuManager::new(Arc::new(A.machine()), &config);
        let reserved = made.map(|manager| manager.reserved().to_string()).map_err(|error| error.to_string());
        assert_eq!(reserved, expected.map(str::to_owned).map_err(str::to_owned), "{name}");
    }
}

#[test]
fn settings_without_a_policy_behind_them_are_refused() {
    let refuse = |config: &CpuConfig| CpuManager::new(Arc::new(A.machine()), config).unwrap_err().to_string();
    let named = |policy: &str| CpuConfig { policy: policy.into(), ..config(&[], "0") };
    assert_eq!(refuse(&named("dynamic")), "unknown policy: \"dynamic\"");
    let none = CpuConfig { policy: "none".into(), ..config(&["b", "a"], "0") };
    let text = "new none policy error: None policy: received unsupported options=map[a:true b:true]";
    assert_eq!(refuse(&none), text);
    let reservation = |total| CpuConfig { reservation: CpuReservation { total, listed: set("") }, ..named("static") };
    let text = "[cpumanager] unable to determine reserved CPU resources for static policy";
    assert_eq!(refuse(&reservation(None)), text);
    let text = "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero";
    assert_eq!(refuse(&reservation(Some(MilliCpu(0)))), text);
}

#[test]
fn strictly_reserved_cpus_are_not_shared() {
    assert_eq!(manager(A, &[], "0").state().default_cpu_set, set("0-7"));
    let strict = manager(A, &["strict-cpu-reservation"], "0");
    assert_eq!(strict.state().default_cpu_set, set("1-7"));
    assert_eq!(strict.allocatable(), set("1-7"));
}

#[test]
fn cpus_of_init_containers_are_used_again_but_not_those_of_sidecars() {
    let mut manager = manager(A, &[], "0");
    let pod = pod("p", &["i:init:2", "s:sidecar:1", "a:app:3"]);
    admit(&mut manager, &pod).unwrap();
    let all: Vec<_> = pod.containers.iter().map(|c| owned(&manager, &pod, &c.name)).collect();
    assert_eq!(all, ["1,5", "4", "1-2,5"]);
    assert_eq!(manager.state().default_cpu_set, set("0,3,6-7"));
    manager.remove_container(&pod.uid, "init");
    assert_eq!(manager.state().default_cpu_set, set("0,3,6-7"), "the app still owns the CPUs of the init container");
    manager.retain_active(|_, container| container == "sidecar");
    assert_eq!(manager.state().default_cpu_set, set("0-3,5-7"));
}

#[test]
fn whole_cores_are_promised_before_anything_else_is_looked_at() {
    let mut manager = manager(A, &["full-pcpus-only"], "0");
    let odd = admit(&mut manager, &pod("odd", &["a:c:3"])).unwrap_err();
    assert_eq!(odd.to_string(), "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2");
    let four = pod("four", &["a:c:4"]);
    admit(&mut manager, &four).unwrap();
    assert_eq!(owned(&manager, &four, "c"), "1-2,5-6");
    let again = admit(&mut manager, &four).unwrap_err();
    let text = "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 2, requested CPUs = 4, CPUs per core = 2";
    assert_eq!(again.to_string(), text, "the kubelet refuses a running pod after a restart, and so does the decision");
}

#[test]
fn the_hinted_nodes_come_first() {
    let mut manager = manager(B, &[], "0");
    let pod = pod("p", &["a:c:2", "a:d:9"]);
    let hint = TopologyHint::new(NumaMask(0b10), true);
    for container in &pod.containers {
        manager.allocate(&pod, container, &hint).unwrap();
    }
    assert_eq!(owned(&manager, &pod, "c"), "4,12");
    assert_eq!(owned(&manager, &pod, "d"), "1,5-9,13-15");
}

#[test]
fn a_changed_request_cannot_be_satisfied() {
    let mut manager = manager(B, &[], "0");
    admit(&mut manager, &pod("p", &["a:c:2"])).unwrap();
    let grown = pod("p", &["a:c:4"]);
    let impossible = ProviderHints::impossible(ResourceName::Cpu);
    assert_eq!(manager.hints_for_container(&grown, &grown.containers[0]), impossible);
    assert_eq!(manager.hints_for_pod(&grown), impossible);
}

#[test]
fn a_restart_keeps_what_is_owned_and_forgets_reuse() {
    let mut manager = manager(A, &[], "0");
    let first = pod("p", &["i:init:2", "a:app:2"]);
    manager.allocate(&first, &first.containers[0], &TopologyHint::NONE).unwrap();
    let saved = manager.state().clone();
    manager.start(saved).unwrap();
    manager.allocate(&first, &first.containers[1], &TopologyHint::NONE).unwrap();
    assert_eq!((owned(&manager, &first, "init").as_str(), owned(&manager, &first, "app").as_str()), ("1,5", "2,6"));
}

/// Everything that must hold after every step.
fn check_invariants(manager: &CpuManager, machine: &Machine, strict: bool) {
    let state = manager.state();
    let mut seen = state.default_cpu_set.clone();
    for (pod, containers) in &state.assignments {
        let of_pod = containers.values().fold(CpuSet::new(), |all, cpus| all.union(cpus));
        assert!(of_pod.is_disjoint(&seen), "CPUs of {pod} belong to others, too");
        assert!(!containers.is_empty());
        seen.insert_all(&of_pod);
    }
    assert!(state.assigned().is_disjoint(manager.reserved()));
    assert_eq!(manager.reserved().is_subset(&state.default_cpu_set), !strict);
    let all = if strict { machine.online().difference(manager.reserved()) } else { machine.online().clone() };
    assert_eq!(seen, all);
}

#[test]
fn ten_thousand_admissions_and_removals_keep_every_invariant() {
    let runs: [(Shape, &[&str]); 4] = [
        (B, &[]),
        (D, &["full-pcpus-only", "strict-cpu-reservation"]),
        (C, &["distribute-cpus-across-numa", "full-pcpus-only"]),
        (D, &["prefer-align-cpus-by-uncorecache"]),
    ];
    for (seed, (shape, options)) in (0_u64..).zip(runs) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut manager = manager(shape, options, "0");
        let machine = Arc::clone(manager.machine());
        let strict = options.contains(&"strict-cpu-reservation");
        let mut pods: Vec<Pod> = Vec::new();
        for step in 0..10_000 {
            if random.random_bool(0.45) && !pods.is_empty() {
                let gone = pods.swap_remove(random.random_range(0..pods.len()));
                manager.retain_active(|pod, _| *pod != gone.uid);
                assert!(!manager.state().assignments.contains_key(&gone.uid));
            } else {
                let kinds = ["i:i", "s:s", "a:a", "a:b"];
                let chosen = kinds.iter().filter(|_| random.random_bool(0.6)).collect::<Vec<_>>();
                let texts: Vec<_> = chosen.iter().map(|kind| format!("{kind}:{}", random.random_range(0..6))).collect();
                let new = pod(&format!("pod-{step}"), &texts.iter().map(String::as_str).collect::<Vec<_>>());
                let before = manager.state().clone();
                match admit(&mut manager, &new) {
                    Ok(()) => {
                        for container in &new.containers {
                            let count = container.resources.cpu_request().whole().unwrap();
                            let cpus = manager.state().cpus_of(&new.uid, &container.name).cloned().unwrap_or_default();
                            assert_eq!(cpus.len(), count, "{} of step {step}", container.name);
                        }
                        pods.push(new);
                    }
                    Err(_) => {
                        manager.retain_active(|pod, _| *pod != new.uid);
                        assert_eq!(*manager.state(), before, "a refused pod leaves nothing behind");
                    }
                }
            }
            check_invariants(&manager, &machine, strict);
        }
        manager.retain_active(|_, _| false);
        let fresh = self::manager(shape, options, "0");
        assert_eq!(manager.state(), fresh.state(), "removing everything gives back exactly");
    }
}
