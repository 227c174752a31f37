//! The best set of exactly `k` nodes that satisfies several sums: branch and bound.
//!
//! Sets of equal size compare by their number, so by their highest node first, then the second highest, and so on. The
//! search therefore picks the highest node of the set in ascending order, then the next one below it: the first set that
//! is found is the smallest. A branch is cut when the largest weights below the last picked node cannot reach what is
//! still needed, for any sum, or for all sums together (each scaled by its need: what fails the scaled total cannot
//! satisfy every part). States that failed are remembered by what they still need, so that machines of equal nodes, the
//! usual ones, are searched once per number of nodes and not once per set.
//!
//! With distances the search goes on after the first set, and cuts what cannot come closer than the best one. It starts
//! from a good set ([`Search::neighbourhood`]), of which only the distance sum is used: among equally close sets the first counts.
//!
//! The number of picks has a limit ([`PATIENCE`]), which adversarial amounts reach, and sets of a dozen nodes and more
//! where distances must be compared; what was found until then counts.

use std::collections::BTreeSet;

use crate::hint::{Bound, MaskOrder, NumaMask};

/// Picks that are tried before the search gives up: about half a second. A pick costs ten times as much with distances.
const PATIENCE: usize = 500_000;

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
            patience: if self.order == MaskOrder::Narrowest { PATIENCE } else { PATIENCE / 10 },
            best: None,
            closer_than: u64::MAX,
        };
        let start = search.neighbourhood(size);
        let end = search.nodes.len();
        let ways = if self.order == MaskOrder::Narrowest { Vec::new() } else { vec![0; end] };
        search.descend(&Chosen { mask: NumaMask::EMPTY, sum: 0, ways }, end, size, &needs);
        search.best.or(start)
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
    /// The best set so far.
    best: Option<NumaMask>,
    /// With distances: sums that count from now on.
    closer_than: u64,
}

/// What has been chosen on a branch.
struct Chosen {
    mask: NumaMask,
    /// Its distance sum; 0 without distances.
    sum: u64,
    /// By position: both ways between the node and all chosen ones; empty without distances.
    ways: Vec<u64>,
}

impl Search<'_> {
    /// Chooses `count` more nodes out of the first `end`. True if the search is over.
    fn descend(&mut self, chosen: &Chosen, end: usize, count: usize, needs: &[u64]) -> bool {
        let missing = NumaMask(self.subsets.required.0 & !chosen.mask.0);
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
            let mask = NumaMask(chosen.mask.0 | 1 << node);
            if !reachable || self.filter.is_some_and(|filter| !(filter.may)(mask)) {
                continue;
            }
            let next = self.extend(chosen, mask, pick, node);
            if self.too_far(&next, pick, count - 1) {
                continue;
            }
            let state = (pick, count - 1, rest);
            if self.remember && self.failed.contains(&state) {
                continue;
            }
            if self.descend(&next, pick, count - 1, &state.2) {
                return true;
            }
            if self.remember {
                self.failed.insert(state);
            }
        }
        false
    }

    /// The same with one more node.
    fn extend(&self, chosen: &Chosen, mask: NumaMask, pick: usize, node: u32) -> Chosen {
        let MaskOrder::Closest(distances) = self.subsets.order else {
            return Chosen { mask, sum: 0, ways: Vec::new() };
        };
        let sum = chosen.sum + u64::from(distances.between(node, node)) + chosen.ways.get(pick).copied().unwrap_or(0);
        let below = self.nodes.iter().zip(&chosen.ways).take(pick);
        Chosen { mask, sum, ways: below.map(|(other, way)| way + distances.way(*other, node)).collect() }
    }

    fn accept(&mut self, chosen: &Chosen) -> bool {
        if !self.is_acceptable(chosen.mask) {
            return false;
        }
        match self.subsets.order {
            MaskOrder::Narrowest => {
                self.best = Some(chosen.mask);
                true
            }
            MaskOrder::Closest(_) => {
                if chosen.sum < self.closer_than {
                    self.best = Some(chosen.mask);
                    self.closer_than = chosen.sum;
                }
                false
            }
        }
    }

    fn is_acceptable(&self, mask: NumaMask) -> bool {
        mask.is_superset(self.subsets.required)
            && self.subsets.bounds.iter().all(|bound| bound.holds(mask))
            && self.filter.is_none_or(|filter| (filter.is)(mask))
    }

    /// True if no way to add `count` of the first `end` nodes comes closer than what is known.
    fn too_far(&self, chosen: &Chosen, end: usize, count: usize) -> bool {
        let MaskOrder::Closest(distances) = self.subsets.order else { return false };
        if self.closer_than == u64::MAX {
            return false;
        }
        let below = self.nodes.iter().copied().zip(chosen.ways.iter().copied()).take(end);
        chosen.sum + distances.least_more(below, count) >= self.closer_than
    }

    /// With distances, a set that is probably close: for each node, its surroundings grow until the fullest nodes in them
    /// suffice. Sets that are farther need not be looked at.
    fn neighbourhood(&mut self, size: usize) -> Option<NumaMask> {
        let MaskOrder::Closest(distances) = self.subsets.order else { return None };
        let fullness = |position: &usize| self.sums.last().map_or(0, |sum| sum.weight(*position));
        let node_at = |position: &usize| self.nodes.get(*position).copied().unwrap_or(0);
        let mut best = None;
        for centre in &self.nodes {
            let mut positions: Vec<usize> = (0..self.nodes.len()).collect();
            positions.sort_by_key(|position| (distances.way(*centre, node_at(position)), *position));
            let all = positions.len();
            let radii = (0..usize::BITS).map(|step| (size + (1 << step) - 1).min(all)).take(8);
            let found = radii.into_iter().find_map(|radius| {
                let mut inside: Vec<usize> = positions.get(..radius)?.to_vec();
                inside.sort_by_key(|position| std::cmp::Reverse(fullness(position)));
                let mask: NumaMask = inside.iter().take(size).map(node_at).collect();
                self.is_acceptable(mask).then_some(mask)
            });
            let found = found.map(|mask| (distances.sum(mask), mask));
            best = best.into_iter().chain(found).min();
        }
        let (sum, mask) = best?;
        self.closer_than = sum + 1;
        Some(mask)
    }
}
