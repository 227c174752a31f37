//! The best set of exactly `k` nodes that satisfies several sums: branch and bound.
//!
//! Sets of equal size compare by their number, so by their highest node first, then the second highest, and so on. The
//! search therefore picks the highest node of the set in ascending order, then the next one below it: the first set that
//! is found is the smallest. A branch is cut when the largest weights below the last picked node cannot reach what is
//! still needed, for any sum, or for all sums together (each scaled by its need: what fails the scaled total cannot
//! satisfy every part). States that failed are remembered by what they still need, so that machines of equal nodes, the
//! usual ones, are searched once per number of nodes and not once per set. With distances the search goes on after the
//! first set and cuts what cannot come closer than the best one.
//!
//! The number of picks has a limit ([`PATIENCE`]), which only adversarial amounts reach; what was found until then counts.

use std::collections::BTreeSet;

use crate::hint::{Bound, MaskOrder, NumaMask};

/// Picks that are tried before the search gives up: about a second.
const PATIENCE: usize = 2_000_000;

/// What the nodes of the set must satisfy.
#[derive(Clone)]
pub(super) struct Subsets<'a> {
    /// Nodes that may be chosen.
    pub(super) universe: NumaMask,
    /// Nodes that must be chosen.
    pub(super) required: NumaMask,
    /// Sums that must be reached.
    pub(super) bounds: Vec<&'a Bound>,
    /// How sets of equal size compare.
    pub(super) order: MaskOrder<'a>,
}

impl Subsets<'_> {
    /// The best set of `count` nodes that the filter, if there is one, accepts.
    pub(super) fn best(&self, count: u32, filter: Option<Filter<'_>>) -> Option<NumaMask> {
        if count == 0 || count > self.universe.len() || !self.universe.is_superset(self.required) {
            return None;
        }
        let nodes: Vec<u32> = self.universe.iter().collect();
        let size = count as usize;
        let mut sums: Vec<Sum> = self.bounds.iter().map(|bound| Sum::of_bound(bound, &nodes, size)).collect();
        if let Some(surrogate) = Sum::surrogate(&sums, size) {
            sums.push(surrogate);
        }
        let needs: Vec<u64> = sums.iter().map(|sum| sum.need).collect();
        // A failure may be remembered if it does not depend on what was chosen before. One plain sum is decided exactly
        // by its largest weights, so there nothing fails.
        let plain = filter.is_none() && self.bounds.iter().all(|bound| bound.spanning.is_empty());
        let remember = plain && self.bounds.len() > 1 && self.order == MaskOrder::Narrowest;
        let mut search = Search {
            subsets: self,
            nodes,
            sums,
            filter,
            failed: BTreeSet::new(),
            remember,
            patience: PATIENCE,
            best: None,
        };
        let end = search.nodes.len();
        search.descend(NumaMask::EMPTY, end, size, &needs);
        search.best.map(|(mask, _)| mask)
    }

    /// The size of the smallest set; none if even the whole universe does not do.
    pub(super) fn least(&self) -> Option<u32> {
        (1..=self.universe.len()).find(|count| self.best(*count, None).is_some())
    }
}

/// A condition on sets beyond the sums.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    /// False for a partial set that cannot become acceptable.
    pub(super) may: &'a dyn Fn(NumaMask) -> bool,
    /// True for an acceptable set.
    pub(super) is: &'a dyn Fn(NumaMask) -> bool,
}

/// One sum, prepared for cutting branches.
struct Sum {
    /// Weight of each node, by position, never more than the need.
    weights: Vec<u64>,
    need: u64,
    /// `largest[i * (size + 1) + j]`: sum of the `j` largest weights among the first `i` nodes.
    largest: Vec<u64>,
    size: usize,
}

impl Sum {
    fn of_bound(bound: &Bound, nodes: &[u32], size: usize) -> Self {
        let weights = nodes.iter().map(|node| bound.most(*node).min(bound.need)).collect();
        Self::new(weights, bound.need, size)
    }

    fn new(weights: Vec<u64>, need: u64, size: usize) -> Self {
        let mut largest = vec![0; size + 1];
        let mut sorted: Vec<u64> = Vec::with_capacity(size + 1);
        for weight in &weights {
            let at = sorted.partition_point(|known| known >= weight);
            sorted.insert(at, *weight);
            sorted.truncate(size);
            let mut sum = 0u64;
            largest.push(0);
            for position in 0..size {
                sum = sum.saturating_add(sorted.get(position).copied().unwrap_or(0));
                largest.push(sum);
            }
        }
        Self { weights, need, largest, size }
    }

