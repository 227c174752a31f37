//! Every node set that is the intersection of one hint of each resource, without walking the combinations.
//!
//! Three full lists on eight nodes have sixteen million combinations but at most 255 distinct intersections. Count,
//! for each set `S`, the hints of a list that contain `S` (a superset sum, one addition per node and set). The product of
//! these counts over all lists is the number of combinations whose intersection contains `S`, and undoing the superset
//! sum leaves the number of those whose intersection *is* `S`: `S` can be had if that number is not zero. The numbers
//! are exact: before a product could overflow, the counts are cut down to "can be had" (1) or not (0).
//! Lists on more than [`DENSE_NODES`] nodes are intersected pair by pair instead, which is exact for any length.

use super::{NumaMask, TopologyHint};

/// Up to this many nodes one counter per node set is affordable: 65,536 of eight bytes.
const DENSE_NODES: u32 = 16;
/// Up to this many nodes the counters live on the stack.
const SMALL_NODES: u32 = 8;
/// Counters on the stack.
const SMALL_SETS: usize = 1 << SMALL_NODES;

/// Calls `found` for every non-empty intersection of one hint of each list; some may be named more than once.
///
/// A hint without a mask stands for all `nodes`. An empty list has no hint to choose, so nothing is found.
pub(super) fn for_each<'a, L, F>(nodes: NumaMask, lists: L, mut found: F)
where
    L: Iterator<Item = &'a [TopologyHint]> + Clone,
    F: FnMut(NumaMask),
{
    let mut smallest = 1usize;
    for list in lists.clone() {
        smallest = smallest.saturating_mul(list.len());
    }
    let width = nodes.len();
    if smallest <= 64 || width > DENSE_NODES {
        pairwise(nodes, lists, &mut found);
    } else if width <= SMALL_NODES {
        let (mut product, mut list) = ([0u64; SMALL_SETS], [0u64; SMALL_SETS]);
        dense(nodes, lists, (&mut product, &mut list), &mut found);
    } else {
        let (mut product, mut list) = (vec![0u64; 1 << width], vec![0u64; 1 << width]);
        dense(nodes, lists, (&mut product, &mut list), &mut found);
    }
}

/// The exact fold over distinct intersections, for few combinations or many nodes.
pub(super) fn pairwise<'a>(
    nodes: NumaMask,
    lists: impl Iterator<Item = &'a [TopologyHint]>,
    found: &mut dyn FnMut(NumaMask),
) {
    let mut reached = vec![nodes.0];
    let mut next = Vec::new();
    for list in lists {
        if is_any(list) {
            continue;
        }
        next.clear();
        for hint in list {
            let mask = hint.affinity.map_or(nodes.0, |mask| mask.0);
            next.extend(reached.iter().map(|set| set & mask).filter(|set| *set != 0));
        }
        next.sort_unstable();
        next.dedup();
        std::mem::swap(&mut reached, &mut next);
    }
    reached.into_iter().for_each(|set| found(NumaMask(set)));
}

/// True if the list is the single hint "anywhere", which changes no intersection.
fn is_any(list: &[TopologyHint]) -> bool {
    matches!(list, [TopologyHint { affinity: None, .. }])
}

/// The method at the top of this file; both buffers are zero and hold one counter per set of `nodes`.
fn dense<'a>(
    nodes: NumaMask,
    lists: impl Iterator<Item = &'a [TopologyHint]>,
    (product, counts): (&mut [u64], &mut [u64]),
    found: &mut dyn FnMut(NumaMask),
) {
    let width = nodes.len();
    let sets = 1usize << width;
    let Some(product) = product.get_mut(..sets) else { return };
    let Some(counts) = counts.get_mut(..sets) else { return };
    let spread = Spread::new(nodes);
    product.fill(1);
    let mut bound = 1u64;
    for list in lists {
        if is_any(list) {
            continue;
        }
        let length = list.len() as u64;
        bound = bound.checked_mul(length).unwrap_or_else(|| {
            cut_down(product);
            length << width
        });
        counts.fill(0);
        for hint in list {
            let index = hint.affinity.map_or(sets - 1, |mask| spread.pack(mask));
            if let Some(count) = counts.get_mut(index) {
                *count += 1;
            }
        }
        sum_over_supersets(counts);
        product.iter_mut().zip(counts.iter()).for_each(|(product, count)| *product *= count);
    }
    undo_sum_over_supersets(product);
    for (index, combinations) in product.iter().enumerate().skip(1) {
        if *combinations != 0 {
            found(spread.unpack(index));
        }
    }
}

/// Replaces superset counts by those of a list that names each reached set once.
fn cut_down(product: &mut [u64]) {
    undo_sum_over_supersets(product);
    product.iter_mut().for_each(|count| *count = u64::from(*count != 0));
    sum_over_supersets(product);
}

/// `counts[S]` becomes the sum of `counts[T]` over all `T ⊇ S`.
fn sum_over_supersets(counts: &mut [u64]) {
    for_each_pair(counts, |without, with| *without += *with);
}

/// The inverse of [`sum_over_supersets`].
fn undo_sum_over_supersets(counts: &mut [u64]) {
    for_each_pair(counts, |without, with| *without -= *with);
}

/// For each node, visits the counters of every set without it beside the same set with it.
fn for_each_pair(counts: &mut [u64], visit: impl Fn(&mut u64, &u64)) {
    let mut half = 1;
    while half < counts.len() {
        for block in counts.chunks_exact_mut(half * 2) {
            let (without, with) = block.split_at_mut(half);
            without.iter_mut().zip(with.iter()).for_each(|(without, with)| visit(without, with));
        }
        half *= 2;
    }
}

/// Renumbers the nodes of a machine without gaps, keeping their order.
struct Spread {
    nodes: u64,
    gapless: bool,
}

impl Spread {
    fn new(nodes: NumaMask) -> Self {
        Self { nodes: nodes.0, gapless: nodes.0 & nodes.0.wrapping_add(1) == 0 }
    }

    /// Index of a mask; nodes that the machine does not have are left out.
    fn pack(&self, mask: NumaMask) -> usize {
        let mut inside = mask.0 & self.nodes;
        if !self.gapless {
            let (mut index, mut rest) = (0u64, inside);
            while rest != 0 {
                let below = (rest & rest.wrapping_neg()) - 1;
                index |= 1 << (self.nodes & below).count_ones();
                rest &= rest - 1;
            }
            inside = index;
        }
        usize::try_from(inside).unwrap_or(0)
    }

    /// The mask of an index.
    fn unpack(&self, index: usize) -> NumaMask {
        if self.gapless {
            return NumaMask(index as u64);
        }
        NumaMask::from_iter(
            NumaMask(self.nodes)
                .iter()
                .enumerate()
                .filter(|(position, _)| index >> position & 1 == 1)
                .map(|(_, node)| node),
        )
    }
}
