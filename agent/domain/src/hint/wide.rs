//! The merge on machines with too many NUMA nodes to list hints: the same result, decided on conditions.
//!
//! What is computed is the closed form of [`merge`](super::merge), with [`Demand`]s in place of lists:
//!
//! - A *preferred* mask must be allowed and preferred by every resource, so its size is known: it is the best set of that
//!   many nodes that satisfies the sums of all resources at once ([`subset`]), or one of the isolated sets.
//! - Else each resource may narrow its widest set node by node, and the intersection shrinks by at most one node at a
//!   time. So all sizes from the widest intersection down to the narrowest can be had, and the wanted one, the
//!   largest of at most `B` nodes, is `B` itself or the whole intersection; [`cover`] finds the best one of that size.
//!   Isolated sets do not shrink: each combination of them and free sets is looked at by itself.
//!
//! Both searches take exponential time in the worst case, as the problem does; on machines whose nodes come in a few
//! kinds they take microseconds.

mod cover;
mod subset;
#[cfg(test)]
mod tests;

use cover::{Bin, Cover};
use subset::{Filter, Subsets};

use super::{Demand, MaskOrder, MergedHint, NumaMask, Opinion, TopologyHint, TopologyManager, TopologyPolicy};

impl TopologyManager {
    /// Merges the demands of all resources of all providers by the policy: what [`merge`](Self::merge) makes of the
    /// hints that the demands stand for. A provider without an opinion has no demand.
    #[must_use]
    pub fn merge_demands(&self, opinions: &[Opinion]) -> MergedHint {
        let wide = Wide { nodes: self.nodes(), order: self.order(), opinions };
        match self.policy() {
            TopologyPolicy::None => MergedHint { hint: TopologyHint::NONE, admit: true },
            TopologyPolicy::BestEffort => MergedHint { hint: wide.best(), admit: true },
            TopologyPolicy::Restricted => {
                let hint = wide.best();
                MergedHint { hint, admit: hint.preferred }
            }
            TopologyPolicy::SingleNumaNode => {
                let mask = wide.best_single();
                let affinity = mask.filter(|mask| *mask != self.nodes());
                MergedHint { hint: TopologyHint { affinity, preferred: mask.is_some() }, admit: mask.is_some() }
            }
        }
    }
}

/// True if some node set is allowed and preferred by all of these.
pub(crate) fn agree(opinions: &[Opinion]) -> bool {
    let wide = Wide { nodes: NumaMask(u64::MAX), order: MaskOrder::Narrowest, opinions };
    wide.is_possible() && wide.best_preferred().is_some()
}

impl Demand {
    /// Size of the narrowest node set that suffices; none if there is none.
    #[must_use]
    pub fn least_len(&self) -> Option<u32> {
        let free = self.subsets(MaskOrder::Narrowest).least();
        self.isolated.iter().map(|mask| mask.len()).chain(free).min()
    }

    /// The best node set that holds all of `required`: a preferred one before others, then a narrower, then the one
    /// with the smaller number; with whether it is preferred.
    #[must_use]
    pub fn best_containing(&self, required: NumaMask) -> Option<(NumaMask, bool)> {
        let mut subsets = self.subsets(MaskOrder::Narrowest);
        subsets.required = subsets.required.union(required);
        let isolated = || self.isolated.iter().copied().filter(|mask| mask.is_superset(required));
        let order = |a: &NumaMask, b: &NumaMask| MaskOrder::Narrowest.compare(*a, *b);
        let prefers = Filter { may: &|_| true, is: &|mask| self.prefers(mask) };
        let sizes = if self.preferred.sockets.is_some() {
            1..=self.universe.len()
        } else {
            self.preferred.len..=self.preferred.len
        };
        let filter = |count| (count != self.preferred.len).then_some(prefers);
        let preferred = sizes.into_iter().find_map(|count| subsets.best(count, filter(count)));
        let preferred = isolated().filter(|mask| self.prefers(*mask)).chain(preferred).min_by(order);
        if let Some(mask) = preferred {
            return Some((mask, true));
        }
        let any = (1..=self.universe.len()).find_map(|count| subsets.best(count, None));
        isolated().chain(any).min_by(order).map(|mask| (mask, false))
    }

    fn subsets<'a>(&'a self, order: MaskOrder<'a>) -> Subsets<'a> {
        Subsets { universe: self.universe, required: self.required, bounds: self.bounds.iter().collect(), order }
    }
}

/// All opinions, and the machine.
struct Wide<'a> {
    nodes: NumaMask,
    order: MaskOrder<'a>,
    opinions: &'a [Opinion],
}

