//! Faults of the configuration that are seen without a machine.

use super::memory_reservations;
use crate::cpuset::CpuList;
use crate::quote::Quoted;
use crate::reserved_memory;
use crate::spec::ResourceManagersSpec;

/// Every fault, in the words of the kubelet; empty for a valid configuration.
///
/// The policies of the CPU and memory managers are not looked at here: the managers refuse them when they are made.
#[must_use]
pub fn config_errors(spec: &ResourceManagersSpec) -> Vec<String> {
    let mut errors = Vec::new();
    let (policy, scope) = (&spec.topology_manager_policy, &spec.topology_manager_scope);
    if !["none", "best-effort", "restricted", "single-numa-node"].contains(&policy.as_str()) {
        errors.push(format!(
            "invalid configuration: topologyManagerPolicy (--topology-manager-policy) {} must be one of: \
             [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
            Quoted(policy)
        ));
    }
    if !["container", "pod"].contains(&scope.as_str()) {
        errors.push(format!(
            "invalid configuration: topologyManagerScope (--topology-manager-scope) {} must be one of: \
             \"container\", or \"pod\"",
            Quoted(scope)
        ));
    }
    let cpus = &spec.reserved_system_cpus;
    if !cpus.is_empty() {
        if !spec.system_reserved_cgroup.is_empty() || !spec.kube_reserved_cgroup.is_empty() {
            errors.push(
                "invalid configuration: can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup \
                 (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)"
                    .to_owned(),
            );
        }
        if let Err(error) = CpuList::parse(cpus) {
            errors.push(format!(
                "invalid configuration: unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {error}"
            ));
        }
    }
    match memory_reservations(&spec.reserved_memory) {
        Ok(reserved) => errors.extend(reserved_memory::faults(&reserved).iter().map(ToString::to_string)),
        Err(error) => errors.push(error.to_string()),
    }
    errors
}
