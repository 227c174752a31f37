//! The best intersection of exactly `k` nodes: which nodes can be left out, and by whom.
//!
//! Every resource starts from the widest set it allows, and their intersection is `T`. A node of `T` disappears from the
//! intersection as soon as *one* resource leaves it out, which costs this resource what it has there. So a set `S ⊂ T`
//! is an intersection exactly if the nodes of `T∖S` can be dealt out to the resources without any of them falling
//! below its needs: a packing problem with a bin per resource.
//!
//! The search decides node by node, from the highest to the lowest, and leaves a node out rather than in, so the first
//! set found is the smallest by number. Along a branch it carries every way to deal out the nodes left out so far,
//! reduced to what each way leaves in the bins; a way that leaves no bin fuller than another does is dropped. Equal nodes
//! lead to equal bins, so on real machines there are few ways. A branch is cut when no way remains, or when none can
//! take as many further nodes as must still be left out. It is over as soon as the lowest nodes can simply stay and all
//! others be dealt out greedily, since no set is smaller.
//!
//! The number of ways has a limit ([`PATIENCE`]), which only adversarial amounts reach; what was found until then counts.

use std::collections::BTreeSet;

use crate::hint::{Bound, Demand, MaskOrder, NumaMask};

/// Ways that are looked at before the search gives up: about a second.
const PATIENCE: usize = 1_000_000;

/// A resource that can leave nodes out.
pub(super) struct Bin<'a> {
    /// Its widest set.
    top: NumaMask,
    /// Nodes that it must keep.
    required: NumaMask,
    bounds: &'a [Bound],
    /// Some things are near several nodes, so that the cost of leaving a node out depends on what else is left out.
    spanning: bool,
}

impl<'a> Bin<'a> {
    pub(super) fn new(demand: &'a Demand) -> Self {
        let spanning = demand.bounds.iter().any(|bound| !bound.spanning.is_empty());
        Self { top: demand.universe, required: demand.required, bounds: &demand.bounds, spanning }
    }
}

/// One way to deal out the nodes left out so far.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// What each bound of each bin has beyond its need, in order.
    slack: Vec<u64>,
    /// Which nodes each spanning bin leaves out; empty for the others.
    left_out: Vec<NumaMask>,
}

/// The search for one intersection.
pub(super) struct Cover<'a> {
    bins: Vec<Bin<'a>>,
    /// Nodes of the widest intersection, ascending.
    nodes: Vec<u32>,
    order: MaskOrder<'a>,
    /// `cheapest[bound][i]`: what the nodes among the first `i` cost in this bound that cost least, as running sums.
    cheapest: Vec<Vec<Vec<u64>>>,
    failed: BTreeSet<(usize, usize, Vec<Way>)>,
    /// Ways that may still be looked at.
    patience: usize,
    best: Option<(NumaMask, u64)>,
}

impl<'a> Cover<'a> {
    /// The best intersection of `count` nodes out of `top`, which every bin holds.
    pub(super) fn best(bins: Vec<Bin<'a>>, top: NumaMask, count: u32, order: MaskOrder<'a>) -> Option<NumaMask> {
        if count == 0 || count > top.len() {
            return None;
        }
        let nodes: Vec<u32> = top.iter().collect();
        let mut slack = Vec::new();
        let mut cheapest = Vec::new();
        for bin in &bins {
            for bound in bin.bounds {
                slack.push(bound.total(bin.top).checked_sub(bound.need)?);
                cheapest.push(if bin.spanning { Vec::new() } else { cheapest_first(bin, bound, &nodes) });
            }
        }
        let ways = vec![Way { slack, left_out: vec![NumaMask::EMPTY; bins.len()] }];
        let mut search = Self { bins, nodes, order, cheapest, failed: BTreeSet::new(), patience: PATIENCE, best: None };
        let end = search.nodes.len();
        search.descend(NumaMask::EMPTY, end, count as usize, ways);
        search.best.map(|(mask, _)| mask)
    }

    /// Decides on the first `end` nodes, of which `count` stay. True if the search is over.
    fn descend(&mut self, kept: NumaMask, end: usize, count: usize, ways: Vec<Way>) -> bool {
        if end == count {
            let rest = self.nodes.iter().take(end).fold(0, |mask, node| mask | 1 << node);
            return self.accept(NumaMask(kept.0 | rest));
        }
        let below = self.nodes.get(..end).unwrap_or_default();
        if let (MaskOrder::Closest(distances), Some((_, best))) = (self.order, self.best)
            && distances.least_sum(kept, below, count) >= best
        {
            return false;
        }
        if self.patience == 0 || !ways.iter().any(|way| self.may_take(way, end, end - count)) {
            return false;
        }
        self.patience = self.patience.saturating_sub(ways.len());
        if self.order == MaskOrder::Narrowest && ways.iter().take(2).any(|way| self.takes_greedily(way, count..end)) {
            let rest = self.nodes.iter().take(count).fold(0, |mask, node| mask | 1 << node);
            return self.accept(NumaMask(kept.0 | rest));
        }
        let state = (end, count, ways);
        if self.order == MaskOrder::Narrowest && self.failed.contains(&state) {
            return false;
        }
        let Some(node) = self.nodes.get(end - 1).copied() else { return false };
        let without = self.leave_out(node, &state.2);
        if !without.is_empty() && self.descend(kept, end - 1, count, without) {
            return true;
        }
        if count > 0 && self.descend(NumaMask(kept.0 | 1 << node), end - 1, count - 1, state.2.clone()) {
            return true;
        }
        if self.order == MaskOrder::Narrowest {
            self.failed.insert(state);
        }
        false
    }

