//! The order in which nested cpusets are written.
//!
//! On version 1 a child must stay within its parent after every single write (EACCES, EBUSY otherwise): growing goes
//! from the root to the leaves, shrinking from the leaves to the root. Both together: first everything grows to the
//! union of old and new, then everything shrinks. On version 2 the order does not matter for success.

use trimtab_domain::cpuset::CpuSet;

/// One cpuset that goes from one set to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move<T> {
    /// What identifies it.
    pub(super) item: T,
    /// Set before.
    pub(super) old: CpuSet,
    /// Set afterwards.
    pub(super) new: CpuSet,
}

/// The writes `(item, set)` that make all moves, in order. `moves` lists outer cpusets before inner ones.
pub(super) fn writes<T: Clone>(moves: &[Move<T>]) -> Vec<(T, CpuSet)> {
    let grown = |step: &Move<T>| step.old.union(&step.new);
    let growing = moves.iter().filter(|step| grown(step) != step.old).map(|step| (step.item.clone(), grown(step)));
    let shrinking = moves.iter().rev().filter(|step| grown(step) != step.new);
    growing.chain(shrinking.map(|step| (step.item.clone(), step.new.clone()))).collect()
}

/// The set of a cpuset inside a container that goes from `outer_old` to `outer_new`: it follows if it was as wide as the
/// container, else it stays as narrow as somebody made it, as far as that is possible.
pub(super) fn inner_target(inner: &CpuSet, outer_old: &CpuSet, outer_new: &CpuSet) -> CpuSet {
    let kept = inner.intersection(outer_new);
    if inner.is_empty() {
        // Not in use yet: version 1 allows no process in it.
        CpuSet::new()
    } else if inner == outer_old || kept.is_empty() {
        outer_new.clone()
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    fn shown(moves: &[(&str, &str, &str)]) -> Vec<String> {
        let moves: Vec<_> =
            moves.iter().map(|(item, old, new)| Move { item: *item, old: set(old), new: set(new) }).collect();
        writes(&moves).into_iter().map(|(item, set)| format!("{item}={set}")).collect()
    }

    #[test]
    fn growing_starts_outside_and_shrinking_inside() {
        let rows = [
            ("grow", vec![("a", "0", "0-3"), ("b", "0", "0-3")], vec!["a=0-3", "b=0-3"]),
            ("shrink", vec![("a", "0-3", "0"), ("b", "0-3", "0")], vec!["b=0", "a=0"]),
            ("move", vec![("a", "0-1", "2-3"), ("b", "0-1", "2-3")], vec!["a=0-3", "b=0-3", "b=2-3", "a=2-3"]),
            ("only the outer", vec![("a", "0-1", "0-3"), ("b", "0", "0")], vec!["a=0-3"]),
            ("nothing", vec![("a", "0-1", "0-1")], vec![]),
        ];
        for (name, moves, expected) in rows {
            assert_eq!(shown(&moves), expected, "{name}");
        }
    }

    #[test]
    fn every_write_keeps_children_within_parents() {
        // All moves of a chain of three over three CPUs.
        let sets: Vec<CpuSet> = (1..8_u32).map(|bits| (0..3).filter(|cpu| bits >> cpu & 1 == 1).collect()).collect();
        let chains: Vec<[&CpuSet; 3]> = sets
            .iter()
            .flat_map(|a| sets.iter().filter(|b| b.is_subset(a)).map(move |b| (a, b)))
            .flat_map(|(a, b)| sets.iter().filter(|c| c.is_subset(b)).map(move |c| [a, b, c]))
            .collect();
        for old in &chains {
            for new in &chains {
                let mut now = old.map(Clone::clone);
                let moves: Vec<_> =
                    (0..3).map(|item| Move { item, old: old[item].clone(), new: new[item].clone() }).collect();
                for (item, set) in writes(&moves) {
                    now[item] = set;
                    assert!(now[1].is_subset(&now[0]) && now[2].is_subset(&now[1]), "{old:?} -> {new:?} at {now:?}");
                }
                assert_eq!(now.each_ref(), *new);
            }
        }
    }

    #[test]
    fn an_inner_cpuset_follows_or_stays_narrow() {
        for (inner, old, new, expected) in [
            ("0-3", "0-3", "0-1", "0-1"),
            ("0", "0-3", "0-1", "0"),
            ("3", "0-3", "0-1", "0-1"),
            ("0-1", "0-1", "0-3", "0-3"),
            ("0", "0-1", "0-3", "0"),
            ("", "0-1", "0-3", ""),
        ] {
            assert_eq!(inner_target(&set(inner), &set(old), &set(new)), set(expected), "{inner} in {old} -> {new}");
        }
    }
}
