//! Why a pod is refused, and why the resource managers do not start: the texts of kubelet 1.36.

use std::fmt;

use crate::quote::Quoted;
use crate::workload::{PodUid, ResourceName};

/// The `reason` in the status of a refused pod; a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectionReason {
    /// The merged hint is not good enough for the policy.
    TopologyAffinity,
    /// Whole cores were promised and cannot be given.
    SmtAlignment,
    /// Exclusive containers would leave nothing for the shared ones of the same pod.
    EmptyPodSharedPool,
    /// Any other failure to allocate.
    UnexpectedAdmission,
}

impl RejectionReason {
    /// The text in the pod status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TopologyAffinity => "TopologyAffinityError",
            Self::SmtAlignment => "SMTAlignmentError",
            Self::EmptyPodSharedPool => "EmptyPodSharedPoolError",
            Self::UnexpectedAdmission => "UnexpectedAdmissionError",
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A manager could not give a container what the hint promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// `full-pcpus-only`, and the request is not a multiple of the threads of a core.
    #[error("SMT Alignment Error: requested {requested} cpus not multiple cpus per core = {cpus_per_core}")]
    SmtMultiple {
        /// CPUs asked for.
        requested: usize,
        /// Threads of one core.
        cpus_per_core: usize,
    },
    /// `full-pcpus-only`, and too few CPUs are outside reserved cores.
    #[error(
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {available}, requested CPUs = {requested}, CPUs per core = {cpus_per_core}"
    )]
    SmtNotEnough {
        /// CPUs (not cores, although the text says physical) that are free.
        available: usize,
        /// CPUs asked for.
        requested: usize,
        /// Threads of one core.
        cpus_per_core: usize,
    },
    /// Too few free CPUs.
    #[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
    NotEnoughCpus {
        /// CPUs asked for in the failing selection, which may be the rest of a request.
        requested: usize,
        /// CPUs on offer in that selection.
        available: usize,
    },
    /// The selection ended short although enough CPUs were on offer.
    #[error("failed to allocate cpus")]
    CpuSelection,
    /// An annotation of Trimtab does not say what it must.
    #[error("annotation {key}: {value:?} {problem}")]
    Annotation {
        /// The whole key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with the value.
        problem: &'static str,
    },
    /// Pod-level managers: nothing would be left for the shared containers of the pod.
    #[error(
        "pod rejected, sum of exclusive container cpu requests equals pod budget, leaving no cpus for shared containers"
    )]
    EmptyPodSharedPool,
    /// Pod-level managers: nothing would be left for the shared init containers of the pod.
    #[error("pod rejected, pod has shared init containers but no cpus available for them")]
    EmptyPodSharedPoolForInit,
    /// A memory request that is not a whole number of bytes.
    #[error("[memorymanager] failed to represent quantity as int64")]
    MemoryQuantity,
    /// No node set holds the memory.
    #[error("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")]
    NoDefaultMemoryAffinity,
    /// The stored hint was preferred, the best default is not.
    #[error("[memorymanager] failed to find the default preferred hint")]
    NoDefaultPreferredHint,
    /// The hinted nodes are too small and no superset holds the memory.
    #[error("[memorymanager] failed to find NUMA nodes to extend the current topology hint")]
    NoExtendedMemoryAffinity,
    /// The stored hint was preferred, its best superset is not.
    #[error("[memorymanager] failed to find the extended preferred hint")]
    NoExtendedPreferredHint,
    /// The hint would mix single-node and group allocations.
    #[error("[memorymanager] preferred hint violates NUMA node allocation")]
    MemoryGroupViolation,
    /// Too few free devices.
    #[error("requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}")]
    NotEnoughDevices {
        /// Name of the device resource.
        resource: ResourceName,
        /// Devices asked for.
        requested: usize,
        /// Devices free.
        available: usize,
    },
    /// A container has devices, but not as many as it asks for now.
    #[error(
        "pod {} container {} changed request for resource {} from {from} to {to}",
        Quoted(.pod.0.as_str()),
        Quoted(.container),
        Quoted(.resource.as_str())
    )]
    DeviceRequestChanged {
        /// Pod of the container.
        pod: PodUid,
        /// Its name.
        container: String,
        /// Name of the device resource.
        resource: ResourceName,
        /// Devices that it has.
        from: usize,
        /// Devices that it asks for.
        to: usize,
    },
    /// An error of the pod-level managers (alpha) without a type of its own, in the words of the reference.
    #[error("{0}")]
    PodLevel(&'static str),
}

