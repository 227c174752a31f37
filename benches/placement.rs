//! Times of the placement decisions on large machines.
//!
//! The names are those of the figures that the kubelet's code was measured with, so the two can be compared.
#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![allow(missing_docs, reason = "criterion_main makes an undocumented function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use trimtab_domain::cpu::{self, CpuOptions};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::topology::{CpuInfo, Machine, NumaNode};

/// A machine with two threads per core, whose second threads are numbered after all first ones.
struct Shape {
    sockets: u32,
    numa_nodes: u32,
    cores_per_node: u32,
    cores_per_cache: u32,
}

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

criterion_group!(benches, take, hints);
criterion_main!(benches);
