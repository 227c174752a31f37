//! Whether a recorded admission keeps the promises of the static CPU policy.
//!
//! On machines with cores of unequal size the kubelet takes whole cores of which not every CPU is free. Not each
//! scenario in which that happened is marked: the mark does not cover CPUs that were taken back at once, or given twice
//! within one pod.

use serde_json::Value;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::workload::{ContainerKind, Pod};

/// False if a recorded container has CPUs that are reserved or of another pod, or two containers that run side by side
/// have the same ones, or one that had none has not as many as it asks for. `before` are the managers before the step.
pub(super) fn is_kept(expected: &Value, pod: &Pod, before: &ResourceManagers) -> bool {
    let mut taken = before.reserved_cpus().clone();
    for (owner, _, cpus) in before.cpu().state().iter() {
        if *owner != pod.uid && before.active().contains_key(owner) {
            taken.insert_all(cpus);
        }
    }
    let mut running = CpuSet::new();
    for containers in ["containers", "leftover_before_cleanup"].into_iter().filter_map(|key| expected.get(key)) {
        for container in &pod.containers {
            let text = containers.get(&container.name).and_then(|held| held.get("cpus")).and_then(Value::as_str);
            let Some(Ok(cpus)) = text.map(CpuSet::parse) else { continue };
            let new = pod.resources.is_none() && before.cpu().state().cpus_of(&pod.uid, &container.name).is_none();
            if !cpus.is_disjoint(&taken) || new && container.resources.cpu_request().whole() != Some(cpus.len()) {
                return false;
            }
            if container.kind != ContainerKind::Init {
                if !cpus.is_disjoint(&running) {
                    return false;
                }
                running.insert_all(&cpus);
            }
        }
    }
    true
}
