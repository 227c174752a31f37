//! The part of the kubelet's configuration that the resource managers need.

use std::collections::BTreeMap;

use serde_json::Value;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::spec::resource_managers::ReservedMemory;

use super::layers::Layers;

/// Default of `evictionHard` as far as memory goes.
const DEFAULT_EVICTION: (&str, &str) = ("memory.available", "100Mi");

pub(super) fn from_layers(layers: &Layers, problems: &mut Vec<String>) -> ResourceManagersSpec {
    let text = |name: &str| layers.text(name).unwrap_or_default();
    let map = |name: &str| layers.value(name).map(text_map).unwrap_or_default();
    let gates = layers.value("featureGates").and_then(Value::as_object);
    ResourceManagersSpec {
        cpu_manager_policy: text("cpuManagerPolicy"),
        cpu_manager_policy_options: map("cpuManagerPolicyOptions"),
        reserved_system_cpus: text("reservedSystemCPUs"),
        topology_manager_policy: text("topologyManagerPolicy"),
        topology_manager_policy_options: map("topologyManagerPolicyOptions"),
        topology_manager_scope: text("topologyManagerScope"),
        memory_manager_policy: text("memoryManagerPolicy"),
        reserved_memory: reserved_memory(layers, problems),
        kube_reserved: map("kubeReserved"),
        system_reserved: map("systemReserved"),
        eviction_hard: match layers.value("evictionHard") {
            Some(value) => text_map(value),
            None => BTreeMap::from([(DEFAULT_EVICTION.0.into(), DEFAULT_EVICTION.1.into())]),
        },
        enforce_node_allocatable: layers
            .value("enforceNodeAllocatable")
            .and_then(Value::as_array)
            .map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
        kube_reserved_cgroup: text("kubeReservedCgroup"),
        system_reserved_cgroup: text("systemReservedCgroup"),
        feature_gates: gates
            .into_iter()
            .flatten()
            .filter_map(|(name, state)| Some((name.clone(), state.as_bool()?)))
            .collect(),
        ..ResourceManagersSpec::default()
    }
}

fn reserved_memory(layers: &Layers, problems: &mut Vec<String>) -> Vec<ReservedMemory> {
    let entries = layers.value("reservedMemory").and_then(Value::as_array);
    let mut reserved = Vec::new();
    for entry in entries.into_iter().flatten() {
        let node = entry.get("numaNode").and_then(Value::as_u64).and_then(|node| u32::try_from(node).ok());
        match node {
            Some(numa_node) => reserved
                .push(ReservedMemory { numa_node, limits: entry.get("limits").map(text_map).unwrap_or_default() }),
            None => problems.push(format!("the kubelet's reservedMemory has an entry without a NUMA node: {entry}")),
        }
    }
    reserved
}

/// YAML lets quantities be numbers: `cpu: 1`.
fn text_map(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}
