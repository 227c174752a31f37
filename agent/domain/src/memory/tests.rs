//! The memory manager: worked examples, faults, and promises that hold whatever is asked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::checkpoint::{self, Layout};
use crate::quantity::Quantity;
use crate::reserved_memory::MemoryReservation;
use crate::topology::{CpuInfo, HugePages, NumaNode};
use crate::workload::{Labels, ResourceName, Resources};

const GIB: u64 = 1 << 30;

/// Nodes of 11 GiB, of which 1 GiB is reserved on each; `pages` huge pages of 2 MiB are taken off the memory.
fn machine(nodes: u32, pages: u64) -> Machine {
    let cpus = CpuInfo { cpu: 0, core: 0, socket: 0, numa: 0, uncore_cache: None };
    let node = |id| NumaNode {
        id,
        memory_bytes: 11 * GIB + (pages << 21),
        hugepages: vec![HugePages { page_size_bytes: 2 << 20, count: pages }],
        distances: Vec::new(),
    };
    Machine::new(&[cpus], (0..nodes).map(node).collect(), None).unwrap()
}

fn config(nodes: u32) -> MemoryConfig {
    let amount = |text: &str| ResourceListOf::from([(ResourceName::Memory, text.parse::<Quantity>().unwrap())]);
    MemoryConfig {
        policy: "Static".into(),
        reserved: (0..nodes.cast_signed())
            .map(|numa_node| MemoryReservation { numa_node, limits: amount("1Gi") })
            .collect(),
        node_reservation: amount(&format!("{nodes}Gi")),
        ..MemoryConfig::default()
    }
}

type ResourceListOf = BTreeMap<ResourceName, Quantity>;

fn manager(nodes: u32) -> MemoryManager {
    let mut manager = MemoryManager::new(&machine(nodes, 512), &config(nodes)).unwrap();
    manager.start(None).unwrap();
    manager
}

fn container(name: &str, kind: ContainerKind, asked: &[(&str, &str)]) -> Container {
    let requests: ResourceListOf = asked.iter().map(|(kind, text)| ((*kind).into(), text.parse().unwrap())).collect();
    Container { name: name.into(), kind, resources: Resources { limits: requests.clone(), requests } }
}

fn pod_of(uid: &str, containers: Vec<Container>) -> Pod {
    Pod {
        uid: PodUid(uid.into()),
        namespace: "default".into(),
        name: uid.into(),
        qos: QosClass::Guaranteed,
        containers,
        resources: None,
        annotations: Labels::default(),
    }
}

fn pod(uid: &str, memory: &str) -> Pod {
    pod_of(uid, vec![container("c", ContainerKind::App, &[("memory", memory)])])
}

