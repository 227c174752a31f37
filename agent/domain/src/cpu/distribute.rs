//! The even spread of a container over NUMA nodes (`distribute-cpus-across-numa`).

use super::picker::{Picker, Style, take_packed};
use crate::cpuset::CpuSet;
use crate::placement::AllocationError;
use crate::topology::Machine;

mod balance;
mod combinations;

use balance::{Balance, deviation};
pub(super) use combinations::combinations;

/// The nodes of one attempt, in visiting order.
struct Nodes {
    /// Positions in the list of the machine.
    positions: Vec<usize>,
    /// Free CPUs.
    free: Vec<usize>,
}

/// Which nodes give how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Nodes that give `each` CPUs; bit *i* is node *i* in visiting order.
    members: u64,
    /// CPUs that every member gives.
    each: usize,
    /// Members that share the remainder, a group at a time, in visiting order.
    remainder: u64,
}

/// Chooses `count` CPUs in groups of `group`, evenly over as few NUMA nodes as hold them, so that what is left is as
/// even as possible; the packed form where that cannot be had.
pub(super) fn take(
    machine: &Machine,
    free: &CpuSet,
    count: usize,
    group: usize,
    style: Style,
) -> Result<CpuSet, AllocationError> {
    let packed = |free: &CpuSet, count| take_packed(machine, free, count, style);
    if group == 0 || !count.is_multiple_of(group) || count == 0 || count > free.len() {
        return packed(free, count);
    }
    let picker = Picker::new(machine, free, count);
    let positions = picker.numas();
    let nodes = Nodes { free: positions.iter().map(|node| picker.free_in_numa(*node)).collect(), positions };
    let Some(split) = choose(machine, &nodes, count, group) else { return packed(free, count) };

    let mut left = free.clone();
    let mut result = CpuSet::new();
    let mut give = |member: usize, cpus: usize| -> Result<bool, AllocationError> {
        let node = nodes.positions.get(member).and_then(|position| machine.numas().get(*position));
        let inside = node.map(|node| left.intersection(node.cpus())).unwrap_or_default();
        if inside.len() < cpus {
            return Ok(false);
        }
        let taken = packed(&inside, cpus)?;
        left.remove_all(&taken);
        result.insert_all(&taken);
        Ok(true)
    };
    let mut rest = count;
    for member in bits(split.members) {
        if give(member, split.each)? {
            rest -= split.each;
        }
    }
    let mut progress = true;
    while rest > 0 && progress {
        progress = false;
        for member in bits(split.remainder) {
            if rest > 0 && give(member, group)? {
                rest -= group;
                progress = true;
            }
        }
    }
    if rest == 0 { Ok(result) } else { packed(free, count) }
}

/// The best split over the fewest nodes that allow one.
fn choose(machine: &Machine, nodes: &Nodes, count: usize, group: usize) -> Option<Split> {
    let groups = machine.num_cpus().div_ceil(group);
    let per_node = groups.div_ceil(machine.num_numas().max(1)).max(1);
    let needed = count.div_ceil(group);
    let (fewest, most) = (needed.div_ceil(per_node), needed.min(nodes.free.len()));
    (fewest.max(1)..=most).find_map(|size| best_of_size(nodes, size, count, group))
}

/// The best split over `size` nodes. The first of equals in the order of combinations wins.
fn best_of_size(nodes: &Nodes, size: usize, count: usize, group: usize) -> Option<Split> {
    let each = count / size / group * group;
    let mut best: Option<(Balance, Split)> = None;
    let mut left = nodes.free.clone();
    for members in combinations(u64::MAX >> (64 - nodes.free.len().clamp(1, 64)), size) {
        if best.is_some_and(|(balance, _)| balance.is_perfect()) {
            break;
        }
        let free_of = |member: usize| nodes.free.get(member).copied().unwrap_or(0);
        let whole_groups: usize = bits(members).map(|member| free_of(member) / group * group).sum();
        if whole_groups < count || bits(members).any(|member| free_of(member) < each) {
            continue;
        }
        left.clone_from(&nodes.free);
        for member in bits(members) {
            if let Some(left) = left.get_mut(member) {
                *left -= each;
            }
        }
        if let Some((balance, remainder)) = best_remainder(&left, members, count - each * size, group)
            && best.is_none_or(|(other, _)| balance < other)
        {
            best = Some((balance, Split { members, each, remainder }));
        }
    }
    best.map(|(_, split)| split)
}

/// The members that should give the remainder; larger sets are tried first.
fn best_remainder(left: &[usize], members: u64, remainder: usize, group: usize) -> Option<(Balance, u64)> {
    if remainder == 0 {
        return Some((deviation(left), 0));
    }
    let able = bits(members).filter(|member| left.get(*member).is_some_and(|left| *left >= group));
    let able = able.fold(0_u64, |mask, member| mask | 1 << member);
    let mut best: Option<(Balance, u64)> = None;
    let mut after = left.to_vec();
    for size in (1..=able.count_ones() as usize).rev() {
        for givers in combinations(able, size) {
            after.copy_from_slice(left);
            if hand_out(&mut after, givers, remainder, group) {
                let balance = deviation(&after);
                if best.is_none_or(|(other, _)| balance < other) {
                    best = Some((balance, givers));
                }
            }
        }
    }
    best
}

/// Takes the remainder from the givers in rounds, a group from each. False if they do not have enough whole groups:
/// the kubelet counts CPUs instead of groups here and may then go round for ever.
fn hand_out(left: &mut [usize], givers: u64, mut remainder: usize, group: usize) -> bool {
    while remainder > 0 {
        let before = remainder;
        for giver in bits(givers) {
            if let Some(left) = left.get_mut(giver)
                && remainder > 0
                && *left >= group
            {
                *left -= group;
                remainder -= group;
            }
        }
        if remainder == before {
            return false;
        }
    }
    true
}

/// Positions of the bits, ascending.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}
