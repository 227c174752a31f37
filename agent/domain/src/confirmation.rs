//! Commit-confirm: after a risky change the node must still reach what it must reach, else the change is taken back.
//!
//! What could not be reached before the change is no sign against it.

#[cfg(test)]
mod tests;
pub mod trial;

/// One thing that the node must reach, tried before the change and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What: `API server`, `tcp 10.0.0.10:53` …
    pub target: String,
    /// Whether it was reached before the change.
    pub before: bool,
    /// The latest answer since the change; absent: not tried yet.
    pub after: Option<bool>,
}

/// What is to be done with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Confirmed,
    /// Try again those that have not been reached.
    Waiting {
        /// What is still awaited.
        awaited: Vec<String>,
    },
    /// It is taken back.
    TakeBack {
        /// For a person: what cannot be reached any more, and for how long it was tried.
        reason: String,
    },
}

/// Judges a change that was made `elapsed` seconds ago and has `deadline` seconds to be confirmed.
#[must_use]
pub fn judge(probes: &[Probe], elapsed: u64, deadline: u64) -> Verdict {
    let lost = probes.iter().filter(|probe| probe.before && probe.after != Some(true));
    let awaited: Vec<String> = lost.map(|probe| probe.target.clone()).collect();
    if awaited.is_empty() {
        Verdict::Confirmed
    } else if elapsed < deadline {
        Verdict::Waiting { awaited }
    } else {
        Verdict::TakeBack {
            reason: format!(
                "{} could be reached before and not within {elapsed} s after the change",
                awaited.join(", ")
            ),
        }
    }
}

/// Whether changes of this object may cut a node off: sysctls of the network, rules of the NAT table, kernel modules.
#[must_use]
pub fn is_risky(subsystem: &str, object: &str) -> bool {
    match subsystem {
        "masquerade" => true,
        "sysctl" => object.starts_with("net.") || object.starts_with("net/"),
        "kernel" => object.starts_with("module"),
        _ => false,
    }
}
