//! Times of the placement decisions on large machines.
//!
//! The names are those of the figures that the kubelet's code was measured with, so the two can be compared.
#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![allow(missing_docs, reason = "criterion_group makes an undocumented function")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group};
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
use trimtab_domain::workload::{Container, ContainerKind, Labels, Pod, PodUid, QosClass, ResourceName, Resources};

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

/// One decision that can be repeated.
type Decision = Box<dyn FnMut()>;

/// Makes one.
type Make = fn() -> Decision;

fn decision<T>(mut decide: impl FnMut() -> T + 'static) -> Decision {
    Box::new(move || {
        black_box(decide());
    })
}

/// Every decision, by the name of its figure; made when it is measured.
const DECISIONS: [(&str, Make); 11] = [
    ("take/16-of-256", || take(CpuOptions::default())),
    ("take/16-of-256-distributed", || take(CpuOptions { distribute_across_numa: true, ..CpuOptions::default() })),
    ("hints/64-on-8-numa", hints),
    ("merge/8-numa-3-providers", || merge(full_lists(8), 8)),
    ("merge/8-numa-3-providers-none-preferred", || merge(crowded_lists(8), 8)),
    ("merge/16-numa", || merge(full_lists(16), 16)),
    ("merge/16-numa-none-preferred", || merge(crowded_lists(16), 16)),
    ("merge/64-numa", || merge_wide(demands(64, 8, 4))),
    ("merge/64-numa-none-preferred", || merge_wide(demands(64, 8, 3))),
    ("admit/256cpu-8numa", || admit(&CPUS_256, 4, ("16", "16Gi"))),
    ("admit/4096cpu-64numa", || admit(&CPUS_4096, 40, ("96", "100Gi"))),
];

fn take(options: CpuOptions) -> Decision {
    let machine = CPUS_256.machine();
    let free = machine.online().difference(&CpuSet::parse("0,128").unwrap());
    decision(move || cpu::take(&machine, black_box(&free), 16, &options).unwrap())
}

fn hints() -> Decision {
    let machine = CPUS_256.machine();
    let (options, none) = (CpuOptions::default(), CpuSet::new());
    decision(move || cpu::hints(&machine, black_box(machine.online()), &none, 64, &options))
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

fn merge(lists: Vec<ProviderHints>, nodes: u32) -> Decision {
    let manager = topology("restricted", nodes);
    decision(move || manager.merge(black_box(&lists)))
}

fn merge_wide(demands: Vec<Opinion>) -> Decision {
    let manager = topology("best-effort", 64);
    decision(move || manager.merge_demands(black_box(&demands)))
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
        annotations: Labels::default(),
    })
}

/// One Guaranteed pod is admitted and removed, on a machine that already runs a few.
fn admit(shape: &Shape, neighbours: usize, (cpus, memory): (&str, &str)) -> Decision {
    let mut managers = managers(shape, &[]);
    for uid in 1..=neighbours {
        managers.admit(&pod(uid, "8", "8Gi")).unwrap();
    }
    let wish = pod(0, cpus, memory);
    decision(move || {
        managers.admit(black_box(&wish)).unwrap();
        managers.remove(&wish.uid);
    })
}

fn measure(criterion: &mut Criterion) {
    for (name, make) in DECISIONS {
        let mut decide = make();
        criterion.bench_function(name, |bench| bench.iter(&mut decide));
    }
}

criterion_group!(benches, measure);

/// `--count NAME TIMES` makes the named decision so often and nothing else, for tools that count instructions or
/// allocations (`benches/count.sh`).
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some([_, name, times]) = arguments.windows(3).find(|window| window.first().is_some_and(|a| a == "--count")) {
        let (_, make) = DECISIONS.iter().find(|(known, _)| known == name).unwrap();
        let mut decide = make();
        (0..times.parse().unwrap()).for_each(|_: u32| decide());
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
