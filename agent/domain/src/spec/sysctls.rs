//! Section `sysctls` of a profile.

use std::collections::BTreeMap;
use std::fmt;

/// Kernel parameters, and the policy that limits them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SysctlsSpec {
    /// Key in dotted form, possibly with globs, to the value as the profile spells it.
    pub values: BTreeMap<String, String>,
    /// Built-in allow-list with value ranges; `None`: every key is allowed.
    pub policy: Option<SysctlPolicy>,
}

/// A built-in allow-list with value ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlPolicy {
    /// The keys and ranges that AKS publishes for `linuxOSConfig`.
    Aks,
    /// The keys that GKE publishes for `linuxNodeConfig.sysctls`.
    Gke,
}

impl SysctlPolicy {
    /// `aks` or `gke`, as a profile spells them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aks => "aks",
            Self::Gke => "gke",
        }
    }
}

impl fmt::Display for SysctlPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
