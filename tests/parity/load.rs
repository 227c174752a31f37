//! Category `load`: what a start makes of a state file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use trimtab_domain::checkpoint::{
    CPU_STATE_FILE, CheckpointError, InitialContainers, Layout, MEMORY_STATE_FILE, RestoreError, read_cpu_state,
    read_memory_state, write_cpu_state, write_memory_state,
};
use trimtab_domain::cpu::{CpuConfig, CpuGates, CpuManager, CpuState};
use trimtab_domain::memory::{MemoryConfig, MemoryManager, MemoryState, NodeMemory};
use trimtab_domain::placement::StartStage;
use trimtab_domain::reservation::{NodeReservation, memory_reservations};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::topology::Machine;
use trimtab_domain::workload::{ContainerId, PodUid};

use crate::category::{Verdict, malformed, same};
use crate::machine::Machines;
use crate::scenario;

/// A start that failed: the stage and the text.
type Failed = (StartStage, String);

/// What a start shows beside the state.
struct Started {
    cpu: CpuManager,
    memory: MemoryManager,
    bytes: String,
}

/// `load`.
pub(crate) fn judge(case: &Value, machines: &Machines) -> Verdict {
    let name = case["machine"].as_str().unwrap_or_default();
    let machine = machines.named(name).ok_or_else(|| malformed("an unknown machine"))?;
    let spec = scenario::settings(&case["config"])?;
    let mut got = Map::new();
    match start(case, machine, &spec) {
        Ok(started) => show(case, &started, &mut got),
        Err((stage, message)) => {
            let error = json!({ "stage": stage.as_str(), "message": message });
            got.insert("expect".to_owned(), json!({ "start_error": error }));
        }
    }
    let recorded = ["expect", "cpu_assignments", "memory_assignments", "bytes_after_start"];
    let expected = recorded.iter().filter_map(|field| Some(((*field).to_owned(), case.get(field)?.clone())));
    same(&Value::Object(expected.collect()), &Value::Object(got))
}

fn start(case: &Value, machine: &Arc<Machine>, spec: &ResourceManagersSpec) -> Result<Started, Failed> {
    let at = |stage| move |message: String| (stage, message);
    let gate = |name: &str, default| spec.feature_gates.get(name).copied().unwrap_or(default);
    let layout = if gate("PodLevelResourceManagers", false) { Layout::Pod } else { Layout::Container };
    let reservation = NodeReservation::new(spec, machine).map_err(|e| at(StartStage::Config)(e.to_string()))?;
    let cpu = CpuConfig {
        policy: spec.cpu_manager_policy.clone(),
        options: spec.cpu_manager_policy_options.clone(),
        gates: CpuGates { alpha_options: gate("CPUManagerPolicyAlphaOptions", false), ..CpuGates::default() },
        single_numa_node: spec.topology_manager_policy == "single-numa-node",
        reservation: reservation.cpu(),
        ..CpuConfig::default()
    };
    let memory = MemoryConfig {
        policy: spec.memory_manager_policy.clone(),
        reserved: memory_reservations(&spec.reserved_memory).map_err(|e| at(StartStage::Config)(e.to_string()))?,
        node_reservation: reservation.amounts,
        pod_level: layout == Layout::Pod,
        ..MemoryConfig::default()
    };
    let mut cpu = CpuManager::new(Arc::clone(machine), &cpu).map_err(|e| at(StartStage::CpuManager)(e.to_string()))?;
    let mut memory = MemoryManager::new(machine, &memory).map_err(|e| at(StartStage::MemoryManager)(e.to_string()))?;
    let bytes = case["bytes"].as_str().unwrap_or_default();
    let file = case["file"].as_str().unwrap_or_default();
    let in_cpu_file = file == CPU_STATE_FILE;
    let unreadable = |manager, cause: CheckpointError| {
        RestoreError { manager, path: format!("/var/lib/kubelet/{file}"), cause }.to_string()
    };
    let cpu_failed = at(StartStage::CpuManagerStart);
    let restored = if in_cpu_file {
        let read = read_cpu_state(bytes.as_bytes(), cpu.policy_name(), layout, &initial(case));
        read.map_err(|cause| cpu_failed(unreadable("CPU", cause)))?
    } else {
        CpuState::default()
    };
    cpu.start(restored.clone()).map_err(|error| cpu_failed(error.to_string()))?;
    let memory_failed = at(StartStage::MemoryManagerStart);
    let checkpoint = if file == MEMORY_STATE_FILE {
        let read = read_memory_state(bytes.as_bytes(), memory.policy_name(), layout);
        Some(read.map_err(|cause| memory_failed(unreadable("memory", cause)))?)
    } else {
        None
    };
    memory.start(checkpoint.as_ref()).map_err(|error| memory_failed(error.to_string()))?;
    let untouched = if in_cpu_file {
        *cpu.state() == restored
    } else {
        checkpoint.is_some_and(|c| c.nodes.is_some_and(|nodes| !nodes.is_empty()))
    };
    let bytes = match (untouched, in_cpu_file) {
        (true, _) => bytes.to_owned(),
        (false, true) => write_cpu_state(cpu.policy_name(), cpu.state(), layout),
        (false, false) => write_memory_state(memory.policy_name(), &memory.state().to_checkpoint(), layout),
    };
    Ok(Started { cpu, memory, bytes })
}

