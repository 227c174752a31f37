//! What a container runtime asks while it creates, changes and stops containers (NRI).
//!
//! The runtime holds one lock of the whole node while it waits, so the answers come from memory: no file, no socket, no
//! await. What has to be written or asked afterwards is left to the pass that an answer wakes.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::ContainerId;

use super::runtime::RuntimeError;

/// Answers a runtime. Calls come one at a time and in order.
pub trait Admission: Send + Sync + 'static {
    /// A session has begun: who is at the other end.
    fn connected(&self, peer: &RuntimePeer);

    /// Everything that runs; what is known of others is over. Answers with what is to be changed.
    fn synchronize(&self, sandboxes: Vec<Sandbox>, containers: Vec<SandboxContainer>) -> Vec<CpusetUpdate>;

    /// A container is about to be created.
    ///
    /// # Errors
    /// [`Refused`]: the container is not created, and the runtime shows the text.
    fn create(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Result<Created, Refused>;

    /// Somebody (the kubelet, or the agent through CRI) changes resources of a container; `asked` holds the fields that
    /// were set. The answer may name the container itself: then its sets take the place of those asked for.
    ///
    /// # Errors
    /// [`Refused`]: the change is not made.
    fn update(
        &self,
        sandbox: &Sandbox,
        container: &SandboxContainer,
        asked: &ToldResources,
    ) -> Result<Vec<CpusetUpdate>, Refused>;

    /// A container is being stopped; may be told twice, and the sandbox may be known by its id only.
    fn stop(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Vec<CpusetUpdate>;

    /// Something happened that cannot be answered.
    fn event(&self, event: Lifecycle, sandbox: &Sandbox, container: Option<&SandboxContainer>);

    /// The session is over; containers created from now on are not announced.
    fn disconnected(&self);
}

/// Knows of containers that are being stopped. A runtime that waits for one of them makes a plugin that registers wait
/// too, and everything else on the node behind it (containerd issue 14083).
pub trait Terminations: Send + Sync + 'static {
    /// Longest time that a container which is being stopped may still take; `None`: none is, or it is not known.
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>>;
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// A sandbox runs.
    SandboxStarted,
    /// A sandbox has stopped.
    SandboxStopped,
    /// A sandbox is gone.
    SandboxRemoved,
    /// Resources of a sandbox changed.
    SandboxUpdated,
    /// A container runs; its process is known.
    ContainerStarted,
    /// A container is gone.
    ContainerRemoved,
}

/// The runtime at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePeer {
    /// `containerd`, `cri-o`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Version of its NRI, told or inferred, as `major.minor.patch`; absent: unknown.
    pub nri: Option<(u32, u32, u32)>,
    /// True if it survives updates that it has not asked for (NRI 0.12.1 and later).
    pub safe_unsolicited_updates: bool,
}

/// What a container is created with. A set that is `None` is left to the runtime; an empty set cannot be said over NRI
/// (it means "leave alone"), and the adapter answers with an error instead of sending one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Created {
    /// Its CPUs.
    pub cpus: Option<CpuSet>,
    /// Its NUMA nodes.
    pub mems: Option<CpuSet>,
    /// True: its CFS quota is lifted.
    pub lift_quota: bool,
    /// Other containers that are narrowed in the same answer.
    pub updates: Vec<CpusetUpdate>,
}

/// A change of a container that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpusetUpdate {
    /// The container.
    pub id: ContainerId,
    /// Its CPUs; `None`: as they are.
    pub cpus: Option<CpuSet>,
    /// Its NUMA nodes; `None`: as they are.
    pub mems: Option<CpuSet>,
    /// True: its CFS quota is lifted.
    pub lift_quota: bool,
}

/// Changes of containers that no request of the runtime brings, over the session in which it asks. Never made while it
/// waits for an answer: it would wait for the answer, and the answer for it.
pub trait UnsolicitedUpdates: Send + Sync + std::fmt::Debug + 'static {
    /// Changes one container; what is `None` stays as it is. What was done has to be read back.
    ///
    /// # Errors
    /// [`RuntimeError::Away`]: nobody is connected, or there was no answer in time. [`RuntimeError::Refused`]: the runtime
    /// could not, or may lock up on what it has not asked for.
    fn update(&self, update: CpusetUpdate) -> Pin<Box<dyn Future<Output = Result<(), RuntimeError>> + Send + '_>>;
}

/// The runtime is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// The kubelet's reason, for instance `TopologyAffinityError`.
    pub reason: String,
    /// Words for a person.
    pub message: String,
}
