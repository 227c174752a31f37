//! The state of the managers in the words of the recordings.

use serde_json::{Map, Value, json};
use trimtab_domain::hint::TopologyHint;
use trimtab_domain::placement::{Assignment, ResourceManagers};
use trimtab_domain::workload::Pod;

/// What one container has, without the hint.
fn holdings(assignment: &Assignment) -> Map<String, Value> {
    let mut shown = Map::new();
    if let Some(cpus) = &assignment.cpus {
        shown.insert("cpus".to_owned(), cpus.to_string().into());
    }
    shown
}

/// Containers that have something, by name.
pub(super) fn holders(assignments: &[Assignment]) -> Map<String, Value> {
    let shown = assignments.iter().map(|a| (a.container.clone(), holdings(a)));
    shown.filter(|(_, held)| !held.is_empty()).map(|(name, held)| (name, held.into())).collect()
}

/// Every container of an admitted pod, with the stored hint.
pub(super) fn admitted(managers: &ResourceManagers, pod: &Pod) -> Map<String, Value> {
    let assignments = managers.assignments_of(&pod.uid);
    let mut shown = Map::new();
    for container in &pod.containers {
        let held = assignments.iter().find(|assignment| assignment.container == container.name);
        let mut held = held.map(holdings).unwrap_or_default();
        if let Some(hint) = managers.hint_of(&pod.uid, &container.name) {
            held.insert("hint".to_owned(), show_hint(hint));
        }
        shown.insert(container.name.clone(), held.into());
    }
    shown
}

fn show_hint(hint: TopologyHint) -> Value {
    let numa = hint.affinity.map(|mask| mask.iter().collect::<Vec<_>>());
    json!({ "numa": numa, "preferred": hint.preferred })
}

/// What a start shows.
pub(super) fn started(managers: &ResourceManagers) -> Map<String, Value> {
    let mut shown = Map::new();
    if managers.cpu().is_static() {
        shown.insert("reserved_cpus".to_owned(), managers.reserved_cpus().to_string().into());
        shown.insert("allocatable_cpus".to_owned(), managers.allocatable_cpus().to_string().into());
    }
    shown
}

/// What every step shows: the shared CPUs.
pub(super) fn shared(managers: &ResourceManagers, shown: &mut Map<String, Value>) {
    if managers.cpu().is_static() {
        shown.insert("shared_cpus".to_owned(), managers.shared_cpus().to_string().into());
    }
}

/// What is left at the end.
pub(super) fn remaining(managers: &ResourceManagers) -> Map<String, Value> {
    let mut cpus = Map::new();
    for (pod, container, owned) in managers.cpu().state().iter() {
        let pod = cpus.entry(pod.0.clone()).or_insert_with(|| json!({}));
        if let Some(pod) = pod.as_object_mut() {
            pod.insert(container.to_owned(), owned.to_string().into());
        }
    }
    let mut shown = Map::new();
    shown.insert("cpu_assignments".to_owned(), cpus.into());
    shown.insert("memory_assignments".to_owned(), json!({}));
    shown
}

/// All NUMA nodes in full.
pub(super) fn all_memory(_: &ResourceManagers, _: &mut Map<String, Value>) {}

/// NUMA nodes that a step changed, and what it changed there.
pub(super) fn changed_memory(_: &ResourceManagers, _: &ResourceManagers, _: &mut Map<String, Value>) {}

/// NUMA nodes that a restart changed, in full.
pub(super) fn different_memory(_: &ResourceManagers, _: &ResourceManagers, _: &mut Map<String, Value>) {}

/// What the pod has as a whole.
pub(super) fn whole_pod(_: &ResourceManagers, _: &trimtab_domain::workload::PodUid, _: &mut Map<String, Value>) {}

/// The state file.
pub(super) fn cpu_manager_state(_: &ResourceManagers) -> String {
    String::new()
}
