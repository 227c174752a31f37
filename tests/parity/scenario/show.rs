//! The state of the managers in the words of the recordings.

use serde_json::{Map, Value, json};
use trimtab_domain::checkpoint::{Layout, write_cpu_state};
use trimtab_domain::hint::TopologyHint;
use trimtab_domain::memory::{Block, NodeMemory};
use trimtab_domain::placement::{Assignment, ResourceManagers};
use trimtab_domain::workload::{Pod, PodUid};

/// What one container has, without the hint.
fn holdings(assignment: &Assignment) -> Map<String, Value> {
    let mut shown = Map::new();
    if let Some(cpus) = &assignment.cpus {
        shown.insert("cpus".to_owned(), cpus.to_string().into());
    }
    if !assignment.memory.is_empty() {
        shown.insert("memory".to_owned(), show_blocks(&assignment.memory));
    }
    shown
}

/// Blocks of memory, by type.
fn show_blocks(blocks: &[Block]) -> Value {
    let mut blocks: Vec<&Block> = blocks.iter().collect();
    blocks.sort_by(|a, b| a.kind.cmp(&b.kind));
    let show = |block: &&Block| {
        let numa: Vec<u32> = block.nodes.iter().collect();
        json!({ "type": block.kind.as_str(), "numa": numa, "size": block.bytes })
    };
    blocks.iter().map(show).collect()
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
    let mut memory = Map::new();
    for (pod, container, blocks) in managers.memory().state().iter() {
        let pod = memory.entry(pod.0.clone()).or_insert_with(|| json!({}));
        if let Some(pod) = pod.as_object_mut() {
            let shown = if blocks.is_empty() { Value::Null } else { show_blocks(blocks) };
            pod.insert(container.to_owned(), shown);
        }
    }
    let mut shown = Map::new();
    shown.insert("cpu_assignments".to_owned(), cpus.into());
    shown.insert("memory_assignments".to_owned(), memory.into());
    shown
}

/// All NUMA nodes in full.
pub(super) fn all_memory(managers: &ResourceManagers, shown: &mut Map<String, Value>) {
    if managers.memory().is_static() {
        let nodes = managers.memory().state().nodes().iter();
        let nodes: Map<String, Value> = nodes.map(|node| (node.id.to_string(), in_full(managers, node))).collect();
        shown.insert("memory_nodes".to_owned(), nodes.into());
    }
}

/// NUMA nodes that a step changed, and what it changed there.
pub(super) fn changed_memory(before: &ResourceManagers, after: &ResourceManagers, shown: &mut Map<String, Value>) {
    let mut nodes = Map::new();
    for (old, new) in pairs(before, after) {
        if old == new {
            continue;
        }
        let mut tables = Map::new();
        for (index, kind) in after.memory().state().kinds().iter().enumerate() {
            let Some(table) = new.table(index).filter(|table| old.table(index) != Some(*table)) else { continue };
            tables.insert(kind.to_string(), json!({ "reserved": table.reserved, "free": table.free }));
        }
        nodes.insert(new.id.to_string(), node(new, &tables));
    }
    if !nodes.is_empty() {
        shown.insert("memory_nodes".to_owned(), nodes.into());
    }
}

/// NUMA nodes that a restart changed, in full.
pub(super) fn different_memory(before: &ResourceManagers, after: &ResourceManagers, shown: &mut Map<String, Value>) {
    let changed = pairs(before, after).filter(|(old, new)| old != new);
    let nodes: Map<String, Value> = changed.map(|(_, new)| (new.id.to_string(), in_full(after, new))).collect();
    if !nodes.is_empty() {
        shown.insert("memory_nodes".to_owned(), nodes.into());
    }
}

fn pairs<'a>(
    before: &'a ResourceManagers,
    after: &'a ResourceManagers,
) -> impl Iterator<Item = (&'a NodeMemory, &'a NodeMemory)> {
    before.memory().state().nodes().iter().zip(after.memory().state().nodes())
}

fn node(node: &NodeMemory, tables: &Map<String, Value>) -> Value {
    let cells: Vec<u32> = node.group.iter().collect();
    json!({ "assignments": node.assignments, "cells": cells, "memory": tables })
}

fn in_full(managers: &ResourceManagers, shown: &NodeMemory) -> Value {
    let mut tables = Map::new();
    for (index, kind) in managers.memory().state().kinds().iter().enumerate() {
        let Some(table) = shown.table(index) else { continue };
        let mut cells = json!({ "reserved": table.reserved, "free": table.free });
        let more =
            [("total", table.total), ("system_reserved", table.system_reserved), ("allocatable", table.allocatable)];
        for (name, bytes) in more.into_iter().filter(|(_, bytes)| *bytes > 0) {
            if let Some(cells) = cells.as_object_mut() {
                cells.insert(name.to_owned(), bytes.into());
            }
        }
        tables.insert(kind.to_string(), cells);
    }
    node(shown, &tables)
}

/// What the pod has as a whole.
pub(super) fn whole_pod(managers: &ResourceManagers, pod: &PodUid, shown: &mut Map<String, Value>) {
    if let Some(cpus) = managers.cpu().state().pods.get(pod) {
        shown.insert("pod_cpus".to_owned(), cpus.to_string().into());
    }
    if let Some(blocks) = managers.memory().state().pod_blocks(pod) {
        shown.insert("pod_memory".to_owned(), show_blocks(blocks));
    }
}

/// The state file.
pub(super) fn cpu_manager_state(managers: &ResourceManagers) -> String {
    let policy = if managers.cpu().is_static() { "static" } else { "none" };
    let pod_level = managers.config().kubelet.feature_gates.get("PodLevelResourceManagers").copied().unwrap_or(false);
    let layout = if pod_level { Layout::Pod } else { Layout::Container };
    write_cpu_state(policy, managers.cpu().state(), layout)
}
