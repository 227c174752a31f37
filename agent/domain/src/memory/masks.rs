//! Which node sets can serve a request, set by set.
//!
//! The sets are numbered by the positions of their nodes in the list of nodes. Sums over a set are built from those of
//! the set without its lowest node, so that each costs one addition, in arrays that live on the stack.

use super::request::MemoryRequest;
use super::reuse::ReusableMemory;
use super::state::{MemoryState, NodeMemory};
use super::{MemoryOutlook, outlook};
use crate::hint::{NumaMask, TopologyHint};
use crate::workload::{PodUid, ResourceName};

/// Most nodes whose sets are listed: the kubelet refuses more, unless it is told otherwise.
pub(super) const LISTED_NODES: usize = 8;

/// Sets of that many nodes, the empty one included.
const SETS: usize = 1 << LISTED_NODES;

/// All node sets of a machine in the order in which they are tried; empty for a machine with too many nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MaskOrder {
    nodes: usize,
    /// Set of positions, and the same set as node ids.
    sets: Vec<(usize, NumaMask)>,
}

/// What the machine can do for a request, set by set.
struct Fit {
    /// Enough allocatable memory of every type.
    allocatable: [bool; SETS],
    /// Enough free memory of every type, without what may be used again.
    free: [bool; SETS],
}

impl MaskOrder {
    /// Fewest nodes first, then in the order of a dictionary over the nodes.
    pub(super) fn new(nodes: impl Iterator<Item = u32>) -> Self {
        let ids: Vec<u32> = nodes.collect();
        let mut sets = Vec::new();
        if ids.len() <= LISTED_NODES {
            let members = |set: usize| (0..ids.len()).filter(move |position| set & (1 << position) != 0);
            sets = (1..1_usize << ids.len())
                .map(|set| (set, members(set).filter_map(|position| ids.get(position).copied()).collect()))
                .collect();
            sets.sort_by_key(|(set, _): &(usize, NumaMask)| (set.count_ones(), members(*set).collect::<Vec<_>>()));
        }
        Self { nodes: ids.len(), sets }
    }

    /// Every set that can serve the request, in order; preferred are those of the size that the empty machine needs.
    pub(super) fn hints(
        &self,
        state: &MemoryState,
        reusable: &ReusableMemory,
        pod: &PodUid,
        request: &MemoryRequest,
    ) -> Vec<TopologyHint> {
        let mut hints = Vec::with_capacity(self.sets.len());
        self.visit(state, reusable, (pod, request), |nodes, preferred| hints.push(TopologyHint::new(nodes, preferred)));
        hints
    }

    /// The best set that contains all of `inside`: preferred before others, then fewer nodes, then the lower number.
    ///
    /// Sets are looked for only if `memory` is asked for: the kubelet looks at the hints of that type alone.
    pub(super) fn best(
        &self,
        state: &MemoryState,
        reusable: &ReusableMemory,
        (pod, request): (&PodUid, &MemoryRequest),
        inside: NumaMask,
    ) -> Option<(NumaMask, bool)> {
        request.bytes(&ResourceName::Memory)?;
        if self.nodes > LISTED_NODES {
            return outlook::best(&MemoryOutlook::new(state, reusable, pod, request), inside);
        }
        let mut best: Option<(NumaMask, bool)> = None;
        self.visit(state, reusable, (pod, request), |nodes, preferred| {
            let rank = |(nodes, preferred): (NumaMask, bool)| (!preferred, nodes.len(), nodes);
            let better = best.is_none_or(|known| rank((nodes, preferred)) < rank(known));
            if nodes.is_superset(inside) && better {
                best = Some((nodes, preferred));
            }
        });
        best
    }

    fn visit(
        &self,
        state: &MemoryState,
        reusable: &ReusableMemory,
        (pod, request): (&PodUid, &MemoryRequest),
        mut emit: impl FnMut(NumaMask, bool),
    ) {
        if request.is_empty() || self.sets.is_empty() {
            return;
        }
        let (fit, rule) = (Fit::new(state, request), GroupRule::new(state));
        let at = |list: &[bool; SETS], set: usize| list.get(set).copied().unwrap_or(false);
        let possible = || self.sets.iter().filter(|(set, _)| at(&fit.allocatable, *set));
        let smallest = possible().map(|(set, _)| set.count_ones()).min();
        for (set, nodes) in possible() {
            let fits = || {
                at(&fit.free, *set)
                    || request.iter().all(|(kind, bytes)| {
                        state.free(*nodes, kind).wrapping_add(reusable.amount(pod, *nodes, kind)) >= bytes
                    })
            };
            if rule.allows(*nodes) && fits() {
                emit(*nodes, Some(set.count_ones()) == smallest);
            }
        }
    }
}

/// A single node must be in no group; of several nodes, those with assignments must be this very group.
struct GroupRule {
    assigned: NumaMask,
    grouped: NumaMask,
    groups: [NumaMask; LISTED_NODES],
}

impl GroupRule {
    fn new(state: &MemoryState) -> Self {
        let of = |filter: fn(&&NodeMemory) -> bool| state.nodes().iter().filter(filter).map(|node| node.id).collect();
        let mut groups = [NumaMask::EMPTY; LISTED_NODES];
        for (slot, node) in groups.iter_mut().zip(state.nodes().iter().filter(|node| node.assignments > 0)) {
            *slot = node.group;
        }
        Self { assigned: of(|node| node.assignments > 0), grouped: of(|node| node.group.len() > 1), groups }
    }

    fn allows(&self, nodes: NumaMask) -> bool {
        if nodes.len() == 1 {
            return nodes.intersection(self.grouped).is_empty();
        }
        let assigned = self.assigned.iter().zip(self.groups).filter(|(node, _)| nodes.contains(*node));
        nodes.intersection(self.assigned).is_empty() || assigned.map(|(_, group)| group).all(|group| group == nodes)
    }
}

impl Fit {
    fn new(state: &MemoryState, request: &MemoryRequest) -> Self {
        let mut fit = Self { allocatable: [true; SETS], free: [true; SETS] };
        for (kind, bytes) in request.iter() {
            let kind = state.kind_index(kind);
            let tables = || state.nodes().iter().map(|node| kind.and_then(|k| node.table(k)).unwrap_or_default());
            mark(&mut fit.allocatable, tables().map(|table| table.allocatable), bytes);
            mark(&mut fit.free, tables().map(|table| table.free), bytes);
        }
        fit
    }
}

/// Clears every set whose sum is below what is needed.
fn mark(sets: &mut [bool; SETS], amounts: impl Iterator<Item = u64>, needed: u64) {
    let mut sums = [0_u64; SETS];
    let mut known = 1;
    // With each node the known sets double: those without it, and the same ones with it.
    for amount in amounts {
        if let Some((without, with)) = sums.split_at_mut_checked(known) {
            for (with, without) in with.iter_mut().zip(&*without) {
                *with = without.wrapping_add(amount);
            }
        }
        known *= 2;
    }
    for (set, sum) in sets.iter_mut().zip(sums) {
        *set &= sum >= needed;
    }
}
