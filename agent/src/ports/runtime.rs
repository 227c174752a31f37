//! The container runtime, as it is asked (CRI).

use std::future::Future;
use std::pin::Pin;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{Sandbox, SandboxContainer};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::ContainerId;

/// A future behind one type, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

/// The container runtime of the node. Every call has a deadline; none is made while the runtime waits for an answer of
/// the agent (that would be a deadlock).
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Who answers.
    fn about(&self) -> Answer<'_, RuntimeAbout>;

    /// All ready sandboxes and their containers that are created or running, with their resources.
    fn list(&self) -> Answer<'_, RuntimeListing>;

    /// Changes resources of a container; what is `None` stays as it is.
    fn update<'a>(&'a self, id: &'a ContainerId, change: &'a ResourceChange) -> Answer<'a, ()>;

    /// The cgroup driver that the runtime says it uses; `None`: it is too old to be asked.
    fn cgroup_driver(&self) -> Answer<'_, Option<CgroupDriver>>;
}

/// What a runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeAbout {
    /// `containerd`, `cri-o` …
    pub name: String,
    /// Its version as it says it.
    pub version: String,
    /// Socket on the host.
    pub socket: String,
}

/// Everything that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeListing {
    /// Sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Containers.
    pub containers: Vec<SandboxContainer>,
}

/// A change of a container's resources. Empty sets cannot be told to a runtime (it takes them for "unchanged"), so an
/// empty one is [`RuntimeError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceChange {
    /// CPUs.
    pub cpus: Option<CpuSet>,
    /// NUMA nodes.
    pub mems: Option<CpuSet>,
    /// Microseconds per period; −1: no bound.
    pub cpu_quota_us: Option<i64>,
    /// Microseconds.
    pub cpu_period_us: Option<u64>,
}

/// The runtime could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No socket, nobody behind it, or no answer in time: it is away.
    #[error("the container runtime at {socket} does not answer {method}: {detail}")]
    Away {
        /// The socket.
        socket: String,
        /// The call.
        method: &'static str,
        /// What happened.
        detail: String,
    },
    /// The object is gone.
    #[error("the container runtime does not know container {0} any more")]
    Gone(String),
    /// It answered with an error.
    #[error("the container runtime refused {method}: {detail}")]
    Refused {
        /// The call.
        method: &'static str,
        /// Its words.
        detail: String,
    },
}
