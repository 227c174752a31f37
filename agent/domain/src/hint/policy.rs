//! What the topology policies make of the hints: each policy is one small file.

mod best_effort;
mod restricted;
mod single_numa_node;

use std::fmt;

use super::{ProviderHints, TopologyHint, TopologyManager};

/// `topologyManagerPolicy` of the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TopologyPolicy {
    /// Hints are neither asked for nor stored.
    #[default]
    None,
    /// Takes the best hint there is, and admits always.
    BestEffort,
    /// Admits only a preferred hint.
    Restricted,
    /// Admits only a preferred hint of one node.
    SingleNumaNode,
}

impl TopologyPolicy {
    /// The spelling of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BestEffort => "best-effort",
            Self::Restricted => "restricted",
            Self::SingleNumaNode => "single-numa-node",
        }
    }
}

impl fmt::Display for TopologyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came out of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedHint {
    /// What the managers are told to follow.
    pub hint: TopologyHint,
    /// False if the policy refuses.
    pub admit: bool,
}

impl TopologyManager {
    /// Merges the opinions of the providers by the policy.
    #[must_use]
    pub fn merge(&self, providers: &[ProviderHints]) -> MergedHint {
        match self.policy() {
            TopologyPolicy::None => MergedHint { hint: TopologyHint::NONE, admit: true },
            TopologyPolicy::BestEffort => best_effort::merge(self, providers),
            TopologyPolicy::Restricted => restricted::merge(self, providers),
            TopologyPolicy::SingleNumaNode => single_numa_node::merge(self, providers),
        }
    }
}
