//! Where CPUs and memory come from on a machine with several NUMA nodes, as the kernel tells it.

use std::fs;

use trimtab_domain::cpuset::CpuSet;

use crate::agent::{LIMIT, shown};
use crate::cluster::pods::Pod;
use crate::cluster::truth;
use crate::cluster::wait::until;
use crate::scenario::{self, Machine};

/// More CPUs than any node of any machine has left.
const TOO_MANY: i64 = 6;
/// More memory than a node of the machine with four nodes has, less than two have, in bytes.
const MORE_THAN_A_NODE: i64 = 800 << 20;

/// The policy of the topology manager: each machine tries another one.
pub(crate) fn policy(topology: &str) -> &'static str {
    match topology {
        "four" => "restricted",
        "memory-only" => "single-numa-node",
        _ => "best-effort",
    }
}

/// Reserved memory by node; on a machine with a node that has nothing else, some of that.
pub(crate) fn reserved_memory(topology: &str) -> &'static str {
    match topology {
        "memory-only" => "{numaNode: 0, limits: {memory: 100Mi}}, {numaNode: 2, limits: {memory: 64Mi}}",
        _ => "{numaNode: 0, limits: {memory: 164Mi}}",
    }
}

/// Part of the words in which a pod is refused; `none_left` if the machine as a whole has not enough.
pub(crate) fn refusal(topology: &str, none_left: bool) -> &'static str {
    match policy(topology) {
        "best-effort" => "not enough cpus available to satisfy request",
        "restricted" if none_left => "Topology locality",
        "restricted" => "not enough cpus available",
        _ => "Topology locality",
    }
}

/// True if so many of the free CPUs can be had under the policy of the machine.
pub(crate) fn fits(topology: &str, free: &CpuSet, asked: usize) -> bool {
    let on_one = nodes().iter().any(|node| cpus_of(node).intersection(free).len() >= asked);
    if policy(topology) == "best-effort" { free.len() >= asked } else { on_one }
}

/// Asks the kernel which CPUs a NUMA node has, not the agent.
fn cpus_of(node: u32) -> CpuSet {
    let text = fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist")).unwrap();
    CpuSet::parse(text.trim()).unwrap()
}

fn nodes() -> CpuSet {
    CpuSet::parse(fs::read_to_string("/sys/devices/system/node/online").unwrap().trim()).unwrap()
}

/// Nodes that some of the CPUs belong to.
fn homes(cpus: &CpuSet) -> CpuSet {
    nodes().iter().filter(|node| !cpus_of(*node).is_disjoint(cpus)).collect()
}

/// A pod of more CPUs than a node has: on an empty machine it gets two nodes, CPUs and memory alike, unless the policy
/// wants one.
pub(crate) fn too_large(machine: &mut Machine) {
    let mut pod = Pod::guaranteed(machine.number(), TOO_MANY * 1000);
    if policy(&machine.topology) == "restricted" {
        // Only nodes that CPUs and memory both prefer will do: the memory must be too large for one as well.
        pod.wishes[0].memory_limit = MORE_THAN_A_NODE;
    }
    if policy(&machine.topology) == "single-numa-node" {
        let sandbox = machine.kubelet.sandbox(&pod).unwrap();
        let error = scenario::create(&machine.kubelet, &pod, &sandbox, "app", 0).unwrap_err();
        assert!(error.message().contains(refusal(&machine.topology, false)), "{error:?}");
        machine.kubelet.remove_sandbox(&sandbox).unwrap();
        return;
    }
    machine.run(pod);
    machine.check();
    let allowed = machine.newest();
    let homes = homes(&allowed.cpus);
    assert_eq!(homes.len(), 2, "{allowed:?}");
    assert_eq!(allowed.mems, homes, "{allowed:?}");
    machine.end(machine.running.len() - 1);
}

/// A pod that fits a node has it to itself: its CPUs, what it may allocate from, and what it has allocated.
pub(crate) fn aligned(machine: &mut Machine) {
    let pod = Pod { touches: true, ..Pod::guaranteed(machine.number(), 2000) };
    machine.run(pod);
    machine.check();
    let allowed = machine.newest();
    let home = homes(&allowed.cpus);
    assert_eq!(home.len(), 1, "{allowed:?}");
    assert_eq!(allowed.mems, home, "{allowed:?}");
    let id = &machine.running.last().unwrap().id;
    // Before it becomes what it runs, a process has pages of whoever made it.
    until("its pages are on its node", LIMIT, || {
        let pages = truth::pages_by_node(id);
        let nodes: CpuSet = pages.keys().copied().collect();
        if pages.values().sum::<u64>() > 128 && nodes == home { Ok(()) } else { Err(format!("{pages:?}")) }
    });
    machine.end(machine.running.len() - 1);
    if machine.topology == "memory-only" {
        memory_only();
    }
}

/// The node without CPUs is a place for memory alone: what the profile reserves there is kept, the rest is offered.
fn memory_only() {
    assert!(cpus_of(2).is_empty());
    let text = shown("topology");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nodes = shown["numaNodes"].as_array().unwrap();
    let bytes = |node: usize, name: &str| {
        let mut kinds = nodes[node]["memory"].as_array().unwrap().iter();
        let memory = kinds.find(|kind| kind["memoryType"] == "memory").unwrap();
        memory[name].as_u64().unwrap_or_else(|| panic!("{name}: {text}"))
    };
    for (node, reserved) in [(0, 100 << 20), (1, 0), (2, 64 << 20)] {
        assert_eq!(bytes(node, "reservedBytes"), reserved, "{text}");
        assert_eq!(bytes(node, "allocatableBytes"), bytes(node, "totalBytes") - reserved, "{text}");
    }
    let homes: Vec<_> = shown["cpus"].as_array().unwrap().iter().map(|cpu| cpu["numaNode"].as_u64()).collect();
    assert!(!homes.contains(&Some(2)), "{text}");
}
