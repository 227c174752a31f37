//! Admission, adoption and removal on a small machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod promises;
mod random;
mod replan;
mod wide;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::cpuset::CpuSet;
use crate::spec::ResourceManagersSpec;
use crate::spec::resource_managers::ReservedMemory;
use crate::topology::{CpuInfo, Machine, NumaNode};
use crate::workload::{Container, ContainerKind, Labels, PodUid, QosClass, Resources};

/// Two sockets with one NUMA node each, four cores of two threads: CPUs 0-7 on node 0, 8-15 on node 1.
fn machine() -> Arc<Machine> {
    let cpu = |cpu| CpuInfo { cpu, core: cpu / 2, socket: cpu / 8, numa: cpu / 8, uncore_cache: Some(cpu / 8) };
    let node = |id| NumaNode { id, memory_bytes: 16 << 30, hugepages: Vec::new(), distances: vec![10, 20] };
    Arc::new(Machine::new(&(0..16).map(cpu).collect::<Vec<_>>(), vec![node(0), node(1)], None).unwrap())
}

fn managers(policy: &str, scope: &str) -> ResourceManagers {
    let kubelet = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        topology_manager_policy: policy.into(),
        topology_manager_scope: scope.into(),
        reserved_system_cpus: "0-1".into(),
        ..ResourceManagersSpec::default()
    };
    let config = Arc::new(ManagersConfig { kubelet, extensions: Extensions::default() });
    ResourceManagers::start(&machine(), config, Restored::default(), BTreeMap::new()).unwrap()
}

fn pod(uid: &str, cpus: &[&str]) -> Arc<Pod> {
    let container = |(index, cpu): (usize, &&str)| {
        let map: BTreeMap<_, _> =
            [("cpu", *cpu), ("memory", "1Gi")].map(|(name, text)| (name.into(), text.parse().unwrap())).into();
        let resources = Resources { requests: map.clone(), limits: map };
        Container { name: format!("c{index}"), kind: ContainerKind::App, resources }
    };
    let containers: Vec<Container> = cpus.iter().enumerate().map(container).collect();
    Arc::new(Pod {
        uid: PodUid(uid.into()),
        namespace: "default".into(),
        name: uid.into(),
        qos: QosClass::of(&containers, None),
        containers,
        resources: None,
        annotations: Labels::default(),
    })
}

