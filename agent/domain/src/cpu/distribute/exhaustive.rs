//! The division that the kubelet finds, by trying all of them.
//!
//! # The set that is scored and the set that is used
//!
//! The kubelet builds each set of nodes by appending to a slice, and remembers the best one as a slice, too. Slices of
//! Go share their array as long as it has room: it is made anew for the second, third, fifth, ninth … member only
//! ([`own_members`]). So of a remembered set of four nodes, say, only the first three are its own, and the last one is
//! whatever the search appended there later: on an idle machine with eight nodes the nodes 0, 1, 2, 3 are scored, and
//! 0, 1, 2, 7 give the CPUs. Which CPUs a container gets is what an operator compares, so the same set is used here,
//! unless it does not have the CPUs; then the one that was scored is.

use super::balance::{Balance, deviation};
use super::combinations::combinations;
use super::{Division, Gifts};

/// Which nodes give how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Nodes that give; bit *i* is node *i* in visiting order.
    members: u64,
    /// Members that share the remainder, a group at a time, in visiting order.
    givers: u64,
}

/// The best division so far.
#[derive(Debug, Clone, Copy)]
struct Best {
    balance: Balance,
    /// What was scored.
    scored: Split,
    /// What the kubelet would use now.
    used: Split,
}

/// Divisions to be compared, times nodes.
pub(super) fn work(nodes: usize, division: Division) -> u64 {
    let members = division.nodes;
    let mut sets: u64 = 1;
    for taken in 0..members.min(nodes - members.min(nodes)) {
        sets = sets.saturating_mul((nodes - taken) as u64) / (taken as u64 + 1);
    }
    let choices = if division.remainder() == 0 { 0 } else { u32::try_from(members).unwrap_or(u32::MAX) };
    let remainders = 1_u64.checked_shl(choices).unwrap_or(u64::MAX);
    sets.saturating_mul(remainders).saturating_mul(nodes as u64)
}

/// The first of the most even divisions, in the order of combinations.
pub(super) fn divide(free: &[usize], division: Division) -> Option<Gifts> {
    let (each, group) = (division.each(), division.group);
    let mut best: Option<Best> = None;
    let mut left = free.to_vec();
    let all = u64::MAX >> (64 - free.len().clamp(1, 64));
    let own = own_members(division.nodes);
    for members in combinations(all, division.nodes) {
        if let Some(best) = &mut best {
            if lowest(best.scored.members, own) == lowest(members, own) {
                best.used.members = members;
            }
            if best.balance.is_perfect() {
                break;
            }
        }
        let free_of = |member: usize| free.get(member).copied().unwrap_or(0);
        let whole_groups: usize = bits(members).map(|member| free_of(member) / group * group).sum();
        if whole_groups < division.count || bits(members).any(|member| free_of(member) < each) {
            continue;
        }
        left.copy_from_slice(free);
        for member in bits(members) {
            if let Some(left) = left.get_mut(member) {
                *left -= each;
            }
        }
        if let Some((balance, [givers, used])) = best_givers(&left, members, division)
            && best.is_none_or(|other| balance < other.balance)
        {
            let (scored, used) = (Split { members, givers }, Split { members, givers: used });
            best = Some(Best { balance, scored, used });
        }
    }
    best.and_then(|best| gifts(free, best.used, division).or_else(|| gifts(free, best.scored, division)))
}

/// How many of so many members are in an array of their own: Go makes a new one where the old one, whose room doubles
/// each time, is full.
fn own_members(members: usize) -> usize {
    let doublings = members.checked_sub(1).and_then(usize::checked_ilog2);
    doublings.map_or(members, |doublings| (1 << doublings) + 1)
}

/// The lowest `count` bits that are set.
fn lowest(mask: u64, count: usize) -> u64 {
    bits(mask).take(count).fold(0, |low, bit| low | 1 << bit)
}

/// The highest `count` bits that are set.
fn highest(mask: u64, count: usize) -> u64 {
    let others = (mask.count_ones() as usize).saturating_sub(count);
    mask & !lowest(mask, others)
}

/// The members that should give the remainder, as scored and as used; larger sets are tried first.
fn best_givers(left: &[usize], members: u64, division: Division) -> Option<(Balance, [u64; 2])> {
    let (remainder, group) = (division.remainder(), division.group);
    if remainder == 0 {
        return Some((deviation(left), [0, 0]));
    }
    let able = bits(members).filter(|member| left.get(*member).is_some_and(|left| *left >= group));
    let able = able.fold(0_u64, |mask, member| mask | 1 << member);
    let mut best: Option<(Balance, [u64; 2])> = None;
    let mut after = left.to_vec();
    for size in (1..=able.count_ones() as usize).rev() {
        for givers in combinations(able, size) {
            after.copy_from_slice(left);
            if hand_out(&mut after, givers, division, |_| {}) {
                let balance = deviation(&after);
                if best.is_none_or(|(other, _)| balance < other) {
                    // No search of givers ends early, so the highest ones were appended last.
                    let own = own_members(size);
                    let used = lowest(givers, own) | highest(able, size - own);
                    best = Some((balance, [givers, used]));
                }
            }
        }
    }
    best
}

/// Takes the remainder from the givers in rounds, a group from each, and names each giver. False if they do not have
/// enough whole groups: the kubelet counts CPUs instead of groups here and may then go round for ever.
fn hand_out(left: &mut [usize], givers: u64, division: Division, mut named: impl FnMut(usize)) -> bool {
    let (mut remainder, group) = (division.remainder(), division.group);
    while remainder > 0 {
        let before = remainder;
        for giver in bits(givers) {
            if let Some(left) = left.get_mut(giver)
                && remainder > 0
                && *left >= group
            {
                *left -= group;
                remainder -= group;
                named(giver);
            }
        }
        if remainder == before {
            return false;
        }
    }
    true
}

/// What each node gives; absent if one of them does not have it.
fn gifts(free: &[usize], split: Split, division: Division) -> Option<Gifts> {
    let each = division.each();
    let mut gifts: Gifts = bits(split.members).map(|member| (member, each)).collect();
    let mut left = free.to_vec();
    for member in bits(split.members) {
        let left = left.get_mut(member)?;
        *left = left.checked_sub(each)?;
    }
    hand_out(&mut left, split.givers, division, |giver| gifts.push((giver, division.group))).then_some(gifts)
}

/// Positions of the bits, ascending.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_shares_what_was_appended_since_it_last_grew() {
        let own: Vec<usize> = (1..=18).map(own_members).collect();
        assert_eq!(own, [1, 2, 3, 3, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9, 9, 9, 17, 17]);
    }

    #[test]
    fn the_nodes_that_give_are_those_that_the_kubelet_is_left_with() {
        let four_of_eight = Division { count: 64, group: 1, nodes: 4 };
        let nodes = |free: &[usize], division| -> Vec<usize> {
            divide(free, division).into_iter().flatten().map(|(node, _)| node).collect()
        };
        assert_eq!(nodes(&[16; 8], four_of_eight), [0, 1, 2, 7], "the last set with the same first three members");
        let uneven = [15, 16, 16, 16, 16, 16, 16, 16];
        assert_eq!(nodes(&uneven, four_of_eight), [1, 2, 3, 7]);
        let poor = [16, 16, 16, 16, 16, 16, 16, 15];
        assert_eq!(nodes(&poor, four_of_eight), [0, 1, 2, 3], "the last node does not have 16");
        assert_eq!(nodes(&[8, 8, 8, 8, 4], Division { count: 16, ..four_of_eight }), [0, 1, 2, 4], "found at once");
    }
}
