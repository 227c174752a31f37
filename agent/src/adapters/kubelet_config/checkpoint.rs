//! The kubelet's checkpoints `cpu_manager_state` and `memory_manager_state`.
//!
//! Only read, to learn who owns what while the kubelet pins; the checksum is the kubelet's own business.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::PodUid;

use crate::ports::HostFiles;
use crate::ports::kubelet::{KubeletBlock, KubeletState};

/// Layouts 2 and 3; entries of layout 1 are by container id and are left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuCheckpoint {
    policy_name: String,
    default_cpu_set: CpuSet,
    #[serde(default)]
    entries: BTreeMap<String, CpuEntry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CpuEntry {
    ByContainer(BTreeMap<String, CpuSet>),
    ByContainerId(#[expect(dead_code, reason = "only its shape matters")] CpuSet),
}

/// Layouts 1 and 2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemoryCheckpoint {
    policy_name: String,
    #[serde(default)]
    entries: BTreeMap<String, BTreeMap<String, Vec<Block>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    numa_affinity: Vec<u32>,
    #[serde(rename = "type")]
    memory_type: String,
    size: u64,
}

/// Reads both files below the kubelet's root directory.
pub(super) fn read(files: &dyn HostFiles, root: &Path) -> KubeletState {
    let mut state = KubeletState::default();
    if let Some(cpu) = parse::<CpuCheckpoint>(files, &root.join("cpu_manager_state"), &mut state.problems) {
        state.cpu_policy = cpu.policy_name;
        state.shared_cpus = cpu.default_cpu_set;
        for (pod, entry) in cpu.entries {
            if let CpuEntry::ByContainer(containers) = entry {
                let owners = containers.into_iter().map(|(name, cpus)| ((PodUid(pod.clone()), name), cpus));
                state.cpus.extend(owners);
            }
        }
    }
    if let Some(memory) = parse::<MemoryCheckpoint>(files, &root.join("memory_manager_state"), &mut state.problems) {
        state.memory_policy = memory.policy_name;
        for (pod, containers) in memory.entries {
            for (name, blocks) in containers {
                state.memory.insert((PodUid(pod.clone()), name), blocks.into_iter().map(KubeletBlock::from).collect());
            }
        }
    }
    state
}

impl From<Block> for KubeletBlock {
    fn from(block: Block) -> Self {
        let mut nodes = block.numa_affinity;
        nodes.sort_unstable();
        Self { nodes, memory_type: block.memory_type, size_bytes: block.size }
    }
}

fn parse<T: DeserializeOwned>(files: &dyn HostFiles, path: &Path, problems: &mut Vec<String>) -> Option<T> {
    let text = match files.read(path) {
        Ok(text) => text?,
        Err(error) => {
            problems.push(format!("{error}: {}", error.source));
            return None;
        }
    };
    serde_json::from_str(&text)
        .map_err(|error| problems.push(format!("{} is no checkpoint of the kubelet: {error}", path.display())))
        .ok()
}
