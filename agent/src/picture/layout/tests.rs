#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use super::*;
use crate::picture::topology::Usage;
use crate::reconcile::node_view::{CpuView, NumaNodeView};

/// `shape`: sockets, NUMA nodes per socket, caches per node, cores per cache, threads per core.
fn machine(shape: [u32; 5]) -> Topology {
    let [sockets, numas, caches, cores, threads] = shape;
    let all = sockets * numas * caches * cores;
    let cpu = |number: u32| {
        let core = number % all;
        let cache = core / cores;
        let numa_node = cache / caches;
        let place = CpuView { cpu: number, core, socket: numa_node / numas, numa_node, uncore_cache: Some(cache) };
        Cpu { place, usage: Usage::Free, isolated: false, holders: Vec::new() }
    };
    let memory = MemoryUse { memory_type: "memory".into(), total_bytes: 1 << 34, book: None };
    let nodes = (0..=sockets * numas).map(|id| NumaNodeView { id, memory: vec![memory.clone()] });
    Topology {
        cpus: (0..all * threads).map(cpu).collect(),
        numa_nodes: nodes.collect(),
        offline_cpus: vec![9000, 9001],
        ..Topology::default()
    }
}

fn check(area: &Area<'_>, cpus: &mut Vec<u32>) {
    if let What::Cpu(cpu) = area.what {
        cpus.push(cpu.place.cpu);
    }
    for child in &area.children {
        let inside = child.x >= area.x && child.y >= area.y;
        let inside = inside && child.x + child.width <= area.x + area.width;
        assert!(inside && child.y + child.height <= area.y + area.height, "{child:?} sticks out of its box");
        check(child, cpus);
    }
    for (index, a) in area.children.iter().enumerate() {
        for b in area.children.iter().skip(index + 1) {
            let apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
            assert!(apart, "{a:?} overlaps {b:?}");
        }
    }
}

#[test]
fn boxes_lie_in_their_boxes_and_do_not_overlap() {
    let shapes =
        [[1, 1, 1, 1, 1], [1, 1, 1, 4, 2], [2, 2, 8, 8, 2], [1, 1, 1, 192, 1], [8, 1, 1, 7, 1], [2, 1, 3, 5, 8]];
    for shape in shapes {
        let topology = machine(shape);
        let root = layout(&topology);
        let mut drawn = Vec::new();
        check(&root, &mut drawn);
        drawn.sort_unstable();
        assert_eq!(drawn, topology.cpus.iter().map(|cpu| cpu.place.cpu).collect::<Vec<_>>(), "{shape:?}");
        assert!(root.width <= MAX_WIDTH, "{shape:?} is {} wide", root.width);
    }
}

#[test]
fn five_hundred_cpus_fit_a_screen_or_two() {
    let topology = machine([2, 2, 8, 8, 2]);
    let root = layout(&topology);
    assert!(root.height < 1200, "{} high", root.height);
}