impl AllocationError {
    /// The reason that a pod refused for this error gets.
    #[must_use]
    pub const fn reason(&self) -> RejectionReason {
        match self {
            Self::SmtMultiple { .. } | Self::SmtNotEnough { .. } => RejectionReason::SmtAlignment,
            Self::EmptyPodSharedPool | Self::EmptyPodSharedPoolForInit => RejectionReason::EmptyPodSharedPool,
            _ => RejectionReason::UnexpectedAdmission,
        }
    }
}

/// A pod is refused; nothing of it stays allocated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The merged hint of a container or pod is not good enough for the policy.
    #[error("Resources cannot be allocated with Topology locality")]
    Affinity,
    /// The same for a container of a pod with pod-level resources (alpha).
    #[error("Pod Scope pod with pod-level resources failed admission with a container-level topology manager")]
    PodLevelAffinityInContainerScope,
    /// The same for a whole pod with pod-level resources (alpha).
    #[error("Pod Scope pod with pod-level resources failed admission under pod-scope topology manager")]
    PodLevelAffinityInPodScope,
    /// The hint was good enough, and yet an allocation failed with an error that has a reason of its own.
    #[error("{0}")]
    Allocation(AllocationError),
    /// The hint was good enough, and yet an allocation failed.
    #[error("Allocate failed due to {0}, which is unexpected")]
    Unexpected(AllocationError),
}

impl Rejection {
    /// The reason in the pod status.
    #[must_use]
    pub const fn reason(&self) -> RejectionReason {
        match self {
            Self::Affinity | Self::PodLevelAffinityInContainerScope | Self::PodLevelAffinityInPodScope => {
                RejectionReason::TopologyAffinity
            }
            Self::Allocation(error) => error.reason(),
            Self::Unexpected(_) => RejectionReason::UnexpectedAdmission,
        }
    }
}

impl From<AllocationError> for Rejection {
    fn from(error: AllocationError) -> Self {
        match error.reason() {
            RejectionReason::UnexpectedAdmission => Self::Unexpected(error),
            _ => Self::Allocation(error),
        }
    }
}

/// Which part did not start; the parts are made in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StartStage {
    /// Static validation, and the reservation.
    Config,
    /// Making the topology manager.
    TopologyManager,
    /// Making the CPU manager.
    CpuManager,
    /// Making the memory manager.
    MemoryManager,
    /// Restoring and validating the CPU state.
    CpuManagerStart,
    /// Restoring and validating the memory state.
    MemoryManagerStart,
}

impl StartStage {
    /// Stable snake-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::TopologyManager => "topology_manager",
            Self::CpuManager => "cpu_manager",
            Self::MemoryManager => "memory_manager",
            Self::CpuManagerStart => "cpu_manager_start",
            Self::MemoryManagerStart => "memory_manager_start",
        }
    }

    /// Turns the error of this stage into the error of the start.
    pub(super) fn error<E: fmt::Display>(self) -> impl FnOnce(E) -> StartError {
        move |error| StartError { stage: self, message: error.to_string() }
    }
}

/// The resource managers refuse to start with this configuration, machine or state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Where it failed.
    pub stage: StartStage,
    /// The text of kubelet 1.36, without the wrapping of the process start.
    pub message: String,
}
