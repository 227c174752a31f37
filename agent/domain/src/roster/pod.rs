//! A pod of the node, as all sources together know it.

use super::SandboxId;
use super::identity::PodOrigin;
use super::told::{Asked, Told};
use super::{ContainerState, ToldResources};
use crate::workload::{ContainerId, ContainerKind, Labels, PodUid, QosClass};

/// A pod, by the uid that the node knows it by: for a static pod the hash of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPod {
    /// Its uid.
    pub uid: PodUid,
    /// Namespace; empty: unknown.
    pub namespace: String,
    /// Name; empty: unknown.
    pub name: String,
    /// Labels; empty where no runtime tells.
    pub labels: Labels,
    /// Annotations; empty where no runtime tells.
    pub annotations: Labels,
    /// Its class.
    pub qos: Told<QosClass>,
    /// Where the kubelet has it from.
    pub origin: Told<PodOrigin>,
    /// Its youngest sandbox; absent where no runtime tells.
    pub sandbox: Option<SandboxId>,
    /// False if a runtime told that its sandbox is stopped.
    pub ready: bool,
    /// Handler of its `runtimeClassName`; empty: the default, or unknown.
    pub runtime_handler: String,
    /// Why it is not pinned although it could be: it does not run under the kernel of the node. Absent: it does.
    pub sandboxed: Option<String>,
    /// Its cgroup, relative to the mount point; absent: it has none (any more), or the tree is not known.
    pub cgroup: Option<String>,
    /// What the pod as a whole asks for, as the kubelet reckoned it from all of its containers and from pod-level
    /// resources; absent where the runtime does not tell.
    pub asked: Option<Asked>,
    /// Its containers, without sandbox and monitors, in order of creation. Those that have exited are among them while
    /// the kubelet may start them again.
    pub containers: Vec<KnownContainer>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name in the pod; empty: unknown.
    pub name: String,
    /// When it runs: never exact without the specification. A sidecar looks like an application container.
    pub kind: Told<ContainerKind>,
    /// What it is doing; absent where no runtime tells.
    pub state: Option<ContainerState>,
    /// Its first process in the runtime's PID namespace, where that is told.
    pub pid: Option<u32>,
    /// What it asks for.
    pub asked: Asked,
    /// What the runtime was last told, in its units; absent where no runtime tells.
    pub told: Option<ToldResources>,
    /// Its cgroup, relative to the mount point; absent: it has none (not started, or over), or the tree is not known.
    pub cgroup: Option<String>,
}

impl KnownPod {
    /// Its container of this id.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&KnownContainer> {
        self.containers.iter().find(|container| container.id == *id)
    }

    /// `namespace/name`, or `pod <uid>`.
    #[must_use]
    pub fn display_name(&self) -> String {
        if self.name.is_empty() { format!("pod {}", self.uid) } else { format!("{}/{}", self.namespace, self.name) }
    }
}

impl KnownContainer {
    /// What it is known by for as long as its pod lives: its name, or, where that is unknown, its id.
    #[must_use]
    pub fn key(&self) -> &str {
        if self.name.is_empty() { &self.id.0 } else { &self.name }
    }
}
