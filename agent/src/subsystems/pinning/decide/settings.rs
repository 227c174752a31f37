//! The settings under which places were given, as the ledger remembers them: a change of settings is told from a restart.
//!
//! After a restart what runs is adopted, whether or not it is what the settings would lead to. When the settings change,
//! what no longer fits them moves.

use std::collections::BTreeMap;

use trimtab_domain::record::{Original, Record};
use trimtab_domain::spec::ResourceManagersSpec;

/// Object of the settings in the ledger; no cgroup has such a path.
pub(in crate::subsystems::pinning) const OBJECT: &str = "#settings";

/// The record of these settings.
pub(in crate::subsystems::pinning) fn record(spec: &ResourceManagersSpec) -> Record {
    Record { object: OBJECT.to_owned(), original: Original::Absent, ordered: text(spec) }
}

/// True if the places that the ledger knows were given under other settings than these. A ledger that remembers none (of a
/// version that did not write them) is taken to agree.
pub(super) fn differ(now: Option<&Record>, records: &BTreeMap<String, Record>) -> bool {
    now.zip(records.get(OBJECT)).is_some_and(|(now, known)| now.ordered != known.ordered)
}

/// Everything that a decision depends on, in words that stay the same.
fn text(spec: &ResourceManagersSpec) -> String {
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    };
    let reserved_memory: Vec<String> =
        spec.reserved_memory.iter().map(|node| format!("{}:{}", node.numa_node, pairs(&node.limits))).collect();
    let gates: Vec<String> = spec.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
    let extensions = spec.extensions;
    let parts = [
        ("cpu", spec.cpu_manager_policy.clone()),
        ("cpuOptions", pairs(&spec.cpu_manager_policy_options)),
        ("reservedCPUs", spec.reserved_system_cpus.clone()),
        ("topology", spec.topology_manager_policy.clone()),
        ("topologyScope", spec.topology_manager_scope.clone()),
        ("topologyOptions", pairs(&spec.topology_manager_policy_options)),
        ("memory", spec.memory_manager_policy.clone()),
        ("reservedMemory", reserved_memory.join(" ")),
        ("kubeReserved", pairs(&spec.kube_reserved)),
        ("systemReserved", pairs(&spec.system_reserved)),
        ("evictionHard", pairs(&spec.eviction_hard)),
        ("gates", gates.join(",")),
        ("wide", extensions.wide_machines.to_string()),
        ("isolated", format!("{:?}", extensions.isolated_cpus)),
        ("annotations", extensions.pod_annotations.to_string()),
    ];
    parts.map(|(name, value)| format!("{name}[{value}]")).join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn other_settings_are_told_from_the_same_ones() {
        let spec = ResourceManagersSpec { cpu_manager_policy: "static".into(), ..ResourceManagersSpec::default() };
        let known = BTreeMap::from([(OBJECT.to_owned(), record(&spec))]);
        assert!(!differ(Some(&record(&spec)), &known));
        assert!(!differ(Some(&record(&spec)), &BTreeMap::new()), "an older ledger says nothing");
        let mut others = vec![spec.clone(); 4];
        others[0].reserved_system_cpus = "0".into();
        others[1].topology_manager_policy = "restricted".into();
        others[2].cpu_manager_policy_options.insert("full-pcpus-only".into(), "true".into());
        others[3].extensions.pod_annotations = true;
        for other in others {
            assert!(differ(Some(&record(&other)), &known), "{other:?}");
        }
        let mut slower = spec;
        slower.cpu_manager_reconcile_period *= 2;
        assert!(!differ(Some(&record(&slower)), &known), "what decides nothing changes nothing");
    }
}
