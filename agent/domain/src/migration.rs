//! Moving a node to another cgroup driver: which step comes next, and when to turn back.
//!
//! A running pod cannot change its driver, so the node is emptied first (Kubernetes documentation, "Configuring a cgroup
//! driver"). Every step looks at what is, not at what was done, and may be made twice: a crash between any two of them
//! loses nothing but time.

mod decide;
pub mod drain;
mod journal;
mod kubelet_file;
mod progress;
#[cfg(test)]
mod tests;

pub use decide::{Action, Decision, decide};
pub use journal::{Direction, Journal, Limits, Outcome};
pub use kubelet_file::{KubeletFileError, set_cgroup_driver};
pub use progress::{Phase, Progress};

use crate::spec::cgroup::CgroupDriver;

/// What is known of the node and the cluster before each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether this node holds one of the places of those that may be disrupted at a time; absent: nobody could be asked.
    pub holds_lease: Option<bool>,
    /// Whether enough other nodes are well for this one to go away; absent: nobody could be asked.
    pub cluster_is_healthy: Option<bool>,
    /// `spec.unschedulable` of the node; absent: nobody could be asked.
    pub cordoned: Option<bool>,
    /// Pods that a drain has yet to evict; absent: nobody could be asked.
    pub to_evict: Option<usize>,
    /// Whether the kubelet's unit is active.
    pub kubelet_runs: bool,
    /// Whether the runtime's unit is active.
    pub runtime_runs: bool,
    /// Sandboxes that a drain leaves (of DaemonSets and static pods), without the agent's own; absent: no runtime answers.
    pub sandboxes: Option<usize>,
    /// The driver in the runtime's file.
    pub runtime_file: CgroupDriver,
    /// The driver in the kubelet's file.
    pub kubelet_file: CgroupDriver,
    /// Whether both files are as they were before the first edit.
    pub files_are_original: bool,
    /// The driver that the running runtime tells of; absent: it does not say, or does not run.
    pub runtime_says: Option<CgroupDriver>,
    /// Whether the node's condition `Ready` is true and newer than the kubelet's start; absent: nobody could be asked.
    pub node_is_ready: Option<bool>,
}
