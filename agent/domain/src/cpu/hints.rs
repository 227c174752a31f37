//! The NUMA hints of a CPU request.

use super::distribute::combinations;
use super::options::CpuOptions;
use crate::cpuset::CpuSet;
use crate::hint::{Bound, Demand, NumaMask, PreferredSets, SocketCover, TopologyHint};
use crate::topology::{Machine, Unit};
use crate::workload::ResourceName;

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

/// What [`hints`] lists, as conditions: for machines with too many nodes to list sets of them.
#[must_use]
pub fn demand(machine: &Machine, free: &CpuSet, reusable: &CpuSet, count: usize, options: &CpuOptions) -> Demand {
    let numas = machine.numas();
    let mut weights = vec![0; numas.last().map_or(0, |numa| numa.id() as usize + 1)];
    for numa in numas {
        if let Some(weight) = weights.get_mut(numa.id() as usize) {
            *weight = numa.cpus().intersection_len(free) as u64;
        }
    }
    let smallest = smallest_size(machine, count);
    let cover = sockets_needed(machine, smallest).filter(|_| options.align_by_socket);
    let nodes_of_socket = |list: &Vec<usize>| list.iter().filter_map(|numa| numas.get(*numa)).map(Unit::id).collect();
    Demand {
        resource: ResourceName::Cpu,
        universe: numas.iter().map(Unit::id).collect(),
        required: nodes_of(machine, reusable),
        bounds: vec![Bound::sum(weights, count.saturating_sub(reusable.len()) as u64)],
        isolated: Vec::new(),
        preferred: PreferredSets {
            len: u32::try_from(smallest).unwrap_or(u32::MAX),
            sockets: cover.map(|count| SocketCover {
                sockets: machine.links().numas_of_socket.iter().map(nodes_of_socket).collect(),
                count,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::topology::shape::{B, C, Shape};

    proptest! {
        #[test]
        fn the_demand_stands_for_exactly_the_listed_hints(
            sockets in 1..=2_u32, numas in 1..=3_u32, busy: u64, reuse: u64, count in 1..=24_usize, by_socket: bool,
        ) {
            let machine = Shape { sockets, numas, caches: 1, cores: 2, threads: 2 }.machine();
            let pick = |bits: u64| machine.online().iter().filter(|cpu| bits >> cpu & 1 == 1).collect::<CpuSet>();
            let (free, reusable) = (pick(busy), pick(reuse & reuse >> 9 & reuse >> 23));
            let options = CpuOptions { align_by_socket: by_socket, ..CpuOptions::default() };
            let list = hints(&machine, &free, &reusable, count, &options);
            let demand = demand(&machine, &free, &reusable, count, &options);
            let mut stands_for = Vec::new();
            for size in 1..=machine.num_numas() {
                let sets = combinations(machine.node_mask().0, size).map(NumaMask);
                let allowed = sets.filter(|mask| demand.allows(*mask));
                stands_for.extend(allowed.map(|mask| TopologyHint::new(mask, demand.prefers(mask))));
            }
            prop_assert_eq!(stands_for, list);
        }
    }

    #[test]
    fn node_sets_are_listed_by_size_and_preferred_if_the_empty_machine_needs_as_many() {
        let rows: [(&str, Shape, &str, &str, usize, &str); 5] = [
            ("all free", B, "0-15", "", 2, "0+ 1+ 01-"),
            ("more than a node", B, "0-15", "", 9, "01+"),
            ("two free on each node", B, "3-4,11-12", "", 3, "01-"),
            ("reusable CPUs must be inside", B, "1-7,9-15", "0", 2, "0+ 01-"),
            ("more than the machine", B, "0-15", "", 17, ""),
        ];
        for (name, shape, free, reusable, count, expected) in rows {
            let set = |text| CpuSet::parse(text).unwrap();
            let list = hints(&shape.machine(), &set(free), &set(reusable), count, &CpuOptions::default());
            assert_eq!(print(&list), expected, "{name}");
        }
    }

    #[test]
    fn sets_that_cover_few_sockets_are_preferred_with_socket_alignment() {
        let machine = C.machine();
        let options = CpuOptions { align_by_socket: true, ..CpuOptions::default() };
        let list = hints(&machine, machine.online(), &CpuSet::new(), 4, &options);
        assert_eq!(print(&list), "0+ 1+ 2+ 3+ 01+ 02- 03- 12- 13- 23+ 012- 013- 023- 123- 0123-");
    }

    fn print(list: &[TopologyHint]) -> String {
        let nodes = |mask: NumaMask| mask.iter().map(|node| node.to_string()).collect::<String>();
        let sign = |hint: &TopologyHint| if hint.preferred { '+' } else { '-' };
        let one = |hint: &TopologyHint| format!("{}{}", nodes(hint.affinity.unwrap()), sign(hint));
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}
