//! Times of the placement decisions on large machines.
//!
//! The names are those of the figures that the kubelet's code was measured with, so the two can be compared.
#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![allow(missing_docs, reason = "criterion_main makes an undocumented function")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use trimtab_domain::cpu::{self, CpuOptions};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::hint::{
    Bound, Demand, HintList, NumaMask, Opinion, PreferredSets, ProviderHints, TopologyConfig, TopologyHint,
    TopologyManager,
};
use trimtab_domain::placement::{Extensions, ManagersConfig, ResourceManagers, Restored};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::spec::resource_managers::ReservedMemory;
use trimtab_domain::topology::{CpuInfo, Machine, NumaNode};
use trimtab_domain::workload::{Container, ContainerKind, Pod, PodUid, QosClass, ResourceName, Resources};

/// A machine with two threads per core, whose second threads are numbered after all first ones.
struct Shape {
    sockets: u32,
    numa_nodes: u32,
    cores_per_node: u32,
    cores_per_cache: u32,
}

/// 4096 CPUs, 16 sockets, 64 NUMA nodes.
const CPUS_4096: Shape = Shape { sockets: 16, numa_nodes: 64, cores_per_node: 32, cores_per_cache: 8 };

/// 256 CPUs, two sockets, eight NUMA nodes, two caches per node.
const CPUS_256: Shape = Shape { sockets: 2, numa_nodes: 8, cores_per_node: 16, cores_per_cache: 8 };

impl Shape {
    fn machine(&self) -> Machine {
        let cores = self.numa_nodes * self.cores_per_node;
        let cpus: Vec<CpuInfo> = (0..2 * cores)
            .map(|cpu| {
                let core = cpu % cores;
                let numa = core / self.cores_per_node;
                let socket = numa / (self.numa_nodes / self.sockets);
                CpuInfo { cpu, core, socket, numa, uncore_cache: Some(core / self.cores_per_cache) }
            })
            .collect();
        let row = |id| (0..self.numa_nodes).map(|other| if id == other { 10 } else { 20 }).collect();
        let nodes = (0..self.numa_nodes).map(|id| NumaNode {
            id,
            memory_bytes: 64 << 30,
            hugepages: Vec::new(),
            distances: row(id),
        });
        Machine::new(&cpus, nodes.collect(), None).unwrap()
    }
}

fn take(criterion: &mut Criterion) {
    let machine = CPUS_256.machine();
    let options = CpuOptions::default();
    let free = machine.online().difference(&CpuSet::parse("0,128").unwrap());
    criterion.bench_function("take/16-of-256", |bench| {
        bench.iter(|| cpu::take(&machine, black_box(&free), 16, &options).unwrap());
    });
    let distributed = CpuOptions { distribute_across_numa: true, ..options };
    criterion.bench_function("take/16-of-256-distributed", |bench| {
        bench.iter(|| cpu::take(&machine, black_box(&free), 16, &distributed).unwrap());
    });
}

fn hints(criterion: &mut Criterion) {
    let machine = CPUS_256.machine();
    let options = CpuOptions::default();
    let none = CpuSet::new();
    criterion.bench_function("hints/64-on-8-numa", |bench| {
        bench.iter(|| cpu::hints(&machine, black_box(machine.online()), &none, 64, &options));
    });
}

/// A topology manager of a machine with this many NUMA nodes.
fn topology(policy: &str, nodes: u32) -> TopologyManager {
    let config = TopologyConfig { policy: policy.into(), wide_machines: Some(64), ..TopologyConfig::default() };
    let nodes: Vec<(u32, &[u32])> = (0..nodes).map(|node| (node, [].as_slice())).collect();
    TopologyManager::new(&config, &nodes).unwrap()
}

/// Three resources, each of which names every node set and prefers the single nodes. The lists differ in which node
/// they lack, so that the narrowest answer is not the first one.
fn full_lists(nodes: u32) -> Vec<ProviderHints> {
    let list = |without: u32| {
        let masks = (1..1u64 << nodes).map(NumaMask).filter(|mask| *mask != NumaMask(1 << without));
        let hints: Vec<TopologyHint> = masks.map(|mask| TopologyHint::new(mask, mask.len() == 1)).collect();
        ProviderHints::single(ResourceName::Cpu, HintList::from(hints))
    };
    (0..3).map(list).collect()
}

