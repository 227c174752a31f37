//! Time in this room: how long the agent runs for all pauses, the wall clock only for what is written into objects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that only goes forward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since its start.
    pub(super) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The wall clock at its start, and from there on one that only goes forward: deadlines that outlive the agent go by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock {
    start: u64,
    clock: Clock,
}

impl WallClock {
    pub(super) fn start() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { start, clock: Clock::start() }
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.start.saturating_add(self.clock.now().as_secs())
    }
}

/// The wall clock as `metav1.Time`; a clock that is set changes what is written and no pause.
pub(super) fn written_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The same as `metav1.MicroTime`.
pub(super) fn written_now_micro() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}
