//! The even spread of a container over NUMA nodes (`distribute-cpus-across-numa`).

use super::picker::{Picker, Style, take_packed};
use super::trace::Trace;
use crate::cpuset::CpuSet;
use crate::placement::AllocationError;
use crate::topology::Machine;

mod balance;
mod combinations;
mod exhaustive;
mod greedy;

pub(super) use combinations::combinations;

/// The nodes with free CPUs, in visiting order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nodes {
    /// Positions in the list of the machine.
    positions: Vec<usize>,
    /// Free CPUs.
    free: Vec<usize>,
}

/// What is to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Division {
    /// CPUs in all.
    count: usize,
    /// CPUs that stay together.
    group: usize,
    /// NUMA nodes that give some.
    nodes: usize,
}

/// Gifts in the order in which they are made: a node by its place in the visiting order, and the CPUs it gives.
type Gifts = Vec<(usize, usize)>;

impl Division {
    /// CPUs that every node gives.
    const fn each(&self) -> usize {
        self.count / self.nodes / self.group * self.group
    }

    /// CPUs that are left to be given by some nodes, a group at a time.
    const fn remainder(&self) -> usize {
        self.count - self.each() * self.nodes
    }
}

/// Nodes up to which the search is always exhaustive, and so the kubelet's; at worst it takes some tenths of a second.
const EXHAUSTIVE_NODES: usize = 16;

/// Work that the exhaustive search may be with more nodes, counted in divisions to be compared times nodes: some milliseconds. Beyond,
/// the kubelet takes minutes and more; the greedy division is as even at least.
const EXHAUSTIVE_LIMIT: u64 = 1 << 21;

/// Chooses `count` CPUs in groups, evenly over as few NUMA nodes as hold them, so that what is left is as even as
/// possible; the packed form where that cannot be had.
pub(super) fn take(
    machine: &Machine,
    free: &CpuSet,
    count: usize,
    style: Style,
    trace: &mut Trace,
) -> Result<CpuSet, AllocationError> {
    let group = style.group.unwrap_or(1);
    if group == 0 || !count.is_multiple_of(group) || count == 0 || count > free.len() {
        return take_packed(machine, free, count, style, trace);
    }
    let picker = Picker::new(machine, free, count, trace);
    let positions = picker.numas();
    let nodes = Nodes { free: positions.iter().map(|node| picker.free_in_numa(*node)).collect(), positions };
    let Some(gifts) = divide(machine, &nodes, count, group) else {
        return take_packed(machine, free, count, style, trace);
    };
    let mut left = free.clone();
    let mut result = CpuSet::new();
    for (member, cpus) in gifts {
        let position = nodes.positions.get(member).copied().unwrap_or_default();
        let Some(node) = machine.numas().get(position) else { continue };
        trace.share(node.id(), cpus);
        let taken = take_packed(machine, &left.intersection(node.cpus()), cpus, style, trace)?;
        left.remove_all(&taken);
        result.insert_all(&taken);
    }
    Ok(result)
}

/// The best division over the fewest nodes that allow one.
fn divide(machine: &Machine, nodes: &Nodes, count: usize, group: usize) -> Option<Gifts> {
    let groups = machine.num_cpus().div_ceil(group);
    let per_node = groups.div_ceil(machine.num_numas().max(1)).max(1);
    let needed = count / group;
    let (fewest, most) = (needed.div_ceil(per_node), needed.min(nodes.free.len()));
    (fewest.max(1)..=most).find_map(|size| {
        let division = Division { count, group, nodes: size };
        let few = nodes.free.len() <= EXHAUSTIVE_NODES;
        if few || exhaustive::work(nodes.free.len(), division) <= EXHAUSTIVE_LIMIT {
            exhaustive::divide(&nodes.free, division)
        } else {
            greedy::divide(&nodes.free, division)
        }
    })
}