    /// All sums in one, each scaled to the same need.
    fn surrogate(sums: &[Self], size: usize) -> Option<Self> {
        /// Scaled need of each part: large enough to lose nothing that matters, small enough to add 64 of them up.
        const SCALE: u64 = 1 << 40;
        let parts: Vec<&Self> = sums.iter().filter(|sum| (1..=SCALE).contains(&sum.need)).collect();
        if parts.len() < 2 {
            return None;
        }
        let nodes = parts.first()?.weights.len();
        let scaled = |sum: &Self, amount: u64| amount * (SCALE / sum.need);
        let weight = |at: usize| parts.iter().map(|sum| scaled(sum, sum.weights.get(at).copied().unwrap_or(0))).sum();
        let need = parts.iter().map(|sum| scaled(sum, sum.need)).sum();
        Some(Self::new((0..nodes).map(weight).collect(), need, size))
    }

    fn weight(&self, position: usize) -> u64 {
        self.weights.get(position).copied().unwrap_or(0)
    }

    /// The most that `count` of the first `end` nodes have together.
    fn most(&self, end: usize, count: usize) -> u64 {
        self.largest.get(end * (self.size + 1) + count).copied().unwrap_or(0)
    }
}

struct Search<'a> {
    subsets: &'a Subsets<'a>,
    nodes: Vec<u32>,
    sums: Vec<Sum>,
    filter: Option<Filter<'a>>,
    /// States without any set: how many nodes there are to choose from, how many to choose, and what they must have.
    failed: BTreeSet<(usize, usize, Vec<u64>)>,
    remember: bool,
    /// Picks that may still be tried.
    patience: usize,
    /// The best set and its distance sum (0 without distances).
    best: Option<(NumaMask, u64)>,
}

impl Search<'_> {
    /// Chooses `count` more nodes out of the first `end`. True if the search is over.
    fn descend(&mut self, chosen: NumaMask, end: usize, count: usize, needs: &[u64]) -> bool {
        let missing = NumaMask(self.subsets.required.0 & !chosen.0);
        if missing.len() as usize > count {
            return false;
        }
        if count == 0 {
            return self.accept(chosen);
        }
        // A required node above the pick would be left out for good.
        let lowest = self.nodes.iter().rposition(|node| missing.contains(*node)).unwrap_or(0).max(count - 1);
        for pick in lowest..end {
            let Some(node) = self.nodes.get(pick).copied() else { break };
            if self.patience == 0 {
                return true;
            }
            self.patience -= 1;
            let rest: Vec<u64> =
                self.sums.iter().zip(needs).map(|(sum, need)| need.saturating_sub(sum.weight(pick))).collect();
            let reachable = self.sums.iter().zip(&rest).all(|(sum, need)| sum.most(pick, count - 1) >= *need);
            let next = NumaMask(chosen.0 | 1 << node);
            if !reachable
                || self.filter.is_some_and(|filter| !(filter.may)(next))
                || self.too_far(next, pick, count - 1)
            {
                continue;
            }
            let state = (pick, count - 1, rest);
            if self.remember && self.failed.contains(&state) {
                continue;
            }
            if self.descend(next, pick, count - 1, &state.2) {
                return true;
            }
            if self.remember {
                self.failed.insert(state);
            }
        }
        false
    }

    fn accept(&mut self, mask: NumaMask) -> bool {
        if !self.subsets.bounds.iter().all(|bound| bound.holds(mask))
            || self.filter.is_some_and(|filter| !(filter.is)(mask))
        {
            return false;
        }
        match self.subsets.order {
            MaskOrder::Narrowest => {
                self.best = Some((mask, 0));
                true
            }
            MaskOrder::Closest(distances) => {
                let sum = distances.sum(mask);
                if self.best.is_none_or(|(_, best)| sum < best) {
                    self.best = Some((mask, sum));
                }
                false
            }
        }
    }

    /// True if no way to add `count` of the first `end` nodes comes closer than the best set.
    fn too_far(&self, chosen: NumaMask, end: usize, count: usize) -> bool {
        let (MaskOrder::Closest(distances), Some((_, best))) = (self.subsets.order, self.best) else { return false };
        let below = self.nodes.get(..end).unwrap_or_default();
        distances.least_sum(chosen, below, count) >= best
    }
}
