//! Time in this room: how long the agent runs for all pauses, the wall clock only for what is written into objects.

use std::time::{Duration, SystemTime};

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

/// The wall clock as `metav1.Time`; a clock that is set changes what is written and no pause.
pub(super) fn written_now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The same as `metav1.MicroTime`.
pub(super) fn written_now_micro() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}
