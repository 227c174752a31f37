//! Section `cgroup` of a profile.

use std::fmt;

/// What the profile says about the cgroup driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupSpec {
    /// The driver that kubelet and runtime should use; `None`: whichever they use, as long as they agree.
    pub driver: Option<CgroupDriver>,
    /// How a node that uses another driver is moved to that one; `None`: it is reported and left alone.
    pub migration: Option<MigrationSpec>,
}

/// How a node is moved to another driver (`onMismatch: Migrate`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationSpec {
    /// Most nodes of the cluster that may be away at a time, those that are not ready for other reasons among them.
    pub max_unavailable: u32,
    /// Longest drain, in seconds.
    pub drain_timeout_seconds: u64,
    /// Longest wait for kubelet and runtime to stop, to start, and for the node to be ready, each in seconds.
    pub ready_timeout_seconds: u64,
    /// Pods with an `emptyDir` may be evicted.
    pub delete_empty_dir_data: bool,
    /// Pods that nobody makes again may be evicted.
    pub force: bool,
    /// Unit of the kubelet.
    pub kubelet_unit: String,
    /// Unit of the container runtime; `None`: `containerd.service` or `crio.service`, whichever the node has.
    pub runtime_unit: Option<String>,
    /// The kubelet's configuration file on the host.
    pub kubelet_config: String,
    /// The runtime's configuration file on the host; `None`: `/etc/containerd/config.toml`, or for CRI-O a drop-in of our own.
    pub runtime_config: Option<String>,
}

impl Default for MigrationSpec {
    /// One node at a time, a quarter of an hour for the drain, five minutes for the node to be ready; files and units of
    /// kubeadm.
    fn default() -> Self {
        Self {
            max_unavailable: 1,
            drain_timeout_seconds: 900,
            ready_timeout_seconds: 300,
            delete_empty_dir_data: false,
            force: false,
            kubelet_unit: "kubelet.service".to_owned(),
            runtime_unit: None,
            kubelet_config: "/var/lib/kubelet/config.yaml".to_owned(),
            runtime_config: None,
        }
    }
}

/// Who manages the cgroup tree below `kubepods`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// Directories are made directly.
    Cgroupfs,
    /// Directories are slices and scopes of systemd.
    Systemd,
}

impl CgroupDriver {
    /// `cgroupfs` or `systemd`, as the kubelet spells them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
