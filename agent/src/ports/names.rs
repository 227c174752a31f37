//! Names of pods and containers, from what the node itself keeps.

use std::collections::BTreeMap;

use trimtab_domain::workload::{ContainerId, PodUid};

use super::FileError;

/// Where names come from without an API server.
pub trait PodNames: Send + Sync + 'static {
    /// Reads all names that are known now.
    ///
    /// # Errors
    /// [`FileError`] if a directory exists and cannot be read.
    fn read(&self) -> Result<Names, FileError>;
}

/// Names by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Namespace and name by pod.
    pub pods: BTreeMap<PodUid, PodName>,
    /// Container names by id; a sandbox has none.
    pub containers: BTreeMap<ContainerId, ContainerName>,
}

/// Name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Name of a container, with that of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName {
    /// Its pod.
    pub pod: PodName,
    /// Its name.
    pub container: String,
}

/// The processes of the host.
pub trait Processes: Send + Sync + 'static {
    /// Command lines of the processes with this name (`comm`), by ascending process id; empty where none runs, or where
    /// the host's processes cannot be seen.
    fn command_lines(&self, name: &str) -> Vec<Vec<String>>;
}
