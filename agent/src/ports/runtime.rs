//! The container runtime, as it is asked (CRI).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use trimtab_domain::cgroup::Configured;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::roster::{Sandbox, SandboxContainer, SandboxId};
use trimtab_domain::workload::ContainerId;

/// A future behind one type, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

/// The container runtime of the node. Every call has a deadline; none is made while the runtime waits for an answer of
/// the agent (that would be a deadlock).
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Who answers.
    fn about(&self) -> Answer<'_, RuntimeAbout>;

    /// All ready sandboxes and those others in which something runs, with the containers that are created or running (or of
    /// which the runtime does not know). What is costly to ask (process, cgroup,
    /// resources) is asked once per container and kept; if that takes too long, the rest of it is left out and asked by
    /// the next call.
    fn list(&self) -> Answer<'_, RuntimeListing>;

    /// What is kept of these is asked anew by the next [`Self::list`]: somebody else may have changed them.
    fn forget(&self, ids: &[ContainerId]);

    /// Changes resources of a container; what is `None` stays as it is.
    fn update<'a>(&'a self, id: &'a ContainerId, change: &'a ResourceChange) -> Answer<'a, ()>;

    /// The cgroup drivers that the running runtime says it uses, by handler; empty: it is too old to be asked.
    fn cgroup_drivers(&self) -> Answer<'_, Vec<Configured>>;

    /// What is being stopped at the moment, as far as the runtime tells.
    fn terminating(&self) -> Answer<'_, Terminating>;
}

/// The sandboxes of the runtime, for whoever empties a node. Only where a migration was asked for.
pub trait Sandboxes: Send + Sync + 'static {
    /// Every ready sandbox, without what is costly to ask.
    fn ready(&self) -> Answer<'_, Vec<Sandbox>>;

    /// Stops the containers of a sandbox with this grace (whole seconds), then stops and removes the sandbox. One that is
    /// gone is fine.
    fn end<'a>(&'a self, id: &'a SandboxId, grace: Duration) -> Answer<'a, ()>;
}

/// What is being stopped. CRI does not tell that a container is being stopped while its sandbox is ready, so that is
/// concluded from what has ended beside it; the only container of a pod in its grace period shows in nothing that the node
/// has, and stays unseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminating {
    /// The longest time that a container may still take: one of a stopped sandbox, or one beside which another container of
    /// its pod has ended of late and was not started again. `None`: none is known to be stopping.
    pub longest: Option<Duration>,
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
    /// `containerd`, `cri-o` …; empty: it does not say.
    pub runtime: String,
    /// Sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Containers.
    pub containers: Vec<SandboxContainer>,
    /// What the runtime told of its handlers.
    pub handlers: HandlerTypes,
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
