//! The division that the kubelet finds, by trying all of them.

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

/// Divisions to be compared, times nodes.
pub(super) fn work(nodes: usize, members: usize) -> u64 {
    let mut sets: u64 = 1;
    for taken in 0..members.min(nodes - members.min(nodes)) {
        sets = sets.saturating_mul((nodes - taken) as u64) / (taken as u64 + 1);
    }
    let remainders = 1_u64.checked_shl(u32::try_from(members).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    sets.saturating_mul(remainders).saturating_mul(nodes as u64)
}

/// The first of the most even divisions, in the order of combinations.
pub(super) fn divide(free: &[usize], division: Division) -> Option<Gifts> {
    let (each, group) = (division.each(), division.group);
    let mut best: Option<(Balance, Split)> = None;
    let mut left = free.to_vec();
    let all = u64::MAX >> (64 - free.len().clamp(1, 64));
    for members in combinations(all, division.nodes) {
        if best.is_some_and(|(balance, _)| balance.is_perfect()) {
            break;
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
        if let Some((balance, givers)) = best_givers(&left, members, division)
            && best.is_none_or(|(other, _)| balance < other)
        {
            best = Some((balance, Split { members, givers }));
        }
    }
    best.map(|(_, split)| gifts(free, split, division))
}

/// The members that should give the remainder; larger sets are tried first.
fn best_givers(left: &[usize], members: u64, division: Division) -> Option<(Balance, u64)> {
    let (remainder, group) = (division.remainder(), division.group);
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
            if hand_out(&mut after, givers, division, |_| {}) {
                let balance = deviation(&after);
                if best.is_none_or(|(other, _)| balance < other) {
                    best = Some((balance, givers));
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

fn gifts(free: &[usize], split: Split, division: Division) -> Gifts {
    let each = division.each();
    let mut gifts: Gifts = bits(split.members).map(|member| (member, each)).collect();
    let mut left = free.to_vec();
    for member in bits(split.members) {
        if let Some(left) = left.get_mut(member) {
            *left -= each;
        }
    }
    hand_out(&mut left, split.givers, division, |giver| gifts.push((giver, division.group)));
    gifts
}

/// Positions of the bits, ascending.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}