fn initial(case: &Value) -> InitialContainers {
    let known = case["initial_containers"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    known.map(|(id, owner)| (ContainerId(id.clone()), (PodUid(text(&owner[0])), text(&owner[1])))).collect()
}

fn show(case: &Value, started: &Started, got: &mut Map<String, Value>) {
    let cpu = &started.cpu;
    let mut state = Map::new();
    state.insert("reserved_cpus".to_owned(), cpu.reserved().to_string().into());
    state.insert("allocatable_cpus".to_owned(), cpu.allocatable().to_string().into());
    state.insert("shared_cpus".to_owned(), cpu.state().default_cpu_set.to_string().into());
    state.insert("memory_nodes".to_owned(), memory_nodes(started.memory.state()));
    got.insert("expect".to_owned(), state.into());
    let mut cpus: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (pod, container, owned) in cpu.state().iter() {
        cpus.entry(pod.to_string()).or_default().insert(container.to_owned(), owned.to_string());
    }
    let mut blocks: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (pod, container, owned) in started.memory.state().iter() {
        let shown = owned.iter().map(|block| {
            json!({ "type": block.kind.as_str(), "numa": block.nodes.iter().collect::<Vec<_>>(), "size": block.bytes })
        });
        blocks.entry(pod.to_string()).or_default().insert(container.to_owned(), shown.collect::<Vec<_>>());
    }
    if !cpus.is_empty() {
        got.insert("cpu_assignments".to_owned(), json!(cpus));
    }
    if !blocks.is_empty() {
        got.insert("memory_assignments".to_owned(), json!(blocks));
    }
    if case.get("bytes_after_start").is_some() {
        got.insert("bytes_after_start".to_owned(), started.bytes.clone().into());
    }
}

/// All NUMA nodes in full; zero amounts of what cannot change are left out.
pub(crate) fn memory_nodes(state: &MemoryState) -> Value {
    Value::Object(state.nodes().iter().map(|node| (node.id.to_string(), memory_node(state, node))).collect())
}

/// One NUMA node in full.
pub(crate) fn memory_node(state: &MemoryState, node: &NodeMemory) -> Value {
    let tables = state.kinds().iter().enumerate().filter_map(|(index, kind)| {
        let table = node.table(index)?;
        let mut shown = Map::new();
        let fixed =
            [("total", table.total), ("system_reserved", table.system_reserved), ("allocatable", table.allocatable)];
        shown.extend(fixed.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n.into())));
        shown.extend([("reserved", table.reserved), ("free", table.free)].map(|(name, n)| (name.to_owned(), n.into())));
        Some((kind.to_string(), Value::Object(shown)))
    });
    json!({
        "assignments": node.assignments,
        "cells": node.group.iter().collect::<Vec<_>>(),
        "memory": Value::Object(tables.collect()),
    })
}
