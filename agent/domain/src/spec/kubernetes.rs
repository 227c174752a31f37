//! What a profile asks to be told to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Section `kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubernetesSpec {
    /// Extended resources of the node: name to number.
    pub extended_resources: BTreeMap<String, u64>,
    /// What becomes of pods that pinning refuses.
    pub held_pods: HeldPodsSpec,
    /// Whether this node's `NodeResourceTopology` is kept.
    pub node_resource_topology: bool,
}

/// What becomes of pods that pinning refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPodsSpec {
    /// Whether they are failed at all.
    pub fail: bool,
    /// After how long.
    pub fail_after: Duration,
    /// Where they never are.
    pub protected_namespaces: BTreeSet<String>,
}

impl Default for HeldPodsSpec {
    fn default() -> Self {
        Self {
            fail: true,
            fail_after: Duration::from_secs(60),
            protected_namespaces: ["kube-system".to_owned()].into(),
        }
    }
}
