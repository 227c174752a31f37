//! The most even division on machines with too many NUMA nodes to try all of them.
//!
//! The squares of what is left on the nodes are to be least in sum. Taking the same amount from a node that has more
//! lowers the sum by more, so the nodes with most free CPUs give; and since the squares grow ever faster, each further
//! group comes best from the node that has most left at that moment. The kubelet hands the remainder out in fixed
//! rounds, so this is at least as even as what it would find.

use std::cmp::Reverse;

use super::{Division, Gifts};

/// A most even division; among nodes with equally many free CPUs the first in visiting order give.
pub(super) fn divide(free: &[usize], division: Division) -> Option<Gifts> {
    let (each, group) = (division.each(), division.group);
    let mut members: Vec<(usize, usize)> = free.iter().copied().enumerate().collect();
    members.sort_by_key(|(_, free)| Reverse(*free));
    members.truncate(division.nodes);
    members.sort_by_key(|(member, _)| *member);
    let whole_groups: usize = members.iter().map(|(_, free)| free / group * group).sum();
    if whole_groups < division.count || members.iter().any(|(_, free)| *free < each) {
        return None;
    }
    let mut gifts: Gifts = members.iter().map(|(member, _)| (*member, each)).collect();
    for (_, left) in &mut members {
        *left -= each;
    }
    let mut remainder = division.remainder();
    while remainder > 0 {
        let (member, left) = members.iter_mut().rev().max_by_key(|(_, left)| *left)?;
        *left = left.checked_sub(group)?;
        gifts.push((*member, group));
        remainder -= group;
    }
    Some(gifts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::super::exhaustive;
    use super::*;

    fn left(free: &[usize], gifts: &Gifts) -> Vec<usize> {
        let mut left = free.to_vec();
        for (member, cpus) in gifts {
            left[*member] = left[*member].checked_sub(*cpus).unwrap();
        }
        left
    }

    proptest! {
        #[test]
        fn the_greedy_division_exists_with_the_exhaustive_one_and_is_as_even(
            free in prop::collection::vec(0..12_usize, 1..7), nodes in 1..7_usize, group in 1..3_usize, groups in 1..30_usize,
        ) {
            let nodes = nodes.min(free.len()).min(groups);
            let division = Division { count: groups * group, group, nodes };
            let (greedy, all) = (divide(&free, division), exhaustive::divide(&free, division));
            prop_assert_eq!(greedy.is_some(), all.is_some());
            if let (Some(greedy), Some(all)) = (greedy, all) {
                let squares = |gifts: &Gifts| left(&free, gifts).iter().map(|left| left * left).sum::<usize>();
                prop_assert!(squares(&greedy) <= squares(&all), "{greedy:?} against {all:?}");
                for gifts in [greedy, all] {
                    prop_assert_eq!(gifts.iter().map(|(_, cpus)| cpus).sum::<usize>(), division.count);
                    prop_assert!(gifts.iter().all(|(_, cpus)| cpus % group == 0));
                }
            }
        }
    }
}
