//! Section `sysctls` of a profile.

use std::collections::BTreeMap;

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
