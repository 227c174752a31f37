//! Which sysctls a pod may set: the safe ones and those that the operator allows, each in a namespace of the pod.

use std::collections::BTreeMap;
use std::fmt;

use super::normalize;
use crate::quote::Quoted;

/// Longest name or pattern in bytes.
const MAX_BYTES: usize = 253;

/// What a sysctl of a pod must be private to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// System V and POSIX IPC.
    Ipc,
    /// Network.
    Net,
}

impl Namespace {
    /// `IPC` or `Net`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }

    /// The namespace of a name in dot form, or of the names with this prefix; absent for what belongs to the node.
    ///
    /// `net.` is a rule of thumb: a few names under it exist only once per node, and then the runtime fails.
    #[must_use]
    pub fn of(name_or_prefix: &str) -> Option<Self> {
        if IPC_NAMES.contains(&name_or_prefix) || name_or_prefix.starts_with("fs.mqueue.") {
            return Some(Self::Ipc);
        }
        name_or_prefix.starts_with("net.").then_some(Self::Net)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names of the IPC namespace; `kernel.shm` and `kernel.msg` are there as bases of patterns.
const IPC_NAMES: [&str; 10] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

/// A name, or a prefix that was written with a `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlPattern {
    /// In dot form, without the `*`.
    pub name_or_prefix: String,
    /// True if there was a `*`.
    pub is_prefix: bool,
}

impl SysctlPattern {
    /// Normalises a pattern and cuts it at its first `*`; does not check it.
    #[must_use]
    pub fn split(pattern: &str) -> Self {
        let name = normalize(pattern);
        match name.split_once('*') {
            Some((prefix, _)) => Self { name_or_prefix: prefix.to_owned(), is_prefix: true },
            None => Self { name_or_prefix: name, is_prefix: false },
        }
    }
}

/// An entry of `allowedUnsafeSysctls` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a name with at most one `*` at its end.
    #[error(
        "sysctl {pattern} must have at most 253 characters and match regex {PATTERN}",
        pattern = Quoted(.0),
        PATTERN = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
    )]
    Malformed(String),
    /// A pod would change the node.
    #[error("the sysctls {name} are not known to be namespaced", name = Quoted(.0))]
    NotNamespaced(String),
}

/// A pod is refused for a sysctl; its `reason` is `SysctlForbidden`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlForbidden {
    /// The name is on no list.
    #[error("forbidden sysctl: {name} not allowlisted", name = Quoted(.0))]
    NotAllowlisted(String),
    /// The name is allowed, but the pod shares that namespace with the node.
    #[error("forbidden sysctl: {name} not allowed with host {namespace} enabled", name = Quoted(.name))]
    HostNamespace {
        /// In dot form.
        name: String,
        /// The shared namespace.
        namespace: Namespace,
    },
}

impl SysctlForbidden {
    /// The `reason` in the status of the refused pod.
    pub const REASON: &'static str = "SysctlForbidden";
}

/// Namespaces that a pod shares with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostNamespaces {
    /// `hostNetwork`.
    pub network: bool,
    /// `hostIPC`.
    pub ipc: bool,
}

/// The sysctls that pods may set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SysctlAllowlist {
    names: BTreeMap<String, Namespace>,
    prefixes: BTreeMap<String, Namespace>,
}

impl SysctlAllowlist {
    /// Builds the list from all patterns: those of the safe list and those of the operator.
    ///
    /// # Errors
    /// The first pattern that is malformed or not namespaced.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut list = Self::default();
        for pattern in patterns {
            if !is_well_formed(pattern) {
                return Err(PatternError::Malformed(pattern.to_owned()));
            }
            let SysctlPattern { name_or_prefix, is_prefix } = SysctlPattern::split(pattern);
            let Some(namespace) = Namespace::of(&name_or_prefix) else {
                return Err(PatternError::NotNamespaced(name_or_prefix));
            };
            let target = if is_prefix { &mut list.prefixes } else { &mut list.names };
            target.insert(name_or_prefix, namespace);
        }
        Ok(list)
    }

    /// Decides on the sysctls of a pod, in the order of its specification.
    ///
    /// # Errors
    /// The first sysctl that may not be set.
    pub fn admit<'a>(
        &self,
        sysctls: impl IntoIterator<Item = &'a str>,
        host: HostNamespaces,
    ) -> Result<(), SysctlForbidden> {
        for name in sysctls {
            let name = normalize(name);
            let Some(namespace) = self.find(&name) else { return Err(SysctlForbidden::NotAllowlisted(name)) };
            let shared = match namespace {
                Namespace::Ipc => host.ipc,
                Namespace::Net => host.network,
            };
            if shared {
                return Err(SysctlForbidden::HostNamespace { name, namespace });
            }
        }
        Ok(())
    }

    /// An exact entry wins over prefixes.
    fn find(&self, name: &str) -> Option<Namespace> {
        let by_prefix = || self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()));
        self.names.get(name).or_else(|| by_prefix().map(|(_, n)| n)).copied()
    }
}

/// Segments of lower-case letters, digits, `-` and `_` that begin and end with a letter or digit, joined by dots or
/// slashes; the last may end with (or be) a `*`.
fn is_well_formed(pattern: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |s: &str| s.starts_with(outer) && s.ends_with(outer) && s.chars().all(inner);
    let mut segments = pattern.rsplit(['.', '/']);
    let last = segments.next().unwrap_or_default();
    let last_is_good = match last.strip_suffix('*') {
        Some(base) => base.is_empty() || (base.starts_with(outer) && base.chars().all(inner)),
        None => segment(last),
    };
    pattern.len() <= MAX_BYTES && last_is_good && segments.all(segment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn patterns_are_checked_before_they_are_used() {
        let rows = [
            ("kernel.msg*", None),
            ("net/ipv4/conf/*", None),
            ("net.ipv4.tcp_*", None),
            ("net.core.somaxconn", None),
            ("kernel.msgm*", Some("the sysctls \"kernel.msgm\" are not known to be namespaced")),
            ("fs.mqueue*", Some("the sysctls \"fs.mqueue\" are not known to be namespaced")),
            ("*", Some("the sysctls \"\" are not known to be namespaced")),
            (
                "net.*.x",
                Some(
                    r#"sysctl "net.*.x" must have at most 253 characters and match regex ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"#,
                ),
            ),
        ];
        for (pattern, expected) in rows {
            let error = SysctlAllowlist::new([pattern]).err().map(|e| e.to_string());
            assert_eq!(error.as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn shared_namespaces_forbid_even_what_is_listed() {
        let list = SysctlAllowlist::new(["net.*", "kernel.shm*", "net.ipv4.tcp_syncookies"]).unwrap();
        let admit = |name, network, ipc| {
            list.admit([name], HostNamespaces { network, ipc }).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(admit("net/core/somaxconn", false, true), "");
        assert_eq!(
            admit("net/core/somaxconn", true, false),
            "forbidden sysctl: \"net.core.somaxconn\" not allowed with host Net enabled"
        );
        assert_eq!(
            admit("kernel.shmmax", false, true),
            "forbidden sysctl: \"kernel.shmmax\" not allowed with host IPC enabled"
        );
        assert_eq!(admit("vm.swappiness", false, false), "forbidden sysctl: \"vm.swappiness\" not allowlisted");
    }

    #[test]
    fn a_dash_before_the_star_is_allowed_and_at_the_end_is_not() {
        assert!(is_well_formed("net.core.a-*"));
        assert!(!is_well_formed("net.core.a-"));
        assert!(!is_well_formed("net.core.-*"));
        assert!(!is_well_formed(&format!("net.{}", "a".repeat(250))));
    }
}
