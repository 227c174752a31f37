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
//! The number of ways has a limit ([`PATIENCE`]), which adversarial amounts reach, and sets of a dozen nodes and more
//! where distances must be compared; what was found until then counts.

use std::collections::BTreeSet;

use crate::hint::{Bound, Demand, MaskOrder, NumaMask};

/// Ways that are looked at before the search gives up: about half a second. One costs ten times as much with distances.
const PATIENCE: usize = 100_000;

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
    best: Option<NumaMask>,
    /// With distances: sums that count from now on.
    closer_than: u64,
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
        let whole = Way { slack, left_out: vec![NumaMask::EMPTY; bins.len()] };
        let mut search = Self {
            bins,
            nodes,
            order,
            cheapest,
            failed: BTreeSet::new(),
            patience: if order == MaskOrder::Narrowest { PATIENCE } else { PATIENCE / 10 },
            best: None,
            closer_than: u64::MAX,
        };
        let start = search.neighbourhood(&whole, count as usize);
        let end = search.nodes.len();
        search.descend(NumaMask::EMPTY, end, count as usize, vec![whole]);
        search.best.or(start)
    }

    /// Decides on the first `end` nodes, of which `count` stay. True if the search is over.
    fn descend(&mut self, kept: NumaMask, end: usize, count: usize, ways: Vec<Way>) -> bool {
        if end == count {
            let rest = self.nodes.iter().take(end).fold(0, |mask, node| mask | 1 << node);
            return self.accept(NumaMask(kept.0 | rest));
        }
        let least = self.least_sum(kept, end, count);
        if least >= self.closer_than || self.patience == 0 {
            return false;
        }
        if !ways.iter().any(|way| self.may_take(way, end, end - count)) {
            return false;
        }
        self.patience = self.patience.saturating_sub(ways.len());
        // No set of this branch has a smaller number than the one that keeps the lowest nodes.
        let (lowest, others) = self.nodes.get(..end).unwrap_or_default().split_at_checked(count).unwrap_or_default();
        let lowest = NumaMask(lowest.iter().fold(kept.0, |mask, node| mask | 1 << node));
        let closest = match self.order {
            MaskOrder::Narrowest => true,
            MaskOrder::Closest(distances) => distances.sum(lowest) == least,
        };
        if closest && ways.iter().take(2).any(|way| self.takes_greedily(way, others)) {
            return self.accept(lowest);
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
                self.best = Some(mask);
                true
            }
            MaskOrder::Closest(distances) => {
                let sum = distances.sum(mask);
                // The search comes by smaller numbers first, so an equal sum is no improvement.
                if sum < self.closer_than {
                    self.best = Some(mask);
                    self.closer_than = sum;
                }
                false
            }
        }
    }

    /// A distance sum that no way to keep `count` of the first `end` nodes falls below; 0 without distances.
    fn least_sum(&self, kept: NumaMask, end: usize, count: usize) -> u64 {
        let MaskOrder::Closest(distances) = self.order else { return 0 };
        let ways = |node: u32| kept.iter().map(|other| distances.way(node, other)).sum();
        let below = self.nodes.iter().take(end).map(|node| (*node, ways(*node)));
        distances.sum(kept) + distances.least_more(below, count)
    }

    /// With distances, a set that is probably close: for each node, those nearest to it, if the others can be left out.
    fn neighbourhood(&mut self, whole: &Way, count: usize) -> Option<NumaMask> {
        let MaskOrder::Closest(distances) = self.order else { return None };
        let around = |centre: &u32| {
            let mut nodes = self.nodes.clone();
            nodes.sort_by_key(|node| (distances.way(*centre, *node), *node));
            let others = nodes.split_off(count.min(nodes.len()));
            let mask: NumaMask = nodes.into_iter().collect();
            self.takes_greedily(whole, &others).then(|| (distances.sum(mask), mask))
        };
        let (sum, mask) = self.nodes.iter().filter_map(around).min()?;
        self.closer_than = sum + 1;
        Some(mask)
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
    fn takes_greedily(&self, way: &Way, nodes: &[u32]) -> bool {
        let mut way = way.clone();
        for node in nodes {
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
