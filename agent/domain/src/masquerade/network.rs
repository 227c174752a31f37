//! Whose network namespace the rules are written in.
//!
//! Rules in the namespace of a pod are correct, counted, healed and of no use to anybody; so are its `net.*` sysctls.

use crate::plan::{Cause, Finding, Severity};

/// The network namespace of the agent beside that of the host's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The same, or it cannot be told.
    #[default]
    OfNode,
    /// Another one; the agent runs among the host's processes, so somebody put it there (`ip netns exec`).
    Apart,
    /// Another one, and the agent runs in a container: a pod without `hostNetwork`.
    OfContainer,
}

impl Network {
    /// Why nothing is read or written; `None`: it is.
    #[must_use]
    pub fn refusal(self) -> Option<(Cause, String)> {
        let why = "the agent runs in a container with a network of its own, so no packet of this node would meet its rules; \
                   set hostNetwork: true in its pod";
        (self == Self::OfContainer).then(|| (Cause::NotPermitted, why.to_owned()))
    }

    pub(super) fn finding(self) -> Option<Finding> {
        let (severity, effect, remedy) = match self {
            Self::OfNode => return None,
            Self::Apart => {
                (Severity::Warning, "its rules act on that network alone", "start the agent in the network of the host")
            }
            Self::OfContainer => {
                (Severity::Error, "it writes no rules there", "set hostNetwork: true in the agent's pod")
            }
        };
        let message = format!(
            "the agent is not in the network namespace of the host's first process: {effect}, and net.* sysctls that it \
             holds are not the node's"
        );
        let object = "network namespace".to_owned();
        Some(Finding { severity, code: "masquerade-other-network", object, message, remedy: remedy.to_owned() })
    }
}
