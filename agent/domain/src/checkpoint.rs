//! The state files of the kubelet, `cpu_manager_state` and `memory_manager_state`: read in every version, written in
//! the current one byte for byte.
//!
//! A file is one JSON object. Its checksum is not over the JSON but over a dump of the Go structure behind it
//! (`dump`), and its errors are those of Go's JSON decoder (`json`, `decode`), because they end in the message that
//! the operator reads. Which layouts are tried, in which order and under which names they are hashed, is in `cpu`
//! and `memory`. Where the bytes lie, and how they reach the disk, is no matter of this room.

mod cpu;
mod decode;
mod dump;
mod json;
mod memory;
mod memory_text;

pub use cpu::{InitialContainers, read_cpu_state, write_cpu_state};
pub use memory::{MemoryCheckpoint, NodeRecord, RecordedBlock, TableRecord, read_memory_state, write_memory_state};

use crate::quote::Quoted;

/// Name of the CPU state file in the directory of the kubelet.
pub const CPU_STATE_FILE: &str = "cpu_manager_state";

/// Name of the memory state file in the directory of the kubelet.
pub const MEMORY_STATE_FILE: &str = "memory_manager_state";

/// Which layouts are read and written; the feature gate `PodLevelResourceManagers` of the kubelet decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// CPU version 2 and memory version 1: the gate is off, as it is by default in 1.36.
    #[default]
    Container,
    /// CPU version 3 and memory version 2, which add what pods as a whole own: the gate is on.
    Pod,
}

/// A state file was not understood, or belongs to another policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are no JSON.
    #[error("{0}")]
    Syntax(String),
    /// A field has another type than the oldest layout.
    #[error("{0}")]
    Type(String),
    /// The checksum belongs to other contents.
    #[error("checkpoint is corrupted")]
    Corrupted,
    /// Written under another policy.
    #[error("{prefix}configured policy {configured} differs from state checkpoint policy {stored}",
        configured = Quoted(.configured), stored = Quoted(.stored))]
    OtherPolicy {
        /// `[memorymanager] ` in the memory file, nothing in the CPU file.
        prefix: &'static str,
        /// Policy of the configuration.
        configured: String,
        /// Policy in the file.
        stored: String,
    },
    /// The shared pool is no CPU list.
    #[error("could not parse default cpu set {text}: {cause}", text = Quoted(.text))]
    SharedPool {
        /// The text in the file.
        text: String,
        /// Why.
        cause: String,
    },
    /// The CPUs of a container are no CPU list.
    #[error("could not parse cpuset {text} for container {container} in pod {pod}: {cause}",
        text = Quoted(.text), container = Quoted(.container), pod = Quoted(.pod))]
    Assignment {
        /// The text in the file.
        text: String,
        /// Name of the container.
        container: String,
        /// UID of the pod.
        pod: String,
        /// Why.
        cause: String,
    },
    /// The oldest layout names containers by id, and the runtime knows no such container.
    #[error("failed to migrate checkpoint from v1 to v2: containerID '{0}' not found in initial containers list")]
    UnknownContainer(String),
}

/// Which state file could not be restored; says what the operator has to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "could not restore state from checkpoint: {cause}, please drain this node and delete the {manager} manager checkpoint file {path} before restarting Kubelet",
    path = Quoted(.path)
)]
pub struct RestoreError {
    /// `CPU` or `memory`.
    pub manager: &'static str,
    /// Full path of the file.
    pub path: String,
    /// What is wrong with it; part of the text, because the kubelet prints it so.
    pub cause: CheckpointError,
}

#[cfg(test)]
mod tests;
