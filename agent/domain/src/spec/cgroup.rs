//! Section `cgroup` of a profile.

use std::fmt;

/// What the profile says about the cgroup driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupSpec {
    /// The driver that kubelet and runtime should use; `None`: whichever they use, as long as they agree.
    pub driver: Option<CgroupDriver>,
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
