//! State files: categories `write` (what is written), `load` (what a start makes of a file) and `files` (files as they
//! were left behind).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use trimtab_domain::checkpoint::{
    InitialContainers, Layout, MemoryCheckpoint, NodeRecord, RecordedBlock, TableRecord, read_cpu_state,
    read_memory_state, write_cpu_state, write_memory_state,
};
use trimtab_domain::cpu::CpuState;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::PodUid;

use crate::category::{Mismatch, Verdict, malformed, same};
use crate::machine::Machines;

const CPU_FILE: &str = "cpu_manager_state";

/// `write`: a state, and the exact bytes of its file.
pub(crate) fn write(case: &Value, _: &Machines) -> Verdict {
    let state = &case["state"];
    let policy = state["policyName"].as_str().ok_or_else(|| malformed("policyName"))?;
    let gate = case["feature_gates"]["PodLevelResourceManagers"].as_bool().unwrap_or(false);
    let layout = if gate { Layout::Pod } else { Layout::Container };
    let written = if case["file"] == CPU_FILE {
        write_cpu_state(policy, &cpu_state(state)?, layout)
    } else {
        write_memory_state(policy, &memory_state(state)?, layout)
    };
    same(case["bytes"].as_str().unwrap_or_default(), &written)?;
    // What was written is read again, and is the same.
    again(case["file"].as_str().unwrap_or_default(), policy, &written, layout)
}

/// `files`: a file is read, and written again byte for byte.
pub(crate) fn file(case: &Value, _: &Machines) -> Verdict {
    let bytes = case["bytes"].as_str().ok_or_else(|| malformed("bytes"))?;
    let parsed: Value = serde_json::from_str(bytes).map_err(|error| malformed(&error.to_string()))?;
    let policy = parsed["policyName"].as_str().unwrap_or_default();
    let name = case["file"].as_str().unwrap_or_default();
    again(name, policy, bytes, Layout::Container).or_else(|_| again(name, policy, bytes, Layout::Pod))
}

fn again(name: &str, policy: &str, bytes: &str, layout: Layout) -> Verdict {
    let refused = |error: &dyn std::fmt::Display| Mismatch { expected: bytes.to_owned(), got: error.to_string() };
    let written = if name == CPU_FILE {
        let state = read_cpu_state(bytes.as_bytes(), policy, layout, &InitialContainers::new());
        write_cpu_state(policy, &state.map_err(|error| refused(&error))?, layout)
    } else {
        let state = read_memory_state(bytes.as_bytes(), policy, layout).map_err(|error| refused(&error))?;
        write_memory_state(policy, &state, layout)
    };
    same(bytes, written.as_str())
}

fn cpus(text: &Value) -> Result<CpuSet, Mismatch> {
    let text = text.as_str().ok_or_else(|| malformed("CPUs"))?;
    CpuSet::parse(text).map_err(|error| malformed(&error.to_string()))
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn cpu_state(state: &Value) -> Result<CpuState, Mismatch> {
    let containers = |(pod, containers): (&String, &Value)| {
        let containers = members(containers).map(|(name, text)| Ok((name.clone(), cpus(text)?)));
        Ok((PodUid(pod.clone()), containers.collect::<Result<BTreeMap<_, _>, Mismatch>>()?))
    };
    Ok(CpuState {
        default_cpu_set: cpus(&state["defaultCpuSet"])?,
        assignments: members(&state["entries"]).map(containers).collect::<Result<_, Mismatch>>()?,
        pods: members(&state["podEntries"])
            .map(|(pod, text)| Ok((PodUid(pod.clone()), cpus(text)?)))
            .collect::<Result<_, Mismatch>>()?,
    })
}

fn memory_state(state: &Value) -> Result<MemoryCheckpoint<'static>, Mismatch> {
    let node = |(id, node): (&String, &Value)| {
        let tables = members(&node["memoryMap"]).map(|(kind, table)| {
            let amount = |field: &str| table[field].as_u64().unwrap_or_default();
            let record = TableRecord {
                total: amount("total"),
                system_reserved: amount("systemReserved"),
                allocatable: amount("allocatable"),
                reserved: amount("reserved"),
                free: amount("free"),
            };
            (Cow::from(kind.clone()), Some(record))
        });
        let record = NodeRecord {
            assignments: node["numberOfAssignments"].as_i64().unwrap_or_default(),
            tables: Some(tables.collect()),
            cells: Some(ids(&node["cells"])),
        };
        Ok((id.parse().map_err(|_| malformed("a node id"))?, Some(record)))
    };
    let entry = |(pod, containers): (&'_ String, &'_ Value)| {
        let containers = members(containers).map(|(name, list)| (Cow::from(name.clone()), Some(blocks(list))));
        (Cow::from(pod.clone()), Some(containers.collect()))
    };
    Ok(MemoryCheckpoint {
        nodes: Some(members(&state["machineState"]).map(node).collect::<Result<_, Mismatch>>()?),
        entries: Some(members(&state["entries"]).map(entry).collect()),
        pods: Some(
            members(&state["podEntries"]).map(|(pod, list)| (Cow::from(pod.clone()), Some(blocks(list)))).collect(),
        ),
    })
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

fn blocks(list: &Value) -> Vec<RecordedBlock<'static>> {
    let block = |block: &Value| RecordedBlock {
        affinity: Some(ids(&block["numaAffinity"])),
        kind: block["type"].as_str().unwrap_or_default().to_owned().into(),
        size: block["size"].as_u64().unwrap_or_default(),
    };
    list.as_array().into_iter().flatten().map(block).collect()
}
