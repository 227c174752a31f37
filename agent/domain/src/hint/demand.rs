//! Where a resource could come from, as conditions instead of a list of node sets.
//!
//! A list of hints names up to 2ⁿ−1 sets of n nodes. Nearly all of it follows from a few facts: how much each node has
//! free, how much is asked for, which nodes must be in every set, and which groups of nodes are only to be had as a
//! whole. A [`Demand`] states these facts; [`Demand::allows`] and [`Demand::prefers`] are the list that it stands for.

use super::NumaMask;
use crate::workload::ResourceName;

/// The node sets from which one resource could come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// For instance `cpu`.
    pub resource: ResourceName,
    /// Nodes that may be combined freely.
    pub universe: NumaMask,
    /// Nodes that each free combination must hold, because something is used again there.
    pub required: NumaMask,
    /// Each must be reached by the sum over the combination.
    pub bounds: Vec<Bound>,
    /// Node sets that are to be had only as they are, not as part of a combination.
    pub isolated: Vec<NumaMask>,
    /// Which of all these sets are preferred.
    pub preferred: PreferredSets,
}

/// An amount that the nodes of a set must have together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bound {
    /// What each node has, by node id; absent nodes have nothing.
    pub weights: Vec<u64>,
    /// What a set must have at least.
    pub need: u64,
    /// Things that are near several nodes, each counted once for a set that touches any of them: nodes, and how many.
    /// They are no part of `weights`.
    pub spanning: Vec<(NumaMask, u64)>,
}

/// Which node sets are preferred: as narrow as an empty machine would allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferredSets {
    /// Number of nodes of a preferred set.
    pub len: u32,
    /// With `align-by-socket`, sets that cover this many sockets are preferred, too.
    pub sockets: Option<SocketCover>,
}

/// Sets that cover a number of sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketCover {
    /// Nodes of each socket.
    pub sockets: Vec<NumaMask>,
    /// Number of sockets that a preferred set touches.
    pub count: usize,
}

/// The opinion of one provider on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// The resource cannot be had at all.
    Impossible(ResourceName),
    /// These node sets.
    Sets(Demand),
}

impl Demand {
    /// True if the resource could come from exactly these nodes.
    #[must_use]
    pub fn allows(&self, mask: NumaMask) -> bool {
        self.isolated.contains(&mask) || self.allows_freely(mask)
    }

    /// True if the set is a free combination that suffices.
    #[must_use]
    pub fn allows_freely(&self, mask: NumaMask) -> bool {
        !mask.is_empty()
            && self.universe.is_superset(mask)
            && mask.is_superset(self.required)
            && self.bounds.iter().all(|bound| bound.holds(mask))
    }

    /// True if the set, which is allowed, is preferred.
    #[must_use]
    pub fn prefers(&self, mask: NumaMask) -> bool {
        self.preferred.holds(mask)
    }

    /// True if there is a node set at all.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        !self.isolated.is_empty() || self.allows_freely(self.universe)
    }
}

impl PreferredSets {
    /// True for a preferred set.
    #[must_use]
    pub fn holds(&self, mask: NumaMask) -> bool {
        mask.len() == self.len || self.sockets.as_ref().is_some_and(|cover| cover.touched(mask) == cover.count)
    }
}

impl SocketCover {
    /// Number of sockets that the set touches.
    #[must_use]
    pub fn touched(&self, mask: NumaMask) -> usize {
        self.sockets.iter().filter(|socket| !socket.intersection(mask).is_empty()).count()
    }
}

impl Bound {
    /// A bound on a plain sum; each node contributes at most what is needed.
    #[must_use]
    pub fn sum(weights: Vec<u64>, need: u64) -> Self {
        Self { weights, need, spanning: Vec::new() }
    }

    /// What one node has.
    #[must_use]
    pub fn weight(&self, node: u32) -> u64 {
        self.weights.get(node as usize).copied().unwrap_or(0)
    }

    /// The most that one node adds to a set: its own, and what it shares with others.
    #[must_use]
    pub fn most(&self, node: u32) -> u64 {
        let shared = self.spanning.iter().filter(|(nodes, _)| nodes.contains(node)).map(|(_, count)| *count);
        shared.fold(self.weight(node), u64::saturating_add)
    }

    /// What the set has together.
    #[must_use]
    pub fn total(&self, mask: NumaMask) -> u64 {
        let own = mask.iter().fold(0u64, |sum, node| sum.saturating_add(self.weight(node)));
        let touched = self.spanning.iter().filter(|(nodes, _)| !nodes.intersection(mask).is_empty());
        touched.fold(own, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// True if the set has enough.
    #[must_use]
    pub fn holds(&self, mask: NumaMask) -> bool {
        self.total(mask) >= self.need
    }
}
