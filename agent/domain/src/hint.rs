//! NUMA masks and topology hints: the words in which the resource managers speak to one another.

mod demand;
mod intersections;
mod merge;
mod order;
mod policy;
mod provider;
#[cfg(test)]
mod tests;
mod topology_manager;
mod wide;

pub use demand::{Bound, Demand, Opinion, PreferredSets, SocketCover};
pub use order::{Distances, MaskOrder};
pub use policy::{MergedHint, TopologyPolicy};
pub use provider::{HintList, ProviderHints, ResourceHints};
pub use topology_manager::{TopologyConfig, TopologyConfigError, TopologyManager, TopologyScope};
pub(crate) use wide::agree;

use std::fmt;

/// A set of NUMA node ids 0–63; ordered by its integer value (bit *i* is node *i*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NumaMask(pub u64);

impl NumaMask {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// The mask of one node, or `None` for an id above 63.
    #[must_use]
    pub const fn single(node: u32) -> Option<Self> {
        if node < 64 { Some(Self(1 << node)) } else { None }
    }

    /// Number of nodes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// True without nodes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if the node is in the mask.
    #[must_use]
    pub const fn contains(self, node: u32) -> bool {
        node < 64 && self.0 & (1 << node) != 0
    }

    /// True if every node of `other` is in this mask.
    #[must_use]
    pub const fn is_superset(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nodes of either mask.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Nodes of both masks.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Every non-empty set of these nodes, by ascending number; 2ⁿ−1 of them.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        let mut next = 0u64;
        std::iter::from_fn(move || {
            next = next.wrapping_sub(self.0) & self.0;
            (next != 0).then_some(Self(next))
        })
    }

    /// Node ids, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let node = rest.trailing_zeros();
                rest &= rest - 1;
                node
            })
        })
    }
}

impl fmt::Debug for NumaMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<u32> for NumaMask {
    /// Ids above 63 are left out: the caller has refused such a machine before.
    fn from_iter<I: IntoIterator<Item = u32>>(nodes: I) -> Self {
        nodes.into_iter().filter_map(Self::single).fold(Self::EMPTY, Self::union)
    }
}

/// Where a resource could come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopologyHint {
    /// The NUMA nodes; absent means any.
    pub affinity: Option<NumaMask>,
    /// As few nodes as an empty machine would need.
    pub preferred: bool,
}

impl TopologyHint {
    /// "Anywhere, and that is as good as it gets": the hint of a provider without an opinion.
    pub const ANY: Self = Self { affinity: None, preferred: true };
    /// "Nowhere": stands for an empty hint list, and for a container without a stored hint.
    pub const NONE: Self = Self { affinity: None, preferred: false };

    /// A hint with a mask.
    #[must_use]
    pub const fn new(affinity: NumaMask, preferred: bool) -> Self {
        Self { affinity: Some(affinity), preferred }
    }
}