/// Hints as `{nodes}+` or `{nodes}-`, joined by blanks.
fn shown(hints: &ProviderHints) -> String {
    let list = hints.resources().first().map(|r| r.hints.as_slice().to_vec()).unwrap_or_default();
    let one = |hint: &TopologyHint| format!("{:?}{}", hint.affinity.unwrap(), if hint.preferred { "+" } else { "-" });
    list.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn allocate(manager: &mut MemoryManager, pod: &Pod, hint: TopologyHint) -> Result<(), String> {
    manager.allocate(pod, &pod.containers[0], &hint).map_err(|error| error.to_string())
}

fn on(nodes: u64, preferred: bool) -> TopologyHint {
    TopologyHint::new(NumaMask(nodes), preferred)
}

/// Free GiB of memory per node, and the group of the first.
fn free(manager: &MemoryManager) -> (Vec<u64>, NumaMask) {
    let table = |node: &NodeMemory| manager.state().table(node.id, &ResourceName::Memory).unwrap().free / GIB;
    (manager.state().nodes().iter().map(table).collect(), manager.state().nodes()[0].group)
}

#[test]
fn single_nodes_and_groups_do_not_mix() {
    let mut manager = manager(2);
    let hints = |m: &MemoryManager, p: &Pod| shown(&m.hints_for_container(p, &p.containers[0]));
    let (small, large) = (pod("small", "4Gi"), pod("large", "15Gi"));
    assert_eq!(hints(&manager, &small), "{0}+ {1}+ {0, 1}-");
    assert_eq!(hints(&manager, &large), "{0, 1}+");
    allocate(&mut manager, &small, TopologyHint::NONE).unwrap();
    assert_eq!(free(&manager), (vec![6, 10], NumaMask(1)));
    assert_eq!(hints(&manager, &large), "", "16 GiB are free, but node 0 cannot join a group");
    assert_eq!(
        allocate(&mut manager, &large, TopologyHint::ANY).unwrap_err(),
        "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
    );
    let middle = pod("middle", "8Gi");
    assert_eq!(hints(&manager, &middle), "{1}+");
    assert_eq!(
        allocate(&mut manager, &middle, on(1, true)).unwrap_err(),
        "[memorymanager] failed to find NUMA nodes to extend the current topology hint"
    );
}

#[test]
fn group_serves_its_own_set_only_and_dissolves_node_by_node() {
    let mut manager = manager(2);
    let (large, small, tiny) = (pod("large", "15Gi"), pod("small", "4Gi"), pod("tiny", "1Gi"));
    allocate(&mut manager, &large, TopologyHint::ANY).unwrap();
    assert_eq!(free(&manager), (vec![0, 5], NumaMask(3)));
    assert_eq!(shown(&manager.hints_for_container(&small, &small.containers[0])), "{0, 1}-");
    allocate(&mut manager, &small, TopologyHint::NONE).unwrap();
    assert_eq!(
        allocate(&mut manager, &tiny, TopologyHint::ANY).unwrap_err(),
        "[memorymanager] failed to find the default preferred hint"
    );
    manager.remove_container(&large.uid, "c");
    assert_eq!(free(&manager), (vec![10, 6], NumaMask(3)), "amounts shift inside a group, the sum is right");
    manager.remove_container(&small.uid, "c");
    assert_eq!(free(&manager), (vec![10, 10], NumaMask(1)));
}

#[test]
fn hint_that_is_too_small_is_extended() {
    let mut manager = manager(2);
    allocate(&mut manager, &pod("large", "15Gi"), on(1, true)).unwrap();
    assert_eq!(manager.nodes_of(&PodUid("large".into()), "c"), Some(NumaMask(3)));
}

#[test]
fn set_imposed_by_others_may_not_break_a_group() {
    let mut manager = manager(2);
    allocate(&mut manager, &pod("a", "5Gi"), on(1, true)).unwrap();
    allocate(&mut manager, &pod("b", "5Gi"), on(2, true)).unwrap();
    assert_eq!(
        allocate(&mut manager, &pod("c", "5Gi"), on(3, true)).unwrap_err(),
        "[memorymanager] preferred hint violates NUMA node allocation"
    );
}

#[test]
fn unknown_huge_pages_and_fractions_are_refused_and_crash_nothing() {
    let mut manager = manager(2);
    let asked = [("memory", "1Gi"), ("hugepages-1Gi", "1Gi")];
    let unknown = pod_of("unknown", vec![container("c", ContainerKind::App, &asked)]);
    assert!(manager.hints_for_container(&unknown, &unknown.containers[0]).is_empty());
    assert!(allocate(&mut manager, &unknown, TopologyHint::ANY).is_err());
    assert!(allocate(&mut manager, &unknown, on(1, true)).is_err());
    let fraction = pod("fraction", "1000m");
    assert!(manager.hints_for_container(&fraction, &fraction.containers[0]).is_empty());
    assert_eq!(
        allocate(&mut manager, &fraction, on(1, true)).unwrap_err(),
        "[memorymanager] failed to represent quantity as int64"
    );
    assert_eq!(manager.state().iter().count(), 0);
}

#[test]
fn later_containers_use_the_memory_of_init_containers_again() {
    let mut manager = manager(2);
    let init = container("i", ContainerKind::Init, &[("memory", "6Gi")]);
    let app = container("a", ContainerKind::App, &[("memory", "4Gi")]);
    let pod = pod_of("p", vec![init.clone(), app.clone()]);
    manager.allocate(&pod, &init, &on(1, true)).unwrap();
    manager.allocate(&pod, &app, &on(1, true)).unwrap();
    let bytes = |name: &str| manager.state().blocks_of(&pod.uid, name).map(|blocks| blocks[0].bytes / GIB);
    assert_eq!((bytes("i"), bytes("a"), free(&manager).0), (Some(2), Some(4), vec![4, 10]));
    manager.container_started(&pod, "i");
    assert_eq!(free(&manager).0, [4, 10]);
    manager.container_started(&pod, "a");
    assert_eq!(free(&manager).0, [6, 10], "the init container is over");
    assert_eq!(manager.state().blocks_of(&pod.uid, "i"), None);
}

#[test]
fn admission_is_repeated_without_effect() {
    let mut manager = manager(2);
    let pod = pod("p", "4Gi");
    allocate(&mut manager, &pod, on(2, true)).unwrap();
    let before = manager.state().clone();
    assert_eq!(shown(&manager.hints_for_container(&pod, &pod.containers[0])), "{1}+");
    allocate(&mut manager, &pod, on(1, true)).unwrap();
    assert_eq!(*manager.state(), before);
    let resized = super::tests::pod("p", "5Gi");
    assert!(manager.hints_for_container(&resized, &resized.containers[0]).is_empty(), "no opinion on another size");
}

#[test]
fn policies_and_reservations_are_checked_when_it_is_made() {
    let made = |change: fn(&mut MemoryConfig)| {
        let mut config = config(2);
        change(&mut config);
        MemoryManager::new(&machine(2, 512), &config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(made(|_| ()), "");
    assert_eq!(made(|c| c.policy = "None".into()), "");
    assert_eq!(made(|c| c.policy = "static".into()), "unknown policy: \"static\"");
    assert_eq!(
        made(|c| c.policy = "BestEffort".into()),
        "policy \"BestEffort\" is not available for platform \"linux\""
    );
    assert_eq!(
        made(|c| c.reserved.truncate(1)),
        "the total amount \"1Gi\" of type \"memory\" is not equal to the value \"2Gi\" determined by Node Allocatable feature"
    );
    assert_eq!(
        made(|c| c.reserved[0].numa_node = 7),
        "the reserved memory configuration references a NUMA node 7 that does not exist on this machine"
    );
    assert_eq!(
        made(|c| {
            c.reserved.clear();
            c.node_reservation.clear();
        }),
        "[memorymanager] you should specify the system reserved memory"
    );
    let beyond = |c: &mut MemoryConfig| {
        for (list, text) in [(&mut c.reserved[0].limits, "20Gi"), (&mut c.node_reservation, "21Gi")] {
            list.insert(ResourceName::Memory, text.parse().unwrap());
        }
    };
    assert_eq!(made(beyond), "", "recorded: the kubelet starts, and the amount wraps round");
    assert_eq!(
        made(|c| {
            c.over_reserved = OverReserved::Refused;
            c.reserved[0].limits.insert(ResourceName::Memory, "20Gi".parse().unwrap());
            c.node_reservation.insert(ResourceName::Memory, "21Gi".parse().unwrap());
        }),
        "[memorymanager] NUMA node 0 has 12884901888 bytes of memory, less than the 22548578304 bytes that are reserved or in huge pages"
    );
}

/// One step of a sequence.
#[derive(Debug, Clone)]
enum Step {
    Admit { pod: u8, init: u8, memory: u8, pages: u8, nodes: u8 },
    Start { pod: u8 },
    Remove { pod: u8 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, 0..12_u8, 1..25_u8, 0..3_u8, 0..16_u8)
            .prop_map(|(pod, init, memory, pages, nodes)| Step::Admit { pod, init, memory, pages, nodes }),
        2 => (0..6_u8).prop_map(|pod| Step::Start { pod }),
        3 => (0..6_u8).prop_map(|pod| Step::Remove { pod }),
        1 => Just(Step::Restart),
    ]
}

fn build((uid, init, memory, pages): (u32, u8, u8, u8)) -> Pod {
    let (init, memory, pages) = (format!("{init}Gi"), format!("{memory}Gi"), format!("{}Mi", u32::from(pages) * 128));
    let mut containers = Vec::new();
    if init != "0Gi" {
        containers.push(container("i", ContainerKind::Init, &[("memory", &init)]));
    }
    let mut asked = vec![("memory", memory.as_str())];
    if pages != "0Mi" {
        asked.push(("hugepages-2Mi", &pages));
    }
    containers.push(container("a", ContainerKind::App, &asked));
    pod_of(&format!("pod-{uid}"), containers)
}

/// What must hold after every step.
fn check(manager: &MemoryManager) {
    for node in manager.state().nodes() {
        for kind in 0..manager.state().kinds().len() {
            let table = node.table(kind).unwrap();
            assert_eq!(table.reserved + table.free, table.allocatable, "conservation on node {}", node.id);
        }
        let touching = manager.state().iter().flat_map(|(_, _, blocks)| blocks);
        let touching = touching.filter(|block| block.nodes.contains(node.id)).count() as u64;
        assert_eq!(node.assignments, touching, "assignments of node {}", node.id);
        if touching == 0 {
            assert_eq!(node.group, NumaMask::single(node.id).unwrap(), "an empty node is in no group");
        }
    }
    for kind in manager.state().kinds() {
        let given = manager.state().iter().flat_map(|(_, _, blocks)| blocks).filter(|block| block.kind == *kind);
        let given: u64 = given.map(|block| block.bytes).sum();
        let reserved = manager.state().nodes().iter().map(|n| manager.state().table(n.id, kind).unwrap().reserved);
        assert_eq!(given, reserved.sum::<u64>(), "what containers have of {kind} is what is charged");
    }
}

/// Runs a sequence on four nodes; containers are admitted by one of their hints, as a topology manager without other
/// providers could.
///
/// A pod whose init container is over is not admitted again before a restart: as in the kubelet, what the init
/// container left behind would count although it was given back.
fn run(steps: impl IntoIterator<Item = Step>) {
    let mut manager = manager(4);
    let empty = manager.state().clone();
    let mut pods: BTreeMap<u8, Pod> = BTreeMap::new();
    let (mut started, mut serial) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Admit { pod, .. } if started.contains(&pod) => {}
            Step::Admit { pod, init, memory, pages, nodes } => {
                // A pod that comes back is another pod: UIDs are never used again.
                serial += 1;
                let built = pods.entry(pod).or_insert_with(|| build((serial, init, memory, pages))).clone();
                if !admit(&mut manager, &built, nodes) {
                    manager.retain_active(|uid, _| *uid != built.uid);
                    pods.remove(&pod);
                }
            }
            Step::Start { pod } => {
                if let Some(built) = pods.get(&pod) {
                    started.push(pod);
                    manager.container_started(built, "a");
                }
            }
            Step::Remove { pod } => {
                started.retain(|known| *known != pod);
                if let Some(pod) = pods.remove(&pod) {
                    manager.retain_active(|uid, _| *uid != pod.uid);
                }
            }
            Step::Restart => {
                restart(&mut manager);
                started.clear();
            }
        }
        check(&manager);
    }
    manager.retain_active(|_, _| false);
    assert_eq!(*manager.state(), empty, "everything is given back");
}