impl<'a> Wide<'a> {
    /// The demands; none is missing unless a resource is impossible.
    fn demands(&self) -> impl Iterator<Item = &'a Demand> + Clone {
        self.opinions.iter().filter_map(|opinion| match opinion {
            Opinion::Sets(demand) => Some(demand),
            Opinion::Impossible(_) => None,
        })
    }

    fn is_possible(&self) -> bool {
        self.demands().count() == self.opinions.len()
    }

    fn best(&self) -> TopologyHint {
        if self.is_possible()
            && let Some(mask) = self.best_preferred()
        {
            return TopologyHint::new(mask, true);
        }
        TopologyHint::new(self.best_intersection().unwrap_or(self.nodes), false)
    }

    /// Policy `single-numa-node`: one node that everybody prefers; all nodes if nobody has a demand.
    fn best_single(&self) -> Option<NumaMask> {
        if !self.is_possible() {
            return None;
        }
        if self.opinions.is_empty() {
            return Some(self.nodes);
        }
        let singles = self.nodes.iter().filter_map(NumaMask::single);
        let mut accepted = singles.filter(|mask| self.demands().all(|d| d.allows(*mask) && d.prefers(*mask)));
        accepted.next()
    }

    /// The best mask that every resource allows and prefers.
    fn best_preferred(&self) -> Option<NumaMask> {
        if self.opinions.is_empty() {
            return Some(self.nodes);
        }
        let accepted = |mask: &NumaMask| self.demands().all(|demand| demand.allows(*mask) && demand.prefers(*mask));
        let isolated = self.demands().flat_map(|demand| demand.isolated.iter().copied()).filter(accepted);
        let best = isolated.min_by(|a, b| self.order.compare(*a, *b));
        let all = Subsets {
            universe: self.demands().fold(self.nodes, |all, demand| all.intersection(demand.universe)),
            required: self.demands().fold(NumaMask::EMPTY, |all, demand| all.union(demand.required)),
            bounds: self.demands().flat_map(|demand| &demand.bounds).collect(),
            order: self.order,
        };
        // Usually one size is preferred by all; `align-by-socket` prefers sets of several sizes.
        let exact = self.demands().find(|demand| demand.preferred.sockets.is_none()).map(|d| d.preferred.len);
        let mut sizes = exact.map_or(1..=all.universe.len(), |len| len..=len);
        let free = sizes.find_map(|count| self.best_preferred_of(&all, count));
        best.into_iter().chain(free).min_by(|a, b| self.order.compare(*a, *b))
    }

    /// The best preferred free combination of this many nodes.
    fn best_preferred_of(&self, all: &Subsets<'_>, count: u32) -> Option<NumaMask> {
        let picky = || self.demands().filter(|demand| demand.preferred.len != count);
        if picky().next().is_none() {
            return all.best(count, None);
        }
        let covers = || picky().map(|demand| demand.preferred.sockets.as_ref());
        let may = |mask| covers().all(|cover| cover.is_some_and(|cover| cover.touched(mask) <= cover.count));
        let is = |mask| covers().all(|cover| cover.is_some_and(|cover| cover.touched(mask) == cover.count));
        all.best(count, Some(Filter { may: &may, is: &is }))
    }

    /// Rule 3 of the merge.
    fn best_intersection(&self) -> Option<NumaMask> {
        let limit = self.demands().filter_map(Demand::least_len).max().unwrap_or(0);
        let mut shapes = Vec::new();
        let demands: Vec<&Demand> = self.demands().collect();
        shapes_of(&demands, Shape { top: self.nodes, free: Vec::new() }, &mut shapes);
        let best = |size, shrink: bool| {
            let masks = shapes.iter().filter_map(|shape| shape.best(size, self.order, shrink));
            masks.min_by(|a, b| self.order.compare(*a, *b))
        };
        let widest = self.nodes.len();
        // What cannot be narrowed to `limit` nodes cannot be narrowed further: below, only whole shapes are left.
        let mut wanted = (1..=limit.min(widest)).rev();
        let narrow = wanted.find_map(|size| best(size, size == limit));
        narrow.or_else(|| (limit + 1..=widest).find_map(|size| best(size, true)))
    }
}

/// One choice of widest sets: for each resource all its free nodes, or one isolated set.
#[derive(Clone)]
struct Shape<'a> {
    /// Their intersection.
    top: NumaMask,
    /// Resources that can leave nodes out.
    free: Vec<&'a Demand>,
}

impl Shape<'_> {
    /// The best intersection of this size; without `shrink` only if it is the whole one.
    fn best(&self, size: u32, order: MaskOrder<'_>, shrink: bool) -> Option<NumaMask> {
        if self.top.len() <= size || !shrink {
            return (self.top.len() == size).then_some(self.top);
        }
        Cover::best(self.free.iter().map(|demand| Bin::new(demand)).collect(), self.top, size, order)
    }
}

/// Every shape that has a node.
fn shapes_of<'a>(demands: &[&'a Demand], so_far: Shape<'a>, shapes: &mut Vec<Shape<'a>>) {
    if so_far.top.is_empty() {
        return;
    }
    let Some((demand, rest)) = demands.split_first() else {
        shapes.push(so_far);
        return;
    };
    for isolated in &demand.isolated {
        let top = so_far.top.intersection(*isolated);
        shapes_of(rest, Shape { top, free: so_far.free.clone() }, shapes);
    }
    if demand.allows_freely(demand.universe) {
        let mut free = so_far.free;
        free.push(demand);
        shapes_of(rest, Shape { top: so_far.top.intersection(demand.universe), free }, shapes);
    }
}
