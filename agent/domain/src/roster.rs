//! Pods and containers as a container runtime tells of them, over NRI or CRI: plain data, and what follows from it.

pub mod identity;
pub mod isolation;
pub mod join;
mod live;
pub mod names;
pub mod pod;
pub mod qos;
pub mod told;

pub use live::Roster;

use std::collections::BTreeMap;

use crate::workload::{ContainerId, Labels, PodUid};

/// Id that the runtime gave to a sandbox (the runtime's half of a pod).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(pub String);

/// A sandbox. Absent texts are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// UID of the pod as the runtime knows it: for a static pod the hash of its configuration.
    pub uid: PodUid,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Labels; the pod's own are among them.
    pub labels: Labels,
    /// Annotations; the pod's own are among them.
    pub annotations: Labels,
    /// `runtimeClassName` handler; empty: the runtime's default.
    pub runtime_handler: String,
    /// `cgroup_parent` as the kubelet gave it: a path, or with the systemd driver sometimes the name of a slice.
    pub cgroup_parent: String,
    /// False once it is stopped.
    pub ready: bool,
    /// Nanoseconds since the epoch; 0 where the source does not tell (NRI).
    pub created_at_ns: i64,
    /// Sum over the pod as the kubelet reckoned it (NRI `pod_resources`); absent where the source does not tell.
    pub pod_resources: Option<ToldResources>,
}

/// A container of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Name of the container in the pod.
    pub name: String,
    /// What it is doing.
    pub state: ContainerState,
    /// Nanoseconds since the epoch; 0 where the source does not tell.
    pub created_at_ns: i64,
    /// First process, in the runtime's PID namespace; absent before the start and where the source does not tell.
    pub pid: Option<u32>,
    /// `linux.cgroupsPath` of the OCI specification; empty where the source does not tell.
    pub cgroups_path: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// What it was created or last updated with; absent where the source does not tell (a plain CRI list).
    pub resources: Option<ToldResources>,
}

/// Life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running or paused.
    Running,
    /// Over.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// Linux resources in the runtime's units; absent and empty mean "nothing said".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldResources {
    /// `cpu.shares`.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; 0 and less: no bound.
    pub cpu_quota_us: Option<i64>,
    /// The same as the kubelet asked for it when the container was made, where the runtime still shows that: whoever has
    /// lifted the bound through the runtime since has left this as it was.
    pub made_with_quota_us: Option<i64>,
    /// Microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes; 0 and less: no bound.
    pub memory_limit_bytes: Option<i64>,
    /// Bytes by the name of the resource (`hugepages-2Mi`).
    pub hugepage_limits: BTreeMap<String, u64>,
    /// `cpuset.cpus` that the runtime was told, in list form.
    pub cpus: String,
    /// `cpuset.mems` that the runtime was told, in list form.
    pub mems: String,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i64>,
}

impl ToldResources {
    /// Takes what `change` says; what it leaves out stays.
    pub fn update(&mut self, change: &Self) {
        self.cpu_shares = change.cpu_shares.or(self.cpu_shares);
        self.cpu_quota_us = change.cpu_quota_us.or(self.cpu_quota_us);
        self.made_with_quota_us = change.made_with_quota_us.or(self.made_with_quota_us);
        self.cpu_period_us = change.cpu_period_us.or(self.cpu_period_us);
        self.memory_limit_bytes = change.memory_limit_bytes.or(self.memory_limit_bytes);
        self.oom_score_adj = change.oom_score_adj.or(self.oom_score_adj);
        self.hugepage_limits.extend(change.hugepage_limits.clone());
        for (own, new) in [(&mut self.cpus, &change.cpus), (&mut self.mems, &change.mems)] {
            if !new.is_empty() {
                own.clone_from(new);
            }
        }
    }
}
