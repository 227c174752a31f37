//! Section `resourceManagers` of a profile, with the kubelet's own field names.

use std::collections::BTreeMap;

/// CPU, memory and topology manager settings; texts are kept as written and checked by the managers themselves, so
/// that their errors are the kubelet's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceManagersSpec {
    /// `none` (default) or `static`.
    pub cpu_manager_policy: String,
    /// Option name to boolean text.
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    /// CPU list, for instance `0-1`; empty: computed from the reservations.
    pub reserved_system_cpus: String,
    /// `none` (default), `best-effort`, `restricted`, `single-numa-node`.
    pub topology_manager_policy: String,
    /// Option name to text.
    pub topology_manager_policy_options: BTreeMap<String, String>,
    /// `container` (default) or `pod`.
    pub topology_manager_scope: String,
    /// `None` (default) or `Static`.
    pub memory_manager_policy: String,
    /// Reservations per NUMA node.
    pub reserved_memory: Vec<ReservedMemory>,
    /// Resource name to quantity text.
    pub kube_reserved: BTreeMap<String, String>,
    /// Resource name to quantity text.
    pub system_reserved: BTreeMap<String, String>,
    /// Signal (for instance `memory.available`) to quantity or percentage text.
    pub eviction_hard: BTreeMap<String, String>,
    /// `pods`, `kube-reserved`, `system-reserved` …
    pub enforce_node_allocatable: Vec<String>,
    /// Cgroup of the Kubernetes daemons; empty: none.
    pub kube_reserved_cgroup: String,
    /// Cgroup of the system daemons; empty: none.
    pub system_reserved_cgroup: String,
    /// Feature gate name to state, for the options that need one.
    pub feature_gates: BTreeMap<String, bool>,
}

/// Memory of one NUMA node that is kept from pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReservedMemory {
    /// NUMA node id.
    pub numa_node: u32,
    /// Resource name (`memory`, `hugepages-2Mi` …) to quantity text.
    pub limits: BTreeMap<String, String>,
}
