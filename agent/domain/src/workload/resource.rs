//! Names of the resources that a container may ask for.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Name of a resource in the spelling of Kubernetes: `cpu`, `memory`, `hugepages-2Mi`, `example.com/nic`.
///
/// Compared and ordered by its text; copying one never allocates.
#[derive(Debug, Clone)]
pub enum ResourceName {
    /// `cpu`.
    Cpu,
    /// `memory`.
    Memory,
    /// Huge pages of one size, or a device of a plugin, in the text of the pod.
    Named(Arc<str>),
}

impl ResourceName {
    /// The text of the pod specification.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Named(name) => name,
        }
    }

    /// True for `hugepages-<size>`.
    #[must_use]
    pub fn is_hugepages(&self) -> bool {
        self.as_str().starts_with("hugepages-")
    }
}

impl From<&str> for ResourceName {
    fn from(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            other => Self::Named(other.into()),
        }
    }
}

impl PartialEq for ResourceName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ResourceName {}

impl Ord for ResourceName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for ResourceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
