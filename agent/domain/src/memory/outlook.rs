//! Which node sets can serve a request on a machine with too many nodes to list the sets.
//!
//! A set can serve if it is one ungrouped node, an existing group, or several nodes without assignments; so per-node
//! amounts and the few groups say everything. The smallest set is found by branch and bound over the nodes without
//! assignments.

use super::request::MemoryRequest;
use super::reuse::ReusableMemory;
use super::state::MemoryState;
use crate::hint::NumaMask;
use crate::workload::PodUid;

/// What each node has for one request; the amounts are in the order of the types of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOutlook {
    /// Bytes asked for.
    pub needed: Vec<u64>,
    /// Every node, ascending by id.
    pub nodes: Vec<NodeOutlook>,
    /// Sets on which the pod can use memory of its init containers again, with the bytes of each type.
    pub reusable: Vec<(NumaMask, Vec<u64>)>,
}

/// What one node has for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeOutlook {
    /// Id.
    pub id: u32,
    /// Bytes on the empty machine.
    pub allocatable: Vec<u64>,
    /// Bytes not given out.
    pub free: Vec<u64>,
    /// True if no block touches the node: then it may join any set.
    pub unassigned: bool,
    /// Its group; itself if it is in none.
    pub group: NumaMask,
}

impl MemoryOutlook {
    pub(super) fn new(state: &MemoryState, reusable: &ReusableMemory, pod: &PodUid, request: &MemoryRequest) -> Self {
        let kinds: Vec<_> = request.iter().map(|(kind, _)| kind).collect();
        let nodes = state.nodes().iter().map(|node| {
            let tables =
                || kinds.iter().map(|kind| state.kind_index(kind).and_then(|k| node.table(k)).unwrap_or_default());
            NodeOutlook {
                id: node.id,
                allocatable: tables().map(|table| table.allocatable).collect(),
                free: tables().map(|table| table.free).collect(),
                unassigned: node.assignments == 0,
                group: node.group,
            }
        });
        let sets = reusable.sets(pod);
        let again = |set: NumaMask| kinds.iter().map(|kind| reusable.amount(pod, set, kind)).collect();
        Self {
            needed: request.iter().map(|(_, bytes)| bytes).collect(),
            nodes: nodes.collect(),
            reusable: sets.into_iter().map(|set| (set, again(set))).collect(),
        }
    }

    /// The number of nodes that the empty machine would need; absent if all of them are too few.
    #[must_use]
    pub fn smallest(&self) -> Option<u32> {
        let all: Vec<&NodeOutlook> = self.nodes.iter().collect();
        (1..=u32::try_from(all.len()).ok()?).find(|size| {
            let search = Search { needed: &self.needed, amounts: |node: &NodeOutlook| node.allocatable.clone() };
            search.lowest(&all, *size, NumaMask::EMPTY).is_some()
        })
    }

    /// True if the set may be used by the group rule and has enough memory.
    #[must_use]
    pub fn serves(&self, nodes: NumaMask) -> bool {
        let members = || self.nodes.iter().filter(|node| nodes.contains(node.id));
        let joins = if nodes.len() > 1 {
            members().all(|node| node.unassigned || node.group == nodes)
        } else {
            members().all(|node| node.group.len() <= 1)
        };
        let again = self.reusable.iter().find(|(set, _)| *set == nodes).map(|(_, bytes)| bytes.as_slice());
        joins
            && self.needed.iter().enumerate().all(|(kind, needed)| {
                let again = again.and_then(|bytes| bytes.get(kind)).copied().unwrap_or(0);
                let free = members().map(|node| node.free.get(kind).copied().unwrap_or(0));
                free.fold(again, u64::saturating_add) >= *needed
            })
    }
}

/// The best set that contains all of `inside`, and whether it is preferred: fewest nodes, then the lowest number.
///
/// A preferred set has the fewest nodes of all that any machine state allows, so the fewest nodes come first anyway.
pub(super) fn best(outlook: &MemoryOutlook, inside: NumaMask) -> Option<(NumaMask, bool)> {
    let smallest = outlook.smallest()?;
    let singles = outlook.nodes.iter().filter_map(|node| NumaMask::single(node.id));
    let groups = outlook.nodes.iter().map(|node| node.group);
    let again = outlook.reusable.iter().map(|(set, _)| *set);
    let known = singles.chain(groups).chain(again);
    let known = known.filter(|set| set.is_superset(inside) && outlook.serves(*set)).map(|set| (set.len(), set)).min();
    let free: Vec<&NodeOutlook> = outlook.nodes.iter().filter(|node| node.unassigned).collect();
    let free_mask: NumaMask = free.iter().map(|node| node.id).collect();
    let search = Search { needed: &outlook.needed, amounts: |node: &NodeOutlook| node.free.clone() };
    let most = known.map_or(free_mask.len(), |(size, _)| size.min(free_mask.len()));
    let joined = (2.max(inside.len())..=most).filter(|_| free_mask.is_superset(inside));
    let joined =
        joined.map(|size| (size, search.lowest(&free, size, inside))).find_map(|(size, set)| Some((size, set?)));
    let (size, set) = known.into_iter().chain(joined).min()?;
    Some((set, size == smallest))
}

