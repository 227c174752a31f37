//! The merge: one hint out of all the hints of all the resources.
//!
//! The kubelet walks every combination of one hint per resource and keeps the best so far by a pairwise rule. What it
//! ends up with does not depend on the order, and has a closed form, which is what is computed here:
//!
//! 1. A combination stands for the intersection of its masks ("no mask" is all nodes). Empty intersections are dropped.
//! 2. A combination is preferred if all its hints are, and all its masks are the same. If there is such a one, the result
//!    is the best of these masks in the [`MaskOrder`]. No combination need be walked: it is a mask that every list names
//!    as preferred, or leaves free with a preferred hint without a mask.
//! 3. Else let `B` be the largest, over the resources, of the size of its narrowest mask. The result is the widest
//!    intersection of at most `B` nodes, the best in the order among equally wide ones; without any, simply the best.
//! 4. With no combination left the result is all nodes, not preferred.

use super::intersections;
use super::{MaskOrder, NumaMask, ProviderHints, TopologyHint};

/// The hints of every resource, and the nodes they speak of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merge<'a> {
    /// All NUMA nodes of the machine, those without CPUs included.
    pub(crate) nodes: NumaMask,
    /// Which node sets are better than others.
    pub(crate) order: MaskOrder<'a>,
    /// Hints with more nodes than this take no part in a preferred combination.
    pub(crate) widest: u32,
}

impl Merge<'_> {
    /// The merged hint of these lists; a list without hints leaves no combination, no list leaves all nodes.
    pub(crate) fn best<'h, L>(self, lists: L) -> TopologyHint
    where
        L: Iterator<Item = &'h [TopologyHint]> + Clone,
    {
        if let Some(mask) = self.best_preferred(lists.clone()) {
            return TopologyHint::new(mask, true);
        }
        let limit = lists.clone().filter_map(narrowest).max().unwrap_or(0);
        let mut best: Option<NumaMask> = None;
        intersections::for_each(self.nodes, lists, |mask| best = Some(self.better_within(limit, best, mask)));
        TopologyHint::new(best.unwrap_or(self.nodes), false)
    }

    /// The best mask that every resource names as preferred, or leaves free.
    pub(crate) fn best_preferred<'h, L>(self, lists: L) -> Option<NumaMask>
    where
        L: Iterator<Item = &'h [TopologyHint]> + Clone,
    {
        let preferred = |list: &'h [TopologyHint]| list.iter().filter(|hint| hint.preferred);
        let leaves_free = |list| preferred(list).any(|hint| hint.affinity.is_none());
        let named = |list| preferred(list).filter_map(|hint| hint.affinity).filter(|mask| self.may_win(*mask));
        let mut insisting = lists.clone().filter(|list| !leaves_free(list));
        let Some(first) = insisting.next() else {
            // Everybody would take any node, so a mask that only one list names is still a combination.
            return lists.flat_map(named).chain([self.nodes]).min_by(|a, b| self.order.compare(*a, *b));
        };
        // A mask of the first insisting list wins if the other insisting ones name it, too.
        let mut candidates: Vec<NumaMask> = named(first).collect();
        for list in insisting {
            keep_common(&mut candidates, named(list));
        }
        candidates.into_iter().min_by(|a, b| self.order.compare(*a, *b))
    }

    /// True if a preferred combination may consist of this mask.
    fn may_win(self, mask: NumaMask) -> bool {
        mask.len() <= self.widest && !mask.intersection(self.nodes).is_empty()
    }

    /// Rule 3 for one more intersection.
    fn better_within(self, limit: u32, best: Option<NumaMask>, mask: NumaMask) -> NumaMask {
        let Some(best) = best else { return mask };
        let wins = match (mask.len() <= limit, best.len() <= limit) {
            (true, false) => true,
            (false, true) => false,
            (true, true) if mask.len() != best.len() => mask.len() > best.len(),
            _ => self.order.compare(mask, best).is_lt(),
        };
        if wins { mask } else { best }
    }
}

/// Drops the candidates that are not among `named`.
fn keep_common(candidates: &mut Vec<NumaMask>, named: impl Iterator<Item = NumaMask> + Clone) {
    /// Below this many candidates, walking the list for each is cheaper than sorting it.
    const FEW: usize = 16;
    if candidates.len() <= FEW {
        candidates.retain(|candidate| named.clone().any(|mask| mask == *candidate));
    } else {
        let mut sorted: Vec<NumaMask> = named.collect();
        sorted.sort_unstable();
        candidates.retain(|candidate| sorted.binary_search(candidate).is_ok());
    }
}

/// Number of nodes of the narrowest mask of a list; none if no hint has a mask.
fn narrowest(list: &[TopologyHint]) -> Option<u32> {
    list.iter().filter_map(|hint| hint.affinity).map(NumaMask::len).min()
}

/// All resources of all providers; a provider without an opinion takes any node, so it is left out.
pub(crate) fn flatten(providers: &[ProviderHints]) -> impl Iterator<Item = &[TopologyHint]> + Clone {
    providers.iter().flat_map(|provider| provider.resources().iter().map(|resource| resource.hints.as_slice()))
}
