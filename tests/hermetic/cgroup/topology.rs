//! Hardware from sysfs.

use std::sync::Arc;

use trimtab::adapters::topology_sysfs::SysfsTopology;
use trimtab::ports::machine::{Hardware, MachineSource};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::topology::Machine;

use crate::support::fake_cgroups::{Shape, make_topology};
use crate::support::fake_host::FakeHost;

const TWO_NODES: Shape = Shape { nodes: 2, cores_per_node: 2, threads: 2 };

fn read(host: &FakeHost) -> Hardware {
    SysfsTopology::new(Arc::new(host.clone())).read().unwrap()
}

fn machine(hardware: &Hardware) -> Machine {
    Machine::new(&hardware.cpus, hardware.nodes.clone(), hardware.sockets).unwrap()
}

fn cache(host: &FakeHost, cpu: u32, level: u32, id: u32, map: &str) {
    let directory = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{level}");
    for (file, text) in [
        ("id", id.to_string()),
        ("level", level.to_string()),
        ("size", "1024K".into()),
        ("type", "Unified".into()),
        ("shared_cpu_map", map.into()),
    ] {
        host.file(format!("{directory}/{file}"), format!("{text}\n"));
    }
}

#[test]
fn cpus_cores_nodes_and_memory_are_read() {
    let host = FakeHost::new();
    make_topology(&host, TWO_NODES);
    host.file("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
    host.file("/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
    host.file("/sys/devices/system/cpu/isolated", "3,7\n");
    host.file("/proc/cpuinfo", "processor : 0\nphysical id : 0\n\nprocessor : 1\nphysical id : 1\n");
    let hardware = read(&host);
    let machine = machine(&hardware);
    assert_eq!((machine.num_cpus(), machine.num_cores(), machine.num_numas(), machine.num_sockets()), (8, 4, 2, 2));
    assert_eq!(machine.with_siblings(&CpuSet::range(2, 2)).to_string(), "2,6");
    assert_eq!((hardware.isolated.to_string(), hardware.offline.to_string()), ("3,7".into(), String::new()));
    let node = &hardware.nodes[1];
    assert_eq!((node.memory_bytes, node.distances.as_slice()), (16 << 30, &[20, 10][..]));
    let pages: Vec<_> = node.hugepages.iter().map(|pages| (pages.page_size_bytes, pages.count)).collect();
    assert_eq!(pages, [(2 << 20, 512), (1 << 30, 0)]);
    assert_eq!(hardware.memory_bytes, 32 << 30);
}

#[test]
fn offline_cpus_holes_and_nodes_without_cpus_are_no_obstacle() {
    let host = FakeHost::new();
    make_topology(&host, TWO_NODES);
    host.file("/sys/devices/system/cpu/online", "0,2-7\n");
    // A CPU without a place, and a node with memory alone.
    host.vanish("/sys/devices/system/cpu/cpu4/topology/core_id");
    host.file("/sys/devices/system/node/node10/meminfo", "Node 10 MemTotal:  1024 kB\n");
    let hardware = read(&host);
    let cpus: CpuSet = hardware.cpus.iter().map(|info| info.cpu).collect();
    assert_eq!((cpus.to_string(), hardware.offline.to_string()), ("0,2-3,5-7".into(), "1".into()));
    let machine = machine(&hardware);
    assert_eq!(machine.nodes().iter().map(|node| node.id).collect::<Vec<_>>(), [0, 1, 10]);
    assert_eq!(machine.num_numas(), 2);
    assert_eq!(machine.place(5).unwrap().core, 5, "a core is named by its lowest online thread");
}

#[test]
fn without_numa_each_package_is_a_node_without_memory() {
    let host = FakeHost::new();
    make_topology(&host, TWO_NODES);
    host.vanish("/sys/devices/system/node");
    let hardware = read(&host);
    assert_eq!(hardware.nodes.iter().map(|node| (node.id, node.memory_bytes)).collect::<Vec<_>>(), [(0, 0), (1, 0)]);
    assert_eq!(hardware.cpus.len(), 8);
    assert_eq!(hardware.sockets, None);
}

#[test]
fn a_cache_of_a_part_of_the_node_is_an_uncore_cache() {
    let host = FakeHost::new();
    make_topology(&host, Shape { nodes: 1, cores_per_node: 4, threads: 1 });
    for cpu in 0..4 {
        cache(&host, cpu, 1, cpu, "00000000,0000000f");
        cache(&host, cpu, 3, cpu / 2, if cpu < 2 { "3" } else { "c" });
    }
    let uncore = |hardware: &Hardware| hardware.cpus.iter().map(|info| info.uncore_cache).collect::<Vec<_>>();
    assert_eq!(uncore(&read(&host)), [Some(0), Some(0), Some(1), Some(1)]);
    // One cache for the whole node is none of this kind.
    for cpu in 0..4 {
        cache(&host, cpu, 3, 0, "f");
    }
    assert_eq!(uncore(&read(&host)), [None; 4]);
    // A file that cannot be read ends the search in this node.
    for cpu in 0..4 {
        cache(&host, cpu, 3, cpu / 2, if cpu < 2 { "3" } else { "c" });
    }
    host.file("/sys/devices/system/cpu/cpu2/cache/index3/id", "?\n");
    assert_eq!(uncore(&read(&host)), [Some(0), Some(0), None, None]);
}

#[test]
fn what_comes_online_is_seen() {
    let host = FakeHost::new();
    make_topology(&host, TWO_NODES);
    host.file("/sys/devices/system/cpu/online", "0-3\n");
    let topology = SysfsTopology::new(Arc::new(host.clone()));
    assert_eq!(topology.read().unwrap().cpus.len(), 4);
    host.file("/sys/devices/system/cpu/online", "0-7\n");
    assert_eq!(topology.read().unwrap().cpus.len(), 8);
}
