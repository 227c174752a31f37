//! A machine with all kinds of resources, and pods that want some of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::*;
use crate::device::Device;
use crate::hint::NumaMask;
use crate::spec::ResourceManagersSpec;
use crate::spec::resource_managers::ReservedMemory;
use crate::topology::{CpuInfo, HugePages, Machine, NumaNode};
use crate::workload::{Container, ContainerKind, Labels, Pod, PodUid, QosClass, Resources};

const NODES: u32 = 5;
const NIC: &str = "example.com/nic";

/// Five NUMA nodes on two sockets with four CPUs each, the last without CPUs; 16 GiB and two huge pages each.
fn machine() -> Arc<Machine> {
    let cpu = |cpu| CpuInfo { cpu, core: cpu / 2, socket: cpu / 8, numa: cpu / 4, uncore_cache: Some(cpu / 4) };
    let hugepages = vec![HugePages { page_size_bytes: 1 << 30, count: 2 }];
    let distances = |id: u32| (0..NODES).map(|to| 10 + 5 * id.abs_diff(to)).collect();
    let node = |id| NumaNode { id, memory_bytes: 16 << 30, hugepages: hugepages.clone(), distances: distances(id) };
    Arc::new(Machine::new(&(0..16).map(cpu).collect::<Vec<_>>(), (0..NODES).map(node).collect(), None).unwrap())
}

pub(super) fn managers(
    policy: &str,
    scope: &str,
    options: &[(&str, &str)],
    cpu_options: &[(&str, &str)],
) -> ResourceManagers {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let kubelet = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        cpu_manager_policy_options: map(cpu_options),
        topology_manager_policy: policy.into(),
        topology_manager_scope: scope.into(),
        topology_manager_policy_options: map(options),
        memory_manager_policy: "Static".into(),
        reserved_system_cpus: "0".into(),
        eviction_hard: map(&[("memory.available", "1Gi")]),
        reserved_memory: vec![ReservedMemory { numa_node: 0, limits: map(&[("memory", "1Gi")]) }],
        feature_gates: [("CPUManagerPolicyAlphaOptions".to_owned(), true)].into(),
        ..ResourceManagersSpec::default()
    };
    let config = Arc::new(ManagersConfig { kubelet, extensions: Extensions::default() });
    let mut managers = ResourceManagers::start(&machine(), config, Restored::default(), BTreeMap::new()).unwrap();
    let near = [Some(1u64), Some(2), Some(2), Some(0b1100), Some(0b10000), None];
    let device = |(index, nodes): (usize, Option<u64>)| {
        (Arc::from(index.to_string()), Device { nodes: nodes.map(NumaMask), healthy: index != 1 })
    };
    managers.devices_mut().replace_pools([(NIC.into(), near.into_iter().enumerate().map(device).collect())].into());
    managers
}

#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) kind: ContainerKind,
    pub(super) cpus: u32,
    pub(super) gibibytes: u32,
    pub(super) huge_pages: u32,
    pub(super) devices: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Admit(Vec<Wish>),
    Again(usize),
    Start(usize),
    Remove(usize),
}

fn wish() -> impl Strategy<Value = Wish> {
    let kind = prop_oneof![
        1 => Just(ContainerKind::Init),
        1 => Just(ContainerKind::Sidecar),
        4 => Just(ContainerKind::App),
    ];
    (kind, 1..7u32, prop_oneof![1..6u32, 10..40u32], prop_oneof![3 => Just(0u32), 1 => 1..5u32], 0..3u32)
        .prop_map(|(kind, cpus, gibibytes, huge_pages, devices)| Wish { kind, cpus, gibibytes, huge_pages, devices })
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(wish(), 1..4).prop_map(Step::Admit),
        1 => (0..8usize).prop_map(Step::Again),
        2 => (0..8usize).prop_map(Step::Start),
        2 => (0..8usize).prop_map(Step::Remove),
    ]
}

pub(super) fn pod(number: usize, wishes: &[Wish]) -> Arc<Pod> {
    let container = |(index, wish): (usize, &Wish)| {
        let amounts = [
            ("cpu", wish.cpus.to_string()),
            ("memory", format!("{}Gi", wish.gibibytes)),
            ("hugepages-1Gi", format!("{}Gi", wish.huge_pages)),
            (NIC, wish.devices.to_string()),
        ];
        let amounts = amounts.iter().filter(|(_, text)| !text.starts_with('0'));
        let map: BTreeMap<_, _> = amounts.map(|(name, text)| ((*name).into(), text.parse().unwrap())).collect();
        let resources = Resources { requests: map.clone(), limits: map };
        Container { name: format!("c{index}"), kind: wish.kind, resources }
    };
    let mut wishes = wishes.to_vec();
    wishes.sort_by_key(|wish| wish.kind == ContainerKind::App);
    let containers: Vec<Container> = wishes.iter().enumerate().map(container).collect();
    Arc::new(Pod {
        uid: PodUid(format!("uid-{number}")),
        namespace: "default".into(),
        name: format!("pod-{number}"),
        qos: QosClass::of(&containers, None),
        containers,
        resources: None,
        annotations: Labels::default(),
    })
}
