//! Why containers have what they have, in words for people. Nothing is decided here.

use trimtab_domain::cpu::{CpuClaim, SharedReason};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{Container, Pod, QosClass, Resources};

use crate::reconcile::node_view::Explained;
use crate::subsystems::pinning::placement_record::Holding;

/// The story of a container that may be entitled to something.
pub(super) fn entitled(
    managers: &ResourceManagers,
    (pod, container): (&Pod, &Container),
    holding: &Holding,
) -> Explained {
    let has = holding.cpus.as_ref().is_some_and(|cpus| !cpus.is_empty());
    let rule = match managers.cpu().claim(pod, container) {
        Ok(CpuClaim::Exclusive { cpus, and_shared }) => {
            let shared = if and_shared { ", and may use the shared ones besides" } else { "" };
            let why = format!(
                "it is entitled to {cpus} CPUs of its own (a Guaranteed pod and whole CPUs, or an annotation){shared}"
            );
            if has { why } else { format!("{why}; they could not be given to it, the refusals tell why") }
        }
        Ok(CpuClaim::Shared(reason)) => format!("it shares CPUs: {}", because(reason)),
        Err(error) => error.to_string(),
    };
    Explained {
        rule,
        request: request(&container.resources),
        hint: alignment(managers, holding),
        ..Explained::default()
    }
}

/// The story of every other container.
pub(in crate::subsystems::pinning) fn sharing(qos: QosClass) -> Explained {
    let rule = match qos {
        QosClass::Guaranteed => {
            "it shares CPUs: what it asks for is not known, or it is a sandbox of its own".to_owned()
        }
        QosClass::Burstable | QosClass::BestEffort => {
            format!("it shares CPUs: its pod is {qos}, and only Guaranteed pods own CPUs or memory")
        }
    };
    Explained { rule, ..Explained::default() }
}

/// The policies in force, in the words of the kubelet's configuration.
pub(in crate::subsystems::pinning) fn policies(spec: &ResourceManagersSpec) -> String {
    let named = |name: &str, value: &str, none: &str| {
        let value = if value.is_empty() { none } else { value };
        format!("{name} {value}")
    };
    [
        named("CPUs", &spec.cpu_manager_policy, "none"),
        named("memory", &spec.memory_manager_policy, "None"),
        named("topology", &spec.topology_manager_policy, "none"),
        named("scope", &spec.topology_manager_scope, "container"),
    ]
    .join(", ")
}

const fn because(reason: SharedReason) -> &'static str {
    match reason {
        SharedReason::Policy => "the CPU manager's policy is none",
        SharedReason::QosClass => "its pod is not Guaranteed",
        SharedReason::PodLevelResources => {
            "its pod has resources of its own, so that no container is entitled by itself"
        }
        SharedReason::NoRequest => "it asks for no CPU",
        SharedReason::NotWhole => "it asks for a part of a CPU; only whole CPUs are given out",
        SharedReason::Annotation => "an annotation of its pod says 0",
    }
}

fn request(resources: &Resources) -> String {
    let requests = resources.requests.iter().map(|(name, quantity)| format!("{name} {quantity}"));
    requests.collect::<Vec<_>>().join(", ")
}

/// The NUMA nodes of what it holds.
fn alignment(managers: &ResourceManagers, holding: &Holding) -> String {
    let machine = managers.machine();
    let cpus = holding.cpus.iter().flat_map(CpuSet::iter);
    let of_cpus: CpuSet = cpus.filter_map(|cpu| machine.place(cpu)).map(|place| place.numa).collect();
    let of_memory: CpuSet = holding.nodes.iter().flat_map(|nodes| nodes.iter()).collect();
    match (of_cpus.is_empty(), of_memory.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("CPUs on NUMA node {of_cpus}"),
        (true, false) => format!("memory from NUMA node {of_memory}"),
        (false, false) => format!("CPUs on NUMA node {of_cpus}, memory from {of_memory}"),
    }
}