/// Looks for a set of a given size with enough of everything.
struct Search<'a, A> {
    needed: &'a [u64],
    amounts: A,
}

/// Most nodes that one search decides about. Only machines whose nodes differ in several types of memory at once come
/// near; there the search ends with "nothing found" rather than never.
const PATIENCE: u32 = 200_000;

/// One unit of `shares`: all that is needed of one type.
const SHARE: u128 = 1 << 32;

impl<A: Fn(&NodeOutlook) -> Vec<u64>> Search<'_, A> {
    /// The numerically lowest set of `size` nodes that contains `inside` and has what is needed: nodes are decided from
    /// the highest down, and each is left out if the rest can still do without it.
    fn lowest(&self, nodes: &[&NodeOutlook], size: u32, inside: NumaMask) -> Option<NumaMask> {
        let mut nodes: Vec<_> = nodes.iter().map(|node| (node.id, (self.amounts)(node))).collect();
        nodes.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        self.decide(&nodes, (size, inside), &vec![0; self.needed.len()], &mut PATIENCE.clone())
    }

    fn decide(
        &self,
        nodes: &[(u32, Vec<u64>)],
        (size, inside): (u32, NumaMask),
        sums: &[u64],
        patience: &mut u32,
    ) -> Option<NumaMask> {
        if size == 0 {
            let left_out = nodes.iter().any(|(id, _)| inside.contains(*id));
            return (!left_out && self.enough(sums)).then_some(NumaMask::EMPTY);
        }
        *patience = patience.checked_sub(1)?;
        if !self.reachable(nodes, size, sums) {
            return None;
        }
        let ((id, amounts), rest) = nodes.split_first()?;
        if !inside.contains(*id)
            && let Some(found) = self.decide(rest, (size, inside), sums, patience)
        {
            return Some(found);
        }
        let with: Vec<u64> = sums.iter().zip(amounts).map(|(a, b)| a.saturating_add(*b)).collect();
        let found = self.decide(rest, (size - 1, inside), &with, patience)?;
        Some(found.union(NumaMask::single(*id)?))
    }

    fn enough(&self, sums: &[u64]) -> bool {
        self.needed.iter().zip(sums).all(|(needed, sum)| sum >= needed)
    }

    /// A bound: the `size` largest amounts, of each type on its own and of all types together.
    fn reachable(&self, nodes: &[(u32, Vec<u64>)], size: u32, sums: &[u64]) -> bool {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let enough = |kind: usize, needed: u64, sum: u64| {
            let amounts = nodes.iter().map(|(_, amounts)| u128::from(amounts.get(kind).copied().unwrap_or(0)));
            largest(amounts, size) + u128::from(sum) >= u128::from(needed)
        };
        let each = || self.needed.iter().zip(sums).enumerate().all(|(kind, (needed, sum))| enough(kind, *needed, *sum));
        let together = || {
            let all = SHARE * self.needed.len() as u128;
            largest(nodes.iter().map(|(_, amounts)| self.shares(amounts)), size) + self.shares(sums) >= all
        };
        nodes.len() >= size && each() && (self.needed.len() < 2 || together())
    }

    /// How much of the whole request these amounts cover, each type counted up to what is needed of it; rounded up.
    fn shares(&self, amounts: &[u64]) -> u128 {
        let share = |(needed, amount): (&u64, &u64)| {
            let needed = u128::from(*needed);
            if needed == 0 { SHARE } else { (u128::from(*amount).min(needed) * SHARE).div_ceil(needed) }
        };
        self.needed.iter().zip(amounts).map(share).sum()
    }
}

/// The sum of the largest amounts.
fn largest(amounts: impl Iterator<Item = u128>, count: usize) -> u128 {
    let mut amounts: Vec<u128> = amounts.collect();
    amounts.sort_unstable_by(|a, b| b.cmp(a));
    amounts.iter().take(count).sum()
}