/// The same, but no hint is preferred: every combination counts.
fn crowded_lists(nodes: u32) -> Vec<ProviderHints> {
    let hints = || (1..1u64 << nodes).map(|mask| TopologyHint::new(NumaMask(mask), false)).collect::<Vec<_>>();
    (0..3).map(|_| ProviderHints::single(ResourceName::Cpu, HintList::from(hints()))).collect()
}

/// Three resources on 64 nodes: `each` of 16 on every node, of which `taken` are gone on the first half.
fn demands(need: u64, taken: u64, len: u32) -> Vec<Opinion> {
    let weights = |shift: u32| (0..64).map(|node| if (node + shift) % 64 < 32 { 16 - taken } else { 16 }).collect();
    let demand = |shift| Demand {
        resource: ResourceName::Cpu,
        universe: NumaMask(u64::MAX),
        required: NumaMask::EMPTY,
        bounds: vec![Bound::sum(weights(shift), need)],
        isolated: Vec::new(),
        preferred: PreferredSets { len, sockets: None },
    };
    (0..3).map(|shift| Opinion::Sets(demand(shift * 7))).collect()
}

fn merge(criterion: &mut Criterion) {
    for nodes in [8, 16] {
        let name = if nodes == 8 { "merge/8-numa-3-providers".to_owned() } else { format!("merge/{nodes}-numa") };
        let (manager, lists) = (topology("restricted", nodes), full_lists(nodes));
        criterion.bench_function(&name, |bench| bench.iter(|| manager.merge(black_box(&lists))));
        let lists = crowded_lists(nodes);
        criterion.bench_function(&format!("{name}-none-preferred"), |bench| {
            bench.iter(|| manager.merge(black_box(&lists)));
        });
    }
    let manager = topology("best-effort", 64);
    let agreed = demands(64, 8, 4);
    criterion.bench_function("merge/64-numa", |bench| bench.iter(|| manager.merge_demands(black_box(&agreed))));
    let crowded = demands(64, 8, 3);
    criterion.bench_function("merge/64-numa-none-preferred", |bench| {
        bench.iter(|| manager.merge_demands(black_box(&crowded)));
    });
}

/// All three managers, policy `restricted`.
fn managers(shape: &Shape, options: &[(&str, &str)]) -> ResourceManagers {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let kubelet = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        cpu_manager_policy_options: map(options),
        topology_manager_policy: "restricted".into(),
        memory_manager_policy: "Static".into(),
        reserved_system_cpus: "0".into(),
        eviction_hard: map(&[("memory.available", "1Gi")]),
        reserved_memory: vec![ReservedMemory { numa_node: 0, limits: map(&[("memory", "1Gi")]) }],
        ..ResourceManagersSpec::default()
    };
    let extensions = Extensions { wide_machines: true, ..Extensions::default() };
    let config = Arc::new(ManagersConfig { kubelet, extensions });
    ResourceManagers::start(&Arc::new(shape.machine()), config, Restored::default(), BTreeMap::new()).unwrap()
}

fn pod(uid: usize, cpus: &str, memory: &str) -> Arc<Pod> {
    let amounts = [("cpu", cpus), ("memory", memory)];
    let map: BTreeMap<_, _> = amounts.map(|(name, text)| (name.into(), text.parse().unwrap())).into();
    let resources = Resources { requests: map.clone(), limits: map };
    let containers = vec![Container { name: "app".into(), kind: ContainerKind::App, resources }];
    Arc::new(Pod {
        uid: PodUid(format!("uid-{uid}")),
        namespace: "default".into(),
        name: "pod".into(),
        qos: QosClass::of(&containers, None),
        containers,
        resources: None,
        annotations: BTreeMap::new(),
    })
}

/// One Guaranteed pod is admitted and removed, on a machine that already runs a few.
fn admit(criterion: &mut Criterion) {
    let rows =
        [("admit/256cpu-8numa", CPUS_256, 4, ("16", "16Gi")), ("admit/4096cpu-64numa", CPUS_4096, 40, ("96", "100Gi"))];
    for (name, shape, neighbours, (cpus, memory)) in rows {
        let mut managers = managers(&shape, &[]);
        for uid in 1..=neighbours {
            managers.admit(&pod(uid, "8", "8Gi")).unwrap();
        }
        let wish = pod(0, cpus, memory);
        criterion.bench_function(name, |bench| {
            bench.iter(|| {
                managers.admit(black_box(&wish)).unwrap();
                managers.remove(&wish.uid);
            });
        });
    }
}

criterion_group!(benches, take, hints, merge, admit);
criterion_main!(benches);