    fn accept(&mut self, mask: NumaMask) -> bool {
        match self.order {
            MaskOrder::Narrowest => {
                self.best = Some((mask, 0));
                true
            }
            MaskOrder::Closest(distances) => {
                let sum = distances.sum(mask);
                let known = self.best;
                // The search comes by smaller numbers first, so an equal sum is no improvement.
                if known.is_none_or(|(_, best)| sum < best) {
                    self.best = Some((mask, sum));
                }
                false
            }
        }
    }

    /// False if the bins of this way certainly cannot take `count` of the first `end` nodes.
    fn may_take(&self, way: &Way, end: usize, count: usize) -> bool {
        let mut places = 0;
        let mut at = 0;
        for bin in &self.bins {
            let mut most = count;
            for _ in bin.bounds {
                let (slack, sums) = (way.slack.get(at).copied().unwrap_or(0), self.cheapest.get(at));
                at += 1;
                if let Some(sums) = sums.and_then(|sums| sums.get(end)) {
                    most = most.min(sums.partition_point(|sum| *sum <= slack));
                }
            }
            places += most;
        }
        places >= count
    }

    /// True if all these nodes can be left out by giving each to the first bin that takes it for nothing, or else to the
    /// one that has the most to spare.
    fn takes_greedily(&self, way: &Way, positions: std::ops::Range<usize>) -> bool {
        let mut way = way.clone();
        for node in self.nodes.get(positions).unwrap_or_default() {
            let mut options = self.ways_to_leave_out(*node, &way);
            // Of equally good options the last one is taken: spare amounts compare as lists.
            options.sort_by_cached_key(|option| option.slack.iter().copied().min().unwrap_or(0));
            match options.pop() {
                Some(option) => way = option,
                None => return false,
            }
        }
        true
    }

    /// Every way to leave out one more node.
    fn leave_out(&self, node: u32, ways: &[Way]) -> Vec<Way> {
        undominated(ways.iter().flat_map(|way| self.ways_to_leave_out(node, way)).collect())
    }

    /// Each bin that can leave a node out, unless one can do so for nothing: nothing is better than that.
    fn ways_to_leave_out(&self, node: u32, way: &Way) -> Vec<Way> {
        let mut next = Vec::new();
        let mut at = 0;
        for (index, bin) in self.bins.iter().enumerate() {
            let bounds = at..at + bin.bounds.len();
            at = bounds.end;
            let Some(option) = self.leave_out_of(node, way, index, bounds) else { continue };
            if option.slack == way.slack && !bin.spanning {
                return vec![option];
            }
            next.push(option);
        }
        next
    }

    /// One bin leaves a node out, if it can.
    fn leave_out_of(&self, node: u32, way: &Way, index: usize, bounds: std::ops::Range<usize>) -> Option<Way> {
        let bin = self.bins.get(index)?;
        if bin.required.contains(node) {
            return None;
        }
        let mut next = way.clone();
        let left_out = next.left_out.get_mut(index)?;
        if bin.spanning {
            left_out.0 |= 1 << node;
        }
        let kept = NumaMask(bin.top.0 & !left_out.0);
        for (bound, slack) in bin.bounds.iter().zip(next.slack.get_mut(bounds)?) {
            *slack = if bin.spanning {
                bound.total(kept).checked_sub(bound.need)?
            } else {
                slack.checked_sub(bound.weight(node))?
            };
        }
        Some(next)
    }
}

/// For each `i`, the running sums of the costs of the first `i` nodes, the cheapest first, without required nodes.
fn cheapest_first(bin: &Bin<'_>, bound: &Bound, nodes: &[u32]) -> Vec<Vec<u64>> {
    let mut sorted: Vec<u64> = Vec::new();
    let mut all = vec![Vec::new()];
    for node in nodes {
        if !bin.required.contains(*node) {
            let cost = bound.weight(*node);
            sorted.insert(sorted.partition_point(|known| *known <= cost), cost);
        }
        let mut sum = 0u64;
        all.push(
            sorted
                .iter()
                .map(|cost| {
                    sum = sum.saturating_add(*cost);
                    sum
                })
                .collect(),
        );
    }
    all
}

/// Drops ways that leave no bin fuller than another way does.
fn undominated(mut ways: Vec<Way>) -> Vec<Way> {
    ways.sort_unstable_by(|a, b| b.cmp(a));
    ways.dedup();
    let mut kept: Vec<Way> = Vec::new();
    for way in ways {
        let worse = |other: &Way| {
            other.slack.iter().zip(&way.slack).all(|(a, b)| a >= b)
                && other.left_out.iter().zip(&way.left_out).all(|(a, b)| b.is_superset(*a))
        };
        if !kept.iter().any(worse) {
            kept.push(way);
        }
    }
    kept
}
