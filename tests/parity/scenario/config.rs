//! The kubelet configuration of a recorded scenario.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use trimtab_domain::placement::{Extensions, ManagersConfig};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::spec::resource_managers::ReservedMemory;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordedConfig {
    #[serde(default)]
    topology_manager_policy: String,
    #[serde(default)]
    topology_manager_scope: String,
    #[serde(default)]
    topology_manager_policy_options: BTreeMap<String, String>,
    #[serde(default)]
    cpu_manager_policy: String,
    #[serde(default)]
    cpu_manager_policy_options: BTreeMap<String, String>,
    #[serde(default, rename = "reservedSystemCPUs")]
    reserved_system_cpus: String,
    #[serde(default)]
    kube_reserved: BTreeMap<String, String>,
    #[serde(default)]
    system_reserved: BTreeMap<String, String>,
    #[serde(default)]
    eviction_hard: BTreeMap<String, String>,
    #[serde(default)]
    memory_manager_policy: String,
    #[serde(default)]
    reserved_memory: Vec<RecordedReservation>,
    #[serde(default)]
    feature_gates: BTreeMap<String, bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedReservation {
    numa_node: u32,
    #[serde(default)]
    limits: BTreeMap<String, String>,
}

impl RecordedConfig {
    pub(super) fn build(self) -> Arc<ManagersConfig> {
        let reservation = |r: RecordedReservation| ReservedMemory { numa_node: r.numa_node, limits: r.limits };
        let kubelet = ResourceManagersSpec {
            topology_manager_policy: self.topology_manager_policy,
            topology_manager_scope: self.topology_manager_scope,
            topology_manager_policy_options: self.topology_manager_policy_options,
            cpu_manager_policy: self.cpu_manager_policy,
            cpu_manager_policy_options: self.cpu_manager_policy_options,
            reserved_system_cpus: self.reserved_system_cpus,
            kube_reserved: self.kube_reserved,
            system_reserved: self.system_reserved,
            eviction_hard: self.eviction_hard,
            memory_manager_policy: self.memory_manager_policy,
            reserved_memory: self.reserved_memory.into_iter().map(reservation).collect(),
            feature_gates: self.feature_gates,
            ..ResourceManagersSpec::default()
        };
        Arc::new(ManagersConfig { kubelet, extensions: Extensions::default() })
    }
}
