//! What a profile says of changes that may cut the node off.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Section `confirm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmSpec {
    /// How long a change has to be confirmed before it is taken back.
    pub deadline: Duration,
    /// What must be reached beside the API server and the agent's own port.
    pub probes: Vec<Target>,
    /// Whose risky changes are watched over: names of subsystems; empty: nobody's.
    pub subsystems: BTreeSet<String>,
}

/// Subsystems that make risky changes.
pub const RISKY_SUBSYSTEMS: [&str; 3] = ["kernel", "masquerade", "sysctl"];

impl Default for ConfirmSpec {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            probes: Vec::new(),
            subsystems: RISKY_SUBSYSTEMS.map(str::to_owned).into(),
        }
    }
}

/// Something that is tried by making a connection to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A TCP connection is made; address as `HOST:PORT`.
    Tcp(String),
    /// An answer of 200 to 399 is had, as the kubelet's probes want it; an address that begins with `http://`.
    Http(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Http(url) => f.write_str(url),
        }
    }
}
