//! Made-up machines with pods on them, for the picture.

use std::collections::BTreeSet;

use trimtab::reconcile::node_view::{CpuView, MachineView, MemoryBook, MemoryUse, NodeView, NumaNodeView};
use trimtab_domain::workload::QosClass;

use super::server::{container, pod};

const GIB: u64 = 1 << 30;

/// Units of one level in one unit of the level above.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sockets: u32,
    pub(crate) numas: u32,
    pub(crate) caches: u32,
    pub(crate) cores: u32,
    pub(crate) threads: u32,
}

/// 8 CPUs on one socket.
pub(crate) const SMALL: Shape = Shape { sockets: 1, numas: 1, caches: 1, cores: 4, threads: 2 };
/// 512 CPUs on two sockets.
pub(crate) const LARGE: Shape = Shape { sockets: 2, numas: 2, caches: 8, cores: 8, threads: 2 };

/// Threads are numbered as most firmware does: the first of every core, then the second of every core.
pub(crate) fn machine(shape: Shape) -> MachineView {
    let Shape { sockets, numas, caches, cores, threads } = shape;
    let all_cores = sockets * numas * caches * cores;
    let place = |cpu: u32| {
        let core = cpu % all_cores;
        let cache = core / cores;
        let numa_node = cache / caches;
        CpuView { cpu, core, socket: numa_node / numas, numa_node, uncore_cache: Some(cache) }
    };
    let node = |id: u32| {
        let book = MemoryBook { reserved_bytes: GIB, allocatable_bytes: 14 * GIB, held_bytes: 0 };
        let memory = MemoryUse { memory_type: "memory".into(), total_bytes: 16 * GIB, book: Some(book) };
        let book = MemoryBook { reserved_bytes: 0, allocatable_bytes: GIB, held_bytes: 0 };
        let pages = MemoryUse { memory_type: "hugepages-2Mi".into(), total_bytes: GIB, book: Some(book) };
        NumaNodeView { id, memory: vec![memory, pages] }
    };
    MachineView {
        cpus: (0..all_cores * threads).map(place).collect(),
        offline_cpus: Vec::new(),
        isolated_cpus: Vec::new(),
        numa_nodes: (0..sockets * numas).map(node).collect(),
    }
}

/// The first core is reserved; each name gets as many whole cores as are said, from the second on, and a quarter of the
/// memory of its node.
pub(crate) fn busy(shape: Shape, holders: &[(&str, u32)]) -> NodeView {
    let mut machine = machine(shape);
    let all: BTreeSet<u32> = machine.cpus.iter().map(|cpu| cpu.cpu).collect();
    let cores = u32::try_from(machine.cpus.len()).unwrap() / shape.threads;
    let of_core = |core: u32| (0..shape.threads).map(move |thread| core + thread * cores);
    let reserved: BTreeSet<u32> = of_core(0).collect();
    let mut next = 1;
    let mut held = BTreeSet::new();
    let mut pods = vec![pod("kube-system", "dns", QosClass::Burstable, vec![container("dns", &[], vec![])])];
    for (name, count) in holders {
        let cpus: BTreeSet<u32> = (next..next + count).flat_map(of_core).collect();
        let node = machine.cpus.iter().find(|cpu| cpus.contains(&cpu.cpu)).unwrap().numa_node;
        let book = machine.numa_nodes[node as usize].memory[0].book.as_mut().unwrap();
        book.held_bytes = (book.held_bytes + 7 * GIB / 2).min(book.allocatable_bytes);
        next += count;
        held.extend(&cpus);
        let cpus: Vec<u32> = cpus.into_iter().collect();
        pods.push(pod("data", name, QosClass::Guaranteed, vec![container("main", &cpus, vec![])]));
    }
    NodeView {
        machine,
        pods,
        allocatable_cpus: all.difference(&reserved).copied().collect(),
        shared_cpus: all.difference(&held).copied().collect(),
        reserved_cpus: reserved.into_iter().collect(),
        ..NodeView::default()
    }
}

/// Names that want to be more than names.
pub(crate) const HOSTILE: [&str; 6] = [
    "<script>window.owned=1</script>",
    "\"><img src=x onerror=\"window.owned=1\">",
    "</title></svg></table><h1 id=main>owned</h1>",
    "' onmouseover='window.owned=1",
    "\u{202e}gnp.exe\u{1b}[2J\0\u{ffff}",
    "]]>--><!--&lt;&amp;",
];
