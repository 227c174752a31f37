//! Who else pins on this node, and what follows for the agent: it only looks on.

use trimtab_domain::plan::{Finding, Severity};

use super::MANAGERS;
use crate::reconcile::node_view::PinnerKind;
use crate::subsystems::pinning::facts::Observed;

/// Another pinner.
pub(super) enum Pinner {
    /// The kubelet: the setting that it would have to have instead, and the evidence.
    Kubelet(&'static str, String),
    /// Somebody whose deeds show at the runtime.
    Other(String),
}

impl Pinner {
    /// Why nothing is written, in a word.
    pub(super) fn reason(&self, what: &str) -> String {
        match self {
            Self::Kubelet(_, evidence) => format!("the kubelet pins {what} itself ({evidence})"),
            Self::Other(evidence) => format!("somebody else pins {what} ({evidence})"),
        }
    }

    pub(super) const fn kind(&self) -> PinnerKind {
        match self {
            Self::Kubelet(..) => PinnerKind::Kubelet,
            Self::Other(_) => PinnerKind::Runtime,
        }
    }

    pub(super) fn finding(&self, what: &str) -> Finding {
        let remedy = match self {
            Self::Kubelet(setting, _) => format!(
                "either remove the policy from the profile, or drain the node, set {setting} for the kubelet, remove its \
                 state file and restart it"
            ),
            Self::Other(_) => {
                "remove the other one, then change the profile or restart the agent; or remove the policy from \
                               the profile"
                    .to_owned()
            }
        };
        Finding {
            severity: Severity::Warning,
            code: "pinning-observe-only",
            object: MANAGERS.into(),
            message: format!("{}, so nothing of that is written; two would fight", self.reason(what)),
            remedy,
        }
    }
}

/// The evidence that the kubelet's own CPU manager is static; `None`: it is not.
pub(in crate::subsystems::pinning) fn kubelet_pins_cpus(observed: &Observed) -> Option<String> {
    if observed.kubelet_state.cpu_policy == "static" {
        return Some("cpu_manager_state has policyName static".into());
    }
    if !observed.kubelet_cpus.is_empty() {
        return Some(format!("its PodResources API says that it gives out CPUs {}", observed.kubelet_cpus));
    }
    let source = &observed.kubelet.cpu_policy_source;
    (observed.kubelet.managers.cpu_manager_policy == "static").then(|| format!("cpuManagerPolicy static in {source}"))
}

/// The same for its memory manager.
pub(in crate::subsystems::pinning) fn kubelet_pins_memory(observed: &Observed) -> Option<String> {
    if observed.kubelet_state.memory_policy == "Static" {
        return Some("memory_manager_state has policyName Static".into());
    }
    let source = &observed.kubelet.memory_policy_source;
    (observed.kubelet.managers.memory_manager_policy == "Static")
        .then(|| format!("memoryManagerPolicy Static in {source}"))
}