fn admit(manager: &mut MemoryManager, pod: &Pod, nodes: u8) -> bool {
    pod.containers.iter().all(|container| {
        let hints = manager.hints_for_container(pod, container);
        let list = hints.resources().first().map(|r| r.hints.as_slice().to_vec()).unwrap_or_default();
        let hint = list.get(usize::from(nodes) % list.len().max(1)).copied();
        manager.allocate(pod, container, &hint.unwrap_or(TopologyHint::ANY)).is_ok()
    })
}

fn restart(manager: &mut MemoryManager) {
    let text = checkpoint::write_memory_state("Static", &manager.state().to_checkpoint(), Layout::Container);
    let read = checkpoint::read_memory_state(text.as_bytes(), "Static", Layout::Container).unwrap();
    let before = manager.state().clone();
    manager.start(Some(&read)).unwrap();
    assert_eq!(*manager.state(), before, "a restart finds what was written");
}

#[test]
fn book_balances_through_ten_thousand_steps() {
    let mut random = StdRng::seed_from_u64(36);
    run((0..10_000).map(|_| {
        let pod = random.random_range(0..12);
        match random.random_range(0..12) {
            0..6 => Step::Admit {
                pod,
                init: random.random_range(0..12),
                memory: random.random_range(1..25),
                pages: random.random_range(0..3),
                nodes: random.random(),
            },
            6..8 => Step::Start { pod },
            8..11 => Step::Remove { pod },
            _ => Step::Restart,
        }
    }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn book_balances_through_any_sequence(steps in prop::collection::vec(step(), 1..120)) {
        run(steps);
    }

    /// On a machine small enough to list the sets, the search over nodes finds the same best set.
    #[test]
    fn search_over_nodes_agrees_with_the_list(
        steps in prop::collection::vec((0..20_u8, 1..30_u8, 0..4_u8, 0..255_u64), 0..6),
        (memory, pages, inside) in (1..60_u8, 0..6_u8, 0..32_u64),
    ) {
        let mut manager = manager(5);
        for (uid, memory, pages, nodes) in steps {
            let pod = build((u32::from(uid), 0, memory, pages));
            let _ = manager.allocate(&pod, &pod.containers[0], &on((nodes & 31).max(1), false));
        }
        let pod = build((99, 0, memory, pages));
        let request = MemoryRequest::of_container(&pod.containers[0]).unwrap();
        let order = &manager.policy.as_ref().unwrap().order;
        let listed = order.best(&manager.state, &manager.reusable, (&pod.uid, &request), NumaMask(inside));
        let searched = outlook::best(&manager.outlook(&pod, &request).unwrap(), NumaMask(inside));
        prop_assert_eq!(listed, searched);
    }
}

#[test]
fn pod_with_resources_of_its_own_shares_out_its_memory() {
    let own = |memory: &str| Resources {
        requests: [("cpu", "7"), ("memory", memory)].map(|(k, q)| (k.into(), q.parse().unwrap())).into(),
        limits: BTreeMap::new(),
    };
    let whole = |name, kind, memory| container(name, kind, &[("cpu", "2"), ("memory", memory)]);
    let mut pod = pod_of(
        "p",
        vec![
            container("before", ContainerKind::Init, &[]),
            whole("sidecar", ContainerKind::Sidecar, "1Gi"),
            container("after", ContainerKind::Init, &[]),
            whole("init", ContainerKind::Init, "3Gi"),
            whole("app", ContainerKind::App, "2Gi"),
            container("shared", ContainerKind::App, &[]),
        ],
    );
    pod.resources = Some(own("8Gi"));
    let mut off = manager(2);
    off.allocate_pod(&pod, &on(2, true)).unwrap();
    assert_eq!(off.state().iter().count(), 0, "the gate is off");
    assert!(off.hints_for_pod(&pod).is_empty());

    let mut manager = MemoryManager::new(&machine(2, 512), &MemoryConfig { pod_level: true, ..config(2) }).unwrap();
    manager.start(None).unwrap();
    assert_eq!(shown(&manager.hints_for_pod(&pod)), "{0}+ {1}+ {0, 1}-");
    manager.allocate_pod(&pod, &on(2, true)).unwrap();
    let gib = |name: &str| manager.state().blocks_of(&pod.uid, name).map(|blocks| blocks[0].bytes / GIB);
    let parts = ["before", "sidecar", "after", "init", "app", "shared"].map(|name| gib(name).unwrap());
    assert_eq!(parts, [8, 1, 7, 3, 2, 5]);
    assert_eq!(free(&manager).0, [10, 2], "only the pod is charged");
    let written = checkpoint::write_memory_state("Static", &manager.state().to_checkpoint(), Layout::Pod);
    let read = checkpoint::read_memory_state(written.as_bytes(), "Static", Layout::Pod).unwrap();
    let before = manager.state().clone();
    manager.start(Some(&read)).unwrap();
    assert_eq!(*manager.state(), before);
    for name in ["before", "after", "init", "app", "shared"] {
        manager.remove_container(&pod.uid, name);
        assert_eq!(free(&manager).0, [10, 2]);
    }
    manager.remove_container(&pod.uid, "sidecar");
    assert_eq!(free(&manager).0, [10, 10], "the last container gives the pod's memory back");
}

#[test]
fn wide_machine_is_answered() {
    let mut manager = manager(64);
    let large = pod("large", "333Gi");
    assert_eq!(allocate(&mut manager, &large, TopologyHint::ANY), Ok(()));
    assert_eq!(manager.nodes_of(&large.uid, "c"), Some(NumaMask((1 << 34) - 1)));
    let single = pod("single", "9Gi");
    assert_eq!(allocate(&mut manager, &single, TopologyHint::ANY), Ok(()));
    assert_eq!(manager.nodes_of(&single.uid, "c"), Some(NumaMask(1 << 34)));
    assert!(allocate(&mut manager, &pod("huge", "300Gi"), TopologyHint::ANY).is_err(), "29 nodes are left");
}
