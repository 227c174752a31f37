//! The units of the node's systemd, whose properties outlive a `daemon-reload`; what is written to their cgroups does
//! not.

use std::future::Future;
use std::pin::Pin;

use trimtab_domain::cgroup::Quota;
use trimtab_domain::cpuset::CpuSet;

/// A future behind one type, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, UnitError>> + Send + 'a>>;

/// The manager of units on this node. Every call has a deadline.
pub trait Units: Send + Sync + 'static {
    /// True if there is a manager that answers and is new enough for the properties (systemd 244).
    fn answers(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;

    /// Changes properties of a unit until it ends (`runtime`); what is absent stays as it is.
    fn set<'a>(&'a self, unit: &'a str, change: &'a UnitChange) -> Answer<'a, ()>;
}

/// A change of properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitChange {
    /// `AllowedCPUs`; empty: no restriction of its own.
    pub cpus: Option<CpuSet>,
    /// `AllowedMemoryNodes`; empty: no restriction of its own.
    pub mems: Option<CpuSet>,
    /// `CPUQuotaPerSecUSec` and `CPUQuotaPeriodUSec`.
    pub quota: Option<Quota>,
    /// Properties that are numbers, by their names in org.freedesktop.systemd1(5): `CPUWeight`, `MemoryMax` in bytes,
    /// `TasksMax`, of version 1 `CPUShares` and `MemoryLimit`. The largest number means no bound of its own.
    pub numbers: Vec<(&'static str, u64)>,
}

/// A unit could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// No socket, nobody behind it, or no answer in time.
    #[error("systemd does not answer {method}: {detail}")]
    Away {
        /// The call.
        method: &'static str,
        /// What happened.
        detail: String,
    },
    /// There is no such unit.
    #[error("systemd has no unit {0}")]
    Gone(String),
    /// It answered with an error.
    #[error("systemd refused {method} of {unit}: {detail}")]
    Refused {
        /// The call.
        method: &'static str,
        /// The unit.
        unit: String,
        /// Its words.
        detail: String,
    },
}
