//! The NUMA hints of a CPU request.

use super::distribute::combinations;
use super::options::CpuOptions;
use crate::cpuset::CpuSet;
use crate::hint::{NumaMask, TopologyHint};
use crate::topology::Machine;

/// Every set of NUMA nodes that could give `count` CPUs out of the free and reusable ones; smaller sets first, then in
/// the order of their nodes.
///
/// A set must hold the node of every reusable CPU. It is preferred if no smaller set would do on the *empty* machine,
/// or, with `align-by-socket`, if it covers as few sockets as such a set needs.
#[must_use]
pub fn hints(
    machine: &Machine,
    free: &CpuSet,
    reusable: &CpuSet,
    count: usize,
    options: &CpuOptions,
) -> Vec<TopologyHint> {
    let numas = machine.numas();
    let free_of: Vec<usize> = numas.iter().map(|numa| numa.cpus().intersection_len(free)).collect();
    let smallest = smallest_size(machine, count);
    let required = nodes_of(machine, reusable);
    let sockets = sockets_needed(machine, smallest).filter(|_| options.align_by_socket);
    let nodes: NumaMask = numas.iter().map(|numa| numa.id()).collect();
    let mut hints = Vec::new();
    for size in 1..=numas.len() {
        for mask in combinations(nodes.0, size).map(NumaMask) {
            if !mask.is_superset(required) {
                continue;
            }
            let inside = numas.iter().zip(&free_of).filter(|(numa, _)| mask.contains(numa.id()));
            let reachable = reusable.len() + inside.map(|(_, free)| free).sum::<usize>();
            if reachable >= count {
                let aligned = sockets.is_some_and(|sockets| sockets_covered(machine, mask) == sockets);
                hints.push(TopologyHint::new(mask, aligned || size == smallest));
            }
        }
    }
    hints
}

/// How few nodes hold the request when every CPU is free; all nodes if even those do not.
fn smallest_size(machine: &Machine, count: usize) -> usize {
    let mut sizes: Vec<usize> = machine.numas().iter().map(|numa| numa.len()).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut sum = 0;
    let enough = sizes.iter().position(|size| {
        sum += size;
        sum >= count
    });
    enough.map_or(machine.num_numas(), |position| position + 1)
}

fn nodes_of(machine: &Machine, cpus: &CpuSet) -> NumaMask {
    machine.numas().iter().filter(|numa| !numa.cpus().is_disjoint(cpus)).map(|numa| numa.id()).collect()
}

/// How few sockets hold that many nodes; absent where a node spans sockets.
fn sockets_needed(machine: &Machine, nodes: usize) -> Option<usize> {
    let nodes_per_socket = machine.num_numas().checked_div(machine.num_sockets())?;
    (nodes_per_socket > 0).then(|| nodes.div_ceil(nodes_per_socket))
}

fn sockets_covered(machine: &Machine, mask: NumaMask) -> usize {
    let inside = |unit: &u32| mask.contains(*unit);
    let numas = machine.numas();
    let holds = |numa: &usize| numas.get(*numa).is_some_and(|numa| inside(&numa.id()));
    machine.links().numas_of_socket.iter().filter(|list| list.iter().any(holds)).count()
}
