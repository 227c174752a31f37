//! How a runtime behaves: which version it is, and what it does to its plugins.

use std::time::Duration;

use super::wire::Split;

/// Longest wait of a test for something that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How the runtime behaves.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// `containerd`, `cri-o`.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Told since 0.12; empty before.
    pub(crate) nri: &'static str,
    /// Bits that it knows; any other ends the connection.
    pub(crate) known_events: i32,
    /// True: a method for each event (0.12); false: `StateChange`.
    pub(crate) dedicated_events: bool,
    pub(crate) registration_timeout: Duration,
    /// containerd's is 2 s; here longer, because a test that is not about time must pass on a busy machine.
    pub(crate) request_timeout: Duration,
    /// True: `Configure` is asked and answered before the registration is.
    pub(crate) configure_first: bool,
    /// Most objects in one message of `Synchronize`.
    pub(crate) chunk: usize,
    pub(crate) split: Split,
    /// Unknown fields, metadata, gaps in stream ids, frames of connections that nobody has opened.
    pub(crate) noisy: bool,
}

impl Behaviour {
    /// containerd 2.1.
    pub(crate) fn containerd_2_1() -> Self {
        Self {
            name: "containerd",
            version: "v2.1.4",
            nri: "",
            known_events: 0x7FF,
            dedicated_events: false,
            registration_timeout: Duration::from_secs(20),
            request_timeout: DEADLINE,
            configure_first: true,
            chunk: usize::MAX,
            split: Split::Go,
            noisy: false,
        }
    }

    /// containerd 2.4: a method for each event, and updates that were not asked for are safe.
    pub(crate) fn containerd_2_4() -> Self {
        Self {
            version: "v2.4.0",
            nri: "v0.12.2",
            known_events: 0x3FFF,
            dedicated_events: true,
            ..Self::containerd_2_1()
        }
    }
}
