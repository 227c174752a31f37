//! The node specification: what a validated profile asks of this node, one section per subsystem.
//!
//! The types are written so that a section that is absent asks for nothing; the empty specification therefore gives
//! back everything that was ever changed, which is what a roll-back is.

pub mod cgroup;
pub mod confirm;
pub mod ip_masq;
pub mod kernel;
pub mod kubernetes;
pub mod pause;
pub mod resource_managers;
pub mod sysctls;

pub use cgroup::CgroupSpec;
pub use confirm::ConfirmSpec;
pub use ip_masq::IpMasqSpec;
pub use kernel::KernelSpec;
pub use kubernetes::KubernetesSpec;
pub use pause::PauseSpec;
pub use resource_managers::ResourceManagersSpec;
pub use sysctls::SysctlsSpec;

use crate::rollout::Rollout;

/// Everything that a profile asks of this node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeSpec {
    /// `metadata.name` of the profile.
    pub name: String,
    /// Kernel parameters below `/proc/sys`.
    pub sysctls: SysctlsSpec,
    /// Transparent huge pages, huge pages, modules.
    pub kernel: KernelSpec,
    /// cgroup driver checks.
    pub cgroup: CgroupSpec,
    /// CPU, memory and topology manager; `None`: nothing is pinned.
    pub resource_managers: Option<ResourceManagersSpec>,
    /// Masquerade rules; `None`: none are kept.
    pub ip_masq: Option<IpMasqSpec>,
    /// What the API server is told.
    pub kubernetes: KubernetesSpec,
    /// What must still be reached after a risky change.
    pub confirm: ConfirmSpec,
    /// How a change of the profile spreads, if it is an object.
    pub rollout: Rollout,
    /// While the node is observed and nothing is written; `None`: never.
    pub pause: Option<PauseSpec>,
}

impl NodeSpec {
    /// True if both ask the same of the node; when it is to be left alone is no part of that.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let without_pause = |spec: &Self| Self { pause: None, ..spec.clone() };
        if self.pause == other.pause { self == other } else { without_pause(self) == without_pause(other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_nothing_that_is_asked_of_the_node() {
        let named = |name: &str, until: Option<u64>| NodeSpec {
            name: name.to_owned(),
            pause: until.map(|until| PauseSpec { until, reason: String::new() }),
            ..NodeSpec::default()
        };
        assert!(named("a", None).asks_the_same(&named("a", Some(1))));
        assert!(named("a", Some(2)).asks_the_same(&named("a", Some(1))));
        assert!(!named("a", Some(1)).asks_the_same(&named("b", Some(1))));
        assert!(!named("a", None).asks_the_same(&named("b", Some(1))));
    }
}
