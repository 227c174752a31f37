//! Whether a recorded admission keeps the promises of the static CPU policy.
//!
//! On machines with cores of unequal size the kubelet takes whole cores of which not every CPU is free. Not each
//! scenario in which that happened is marked: the mark does not cover CPUs that were taken back at once, or given twice
//! within one pod.

use serde_json::Value;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::{ContainerKind, Pod};

/// False if a recorded container has reserved CPUs, or two containers that run side by side have the same ones.
pub(super) fn is_kept(expected: &Value, pod: &Pod, reserved: &CpuSet) -> bool {
    let mut running = CpuSet::new();
    for containers in ["containers", "leftover_before_cleanup"].into_iter().filter_map(|key| expected.get(key)) {
        for container in &pod.containers {
            let text = containers.get(&container.name).and_then(|held| held.get("cpus")).and_then(Value::as_str);
            let Some(Ok(cpus)) = text.map(CpuSet::parse) else { continue };
            if !cpus.is_disjoint(reserved) {
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
