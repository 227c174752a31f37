//! Units of the node's systemd that are stopped and started: kubelet and container runtime.

use std::time::Duration;

pub use super::units::{Answer, UnitError};

/// Starts and stops units. Every call has a deadline; none waits until the unit has started or stopped, as that may take
/// minutes: ask for the state again.
pub trait Services: Send + Sync + 'static {
    /// What the unit is doing. One that systemd does not know is [`Activity::Absent`], and no error.
    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, ServiceState>;

    /// Queues the start of the unit; one that runs stays as it is.
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;

    /// Queues the stop of the unit; one that does not run stays as it is.
    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;

    /// Lets systemd start the unit by itself after this time, whether the agent lives or not; a time that was set before and
    /// has not come stays.
    fn start_later<'a>(&'a self, unit: &'a str, after: Duration) -> Answer<'a, ()>;

    /// Takes [`Self::start_later`] back; without one this is fine.
    fn forget_start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;
}

/// What a unit is doing, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceState {
    /// What it is doing.
    pub activity: Activity,
    /// When it last became active, in microseconds since 1970; 0: never since the node's start.
    pub active_since_us: u64,
}

/// What a unit is doing (org.freedesktop.systemd1(5), `LoadState` and `ActiveState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// There is no such unit, or it is masked.
    Absent,
    /// It runs.
    Active,
    /// It is being started or stopped, or waits for its next try.
    Changing,
    /// It does not run, and nobody starts it by himself; one that has failed too.
    Inactive,
}
