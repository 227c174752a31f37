//! Section `resourceManagers` of a profile, with the kubelet's own field names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::allocatable::interrupt::InterruptCpus;
use crate::cpu::IsolatedCpus;

/// CPU, memory and topology manager settings; texts are kept as written and checked by the managers themselves, so
/// that their errors are the kubelet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceManagersSpec {
    /// `none` (default) or `static`.
    pub cpu_manager_policy: String,
    /// Option name to boolean text.
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    /// Time between two looks at the containers' CPU sets; 10 s where the profile says nothing or zero.
    pub cpu_manager_reconcile_period: Duration,
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
    /// Signal (for instance `memory.available`) to quantity or percentage text; the kubelet's defaults where the
    /// profile has no `evictionHard`, and only what it lists where it has one.
    pub eviction_hard: BTreeMap<String, String>,
    /// `pods`, `kube-reserved`, `system-reserved` …; empty where it is set nowhere, and then the kubelet enforces `pods`.
    pub enforce_node_allocatable: Vec<String>,
    /// Cgroup of the Kubernetes daemons; empty: none.
    pub kube_reserved_cgroup: String,
    /// Cgroup of the system daemons; empty: none.
    pub system_reserved_cgroup: String,
    /// Feature gate name to state, for the options that need one.
    pub feature_gates: BTreeMap<String, bool>,
    /// What goes beyond the kubelet.
    pub extensions: ManagerExtensionsSpec,
    /// What keeps the system's own work off the CPUs of pods, beyond the kubelet, too.
    pub confinement: ConfinementSpec,
}

/// The system's own work, which no CPU manager moves; the default confines nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfinementSpec {
    /// Cgroups outside the tree of pods that are bound to the reserved CPUs, as paths: `system.slice`.
    pub cgroups: Vec<String>,
    /// Where ordinary interrupts may be delivered to.
    pub interrupts: InterruptCpus,
}

/// Abilities that the kubelet does not have; the default is none of them, and then every decision is the kubelet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ManagerExtensionsSpec {
    /// Machines with more NUMA nodes than `max-allowable-numa-nodes`, up to 64.
    pub wide_machines: bool,
    /// What becomes of CPUs that the kernel keeps free of ordinary tasks.
    pub isolated_cpus: IsolatedCpus,
    /// A container whose request changed keeps as many of its CPUs as it can.
    pub resize_in_place: bool,
    /// Annotations of pods say which of their containers own CPUs, whatever the class of the pod.
    pub pod_annotations: bool,
    /// Whether containers with exclusive CPUs have no CFS quota; absent: as the kubelet's feature gate
    /// `DisableCPUQuotaWithExclusiveCPUs` says.
    pub lift_cpu_quota: Option<bool>,
    /// Memory nodes of running containers are changed even where the kernel then moves their pages (cgroup-v2.rst,
    /// "cpuset.mems"), which stalls large processes.
    pub migrate_memory: bool,
}

impl ResourceManagersSpec {
    /// Time between two looks where a profile sets none (`nodeStatusUpdateFrequency`).
    pub const DEFAULT_RECONCILE_PERIOD: Duration = Duration::from_secs(10);
    /// Name and default of the gate by which the kubelet lifts the quota of exclusive containers (on since 1.33).
    const LIFT_QUOTA_GATE: (&str, bool) = ("DisableCPUQuotaWithExclusiveCPUs", true);
    /// `evictionHard` where a profile has none (KubeletConfiguration v1beta1, Linux).
    pub const DEFAULT_EVICTION_HARD: [(&str, &str); 5] = [
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
    ];
}

impl ResourceManagersSpec {
    /// True if containers with exclusive CPUs, and their pods, have no CFS quota.
    #[must_use]
    pub fn lifts_cpu_quota(&self) -> bool {
        let (gate, default) = Self::LIFT_QUOTA_GATE;
        let by_gate = || self.feature_gates.get(gate).copied().unwrap_or(default);
        self.extensions.lift_cpu_quota.unwrap_or_else(by_gate)
    }
}

impl Default for ResourceManagersSpec {
    fn default() -> Self {
        let eviction = Self::DEFAULT_EVICTION_HARD.iter();
        Self {
            cpu_manager_policy: "none".to_owned(),
            cpu_manager_policy_options: BTreeMap::new(),
            cpu_manager_reconcile_period: Self::DEFAULT_RECONCILE_PERIOD,
            reserved_system_cpus: String::new(),
            topology_manager_policy: "none".to_owned(),
            topology_manager_policy_options: BTreeMap::new(),
            topology_manager_scope: "container".to_owned(),
            memory_manager_policy: "None".to_owned(),
            reserved_memory: Vec::new(),
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            eviction_hard: eviction.map(|(signal, value)| ((*signal).to_owned(), (*value).to_owned())).collect(),
            enforce_node_allocatable: Vec::new(),
            kube_reserved_cgroup: String::new(),
            system_reserved_cgroup: String::new(),
            feature_gates: BTreeMap::new(),
            extensions: ManagerExtensionsSpec::default(),
            confinement: ConfinementSpec::default(),
        }
    }
}

/// Memory of one NUMA node that is kept from pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReservedMemory {
    /// NUMA node id.
    pub numa_node: u32,
    /// Resource name (`memory`, `hugepages-2Mi` …) to quantity text.
    pub limits: BTreeMap<String, String>,
}
