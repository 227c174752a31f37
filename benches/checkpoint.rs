//! Times of the state files: both texts, checksums included, for a node with 250 containers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops at the first surprise")]
#![allow(missing_docs, reason = "criterion_main makes an undocumented function")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use trimtab_domain::checkpoint::{
    InitialContainers, Layout, read_cpu_state, read_memory_state, write_cpu_state, write_memory_state,
};
use trimtab_domain::cpu::CpuState;
use trimtab_domain::hint::{NumaMask, TopologyHint};
use trimtab_domain::memory::{MemoryConfig, MemoryManager};
use trimtab_domain::quantity::Quantity;
use trimtab_domain::reserved_memory::MemoryReservation;
use trimtab_domain::topology::{CpuInfo, HugePages, Machine, NumaNode};
use trimtab_domain::workload::{Container, ContainerKind, Labels, Pod, PodUid, QosClass, Resources};

const CONTAINERS: u32 = 250;

/// Eight NUMA nodes with two sizes of huge pages.
fn machine() -> Machine {
    let cpu = |cpu| CpuInfo { cpu, core: cpu, socket: 0, numa: cpu % 8, uncore_cache: None };
    let node = |id| NumaNode {
        id,
        memory_bytes: 256 << 30,
        hugepages: [2 << 20, 1 << 30].map(|page_size_bytes| HugePages { page_size_bytes, count: 8 }).into(),
        distances: Vec::new(),
    };
    Machine::new(&(0..512).map(cpu).collect::<Vec<_>>(), (0..8).map(node).collect(), None).unwrap()
}

fn pods() -> Vec<Pod> {
    let requests: BTreeMap<_, _> =
        [("cpu", "2"), ("memory", "2Gi")].map(|(name, text)| (name.into(), text.parse().unwrap())).into();
    let resources = Resources { limits: requests.clone(), requests };
    let container = Container { name: "application".into(), kind: ContainerKind::App, resources };
    let pod = |index| Pod {
        uid: PodUid(format!("1f8a0da1-e7c3-203a-d968-f5758d24{index:04}")),
        namespace: "default".into(),
        name: format!("pod-{index}"),
        qos: QosClass::Guaranteed,
        containers: vec![container.clone()],
        resources: None,
        annotations: Labels::default(),
    };
    (0..CONTAINERS).map(pod).collect()
}

fn states() -> (CpuState, MemoryManager) {
    let amount = BTreeMap::from([("memory".into(), Quantity::parse("1Gi").unwrap())]);
    let config = MemoryConfig {
        policy: "Static".into(),
        reserved: vec![MemoryReservation { numa_node: 0, limits: amount.clone() }],
        node_reservation: amount,
        ..MemoryConfig::default()
    };
    let mut memory = MemoryManager::new(&machine(), &config).unwrap();
    memory.start(None).unwrap();
    let mut cpu = CpuState { default_cpu_set: (500..512).collect(), ..CpuState::default() };
    for (index, pod) in (0..).zip(pods()) {
        let hint = TopologyHint::new(NumaMask::single(index % 8).unwrap(), true);
        memory.allocate(&pod, &pod.containers[0], &hint).unwrap();
        let cpus = [index * 2, index * 2 + 1].into_iter().collect();
        cpu.assignments.insert(pod.uid, [("application".to_owned(), cpus)].into());
    }
    (cpu, memory)
}

fn checkpoint(criterion: &mut Criterion) {
    let (cpu, memory) = states();
    let write = |cpu: &CpuState, memory: &MemoryManager| {
        let cpu = write_cpu_state("static", cpu, Layout::Container);
        (cpu, write_memory_state("Static", &memory.state().to_checkpoint(), Layout::Container))
    };
    criterion.bench_function("checkpoint/write-250-containers", |bench| {
        bench.iter(|| write(black_box(&cpu), black_box(&memory)));
    });
    let (cpu_text, memory_text) = write(&cpu, &memory);
    let initial = InitialContainers::new();
    criterion.bench_function("checkpoint/read-250-containers", |bench| {
        bench.iter(|| {
            let cpu = read_cpu_state(black_box(cpu_text.as_bytes()), "static", Layout::Container, &initial);
            (cpu.unwrap(), read_memory_state(memory_text.as_bytes(), "Static", Layout::Container).unwrap())
        });
    });
    let mut empty = memory;
    empty.retain_active(|_, _| false);
    let pod = pods().swap_remove(0);
    criterion.bench_function("memory/hints-on-8-numa", |bench| {
        bench.iter(|| empty.hints_for_container(black_box(&pod), &pod.containers[0]));
    });
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