fn cpus(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

#[test]
fn a_pod_gets_its_cpus_on_one_node_and_gives_them_back() {
    let mut managers = managers("restricted", "container");
    let pod = pod("a", &["4", "8"]);
    managers.admit(&pod).unwrap();
    assert_eq!(managers.cpus_of(&pod.uid, "c0"), Some(&cpus("2-5")));
    assert_eq!(managers.cpus_of(&pod.uid, "c1"), Some(&cpus("8-15")));
    assert_eq!(managers.shared_cpus(), &cpus("0-1,6-7"));
    assert_eq!(managers.assignments().count(), 2);
    managers.remove(&pod.uid);
    assert_eq!(managers.shared_cpus(), &cpus("0-15"));
    assert_eq!(managers.assignments().count(), 0);
}

#[test]
fn a_refused_pod_keeps_nothing_and_tells_what_it_had() {
    let mut managers = managers("restricted", "container");
    let refused = managers.admit(&pod("a", &["4", "5", "5"])).unwrap_err();
    assert_eq!(refused.rejection.reason(), RejectionReason::TopologyAffinity);
    assert_eq!(refused.leftover.len(), 2);
    assert_eq!(refused.leftover[0].cpus, Some(cpus("2-5")));
    assert_eq!(managers.shared_cpus(), &cpus("0-15"));
    assert!(managers.active().is_empty());
}

#[test]
fn the_pure_admission_leaves_its_input_alone() {
    let before = managers("best-effort", "pod");
    let after = admit(&before, &pod("a", &["4"])).unwrap();
    assert_eq!((before.assignments().count(), after.assignments().count()), (0, 1));
    assert!(admit(&after, &pod("b", &["11"])).is_err());
}

#[test]
fn what_runs_is_adopted_but_no_cpu_twice() {
    let mut managers = managers("restricted", "container");
    let (first, second) = (pod("a", &["2"]), pod("b", &["2"]));
    managers.adopt(&first, "c0", &cpus("4-5"), None).unwrap();
    managers.adopt(&first, "c0", &cpus("4-5"), None).unwrap();
    assert_eq!(managers.shared_cpus(), &cpus("0-3,6-15"));
    let mut conflict = |pod, list| *managers.adopt(pod, "c0", &cpus(list), None).unwrap_err();
    assert!(matches!(conflict(&second, "5-6"), Conflict::Owned { cpus: c, .. } if c == cpus("5")));
    assert!(matches!(conflict(&second, "1-2"), Conflict::NotAllocatable { .. }));
    assert!(matches!(conflict(&first, "6-7"), Conflict::OtherCpus { .. }));
    assert!(!managers.active().contains_key(&second.uid), "a conflict records nothing");
    managers.admit(&first).unwrap();
    assert_eq!(managers.cpus_of(&first.uid, "c0"), Some(&cpus("4-5")), "an admission keeps what was adopted");
}

#[test]
fn a_decision_is_explained_without_being_made() {
    let managers = managers("restricted", "container");
    let explanation = managers.explain(&pod("a", &["4", "5", "5"]));
    assert_eq!(explanation.rejection, Some(Rejection::Affinity));
    assert_eq!(explanation.merges.len(), 3);
    assert_eq!(explanation.merges[0].why, MergeReason::Agreed);
    assert_eq!(explanation.merges[2].why, MergeReason::Crowded(vec!["cpu".into()]));
    let cpus: Vec<_> = explanation.cpus.iter().map(|why| (why.container.as_str(), why.cpus.len())).collect();
    assert_eq!(cpus, [("c0", 4), ("c1", 5)], "the list ends with the refused container");
    assert_eq!(managers.assignments().count(), 0);
}

#[test]
fn a_restart_keeps_owners_and_forgets_hints() {
    let mut managers = managers("restricted", "container");
    let pod = pod("a", &["4"]);
    managers.admit(&pod).unwrap();
    assert!(managers.hint_of(&pod.uid, "c0").is_some());
    let again = managers.restart().unwrap();
    assert_eq!(again.cpus_of(&pod.uid, "c0"), managers.cpus_of(&pod.uid, "c0"));
    assert_eq!(again.hint_of(&pod.uid, "c0"), None);
}

#[test]
fn reservations_beyond_the_machine_are_refused_on_request_only() {
    let start = |strict_reservations, cpu: &str, memory: [&str; 2]| {
        let text = |text: &str| text.to_owned();
        let reserved = |numa_node, text: &str| ReservedMemory {
            numa_node,
            limits: [("memory".to_owned(), text.to_owned())].into(),
        };
        let kubelet = ResourceManagersSpec {
            memory_manager_policy: text("Static"),
            reserved_memory: vec![reserved(0, memory[0]), reserved(1, memory[1])],
            system_reserved: [(text("memory"), text("20Gi")), (text("cpu"), text(cpu))].into(),
            eviction_hard: BTreeMap::new(),
            ..ResourceManagersSpec::default()
        };
        let extensions = Extensions { strict_reservations, ..Extensions::default() };
        let config = Arc::new(ManagersConfig { kubelet, extensions });
        let started = ResourceManagers::start(&machine(), config, Restored::default(), BTreeMap::new());
        started.err().map(|error| (error.stage, error.message))
    };
    for (name, cpu, memory, strict) in [
        ("even", "1", ["10Gi", "10Gi"], None),
        (
            "one node has less",
            "1",
            ["19Gi", "1Gi"],
            Some((
                StartStage::MemoryManager,
                "[memorymanager] NUMA node 0 has 17179869184 bytes of memory, less than the 20401094656 bytes that are reserved or in huge pages",
            )),
        ),
        (
            "too few CPUs",
            "17",
            ["10Gi", "10Gi"],
            Some((
                StartStage::Config,
                "invalid Node Allocatable configuration. Resource \"cpu\" has a reservation of 17 but capacity of 16. Expected capacity >= reservation.",
            )),
        ),
    ] {
        assert_eq!(start(false, cpu, memory), None, "{name}, as recorded");
        assert_eq!(start(true, cpu, memory), strict.map(|(stage, text)| (stage, text.to_owned())), "{name}");
    }
}
