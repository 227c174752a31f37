//! Names of pods and containers by id, as the node itself keeps them (links of logs).

use std::collections::BTreeMap;

use crate::workload::{ContainerId, PodUid};

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
