//! How many exclusive CPUs a container or a pod may claim.

use super::extensions::{EXCLUSIVE_CPUS, SHARED_CPUS};
use crate::cpuset::MAX_CPUS;
use crate::placement::AllocationError;
use crate::workload::{Container, ContainerKind, Pod, QosClass};

/// What a container may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuClaim {
    /// CPUs of its own.
    Exclusive {
        /// How many; at least one.
        cpus: usize,
        /// The shared CPUs besides (only by annotation).
        and_shared: bool,
    },
    /// The shared CPUs.
    Shared(SharedReason),
}

/// Why a container does not own CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SharedReason {
    /// Policy `none`.
    Policy,
    /// The pod is not Guaranteed.
    QosClass,
    /// The pod has resources of its own (kubelet 1.36 without `PodLevelResourceManagers`), or with that gate the container
    /// is not Guaranteed by itself.
    PodLevelResources,
    /// The container requests no CPU.
    NoRequest,
    /// The request is not a whole number of CPUs.
    NotWhole,
    /// An annotation says 0.
    Annotation,
}

impl CpuClaim {
    /// The claim by the rule of the kubelet: the whole CPU request of a container in a Guaranteed pod.
    ///
    /// In a pod with resources of its own this takes the gate `PodLevelResourceManagers`, and a container that by itself
    /// would make a pod Guaranteed.
    pub(super) fn of(pod: &Pod, container: &Container, pod_level: bool) -> Self {
        if pod.resources.is_some() && !(pod_level && container.resources.is_guaranteed()) {
            return Self::Shared(SharedReason::PodLevelResources);
        }
        if pod.qos != QosClass::Guaranteed {
            return Self::Shared(SharedReason::QosClass);
        }
        match container.resources.cpu_request().whole() {
            Some(0) => Self::Shared(SharedReason::NoRequest),
            Some(cpus) => Self::Exclusive { cpus, and_shared: false },
            None => Self::Shared(SharedReason::NotWhole),
        }
    }

    /// The claim by annotation, or else by the rule of the kubelet.
    ///
    /// # Errors
    /// [`AllocationError::Annotation`] for values that say nothing, or more than the container requests.
    pub(super) fn annotated(pod: &Pod, container: &Container, pod_level: bool) -> Result<Self, AllocationError> {
        let share =
            annotation(pod, SHARED_CPUS, container, |text| text.parse::<bool>().ok(), "is neither true nor false")?;
        let limit = MAX_CPUS as usize;
        let count = |text: &str| text.parse::<usize>().ok().filter(|count| *count <= limit);
        let count = annotation(pod, EXCLUSIVE_CPUS, container, count, "is no number of CPUs")?;
        let request = container.resources.cpu_request();
        let claim = match count {
            None => Self::of(pod, container, pod_level),
            Some(_) if pod.resources.is_some() => Self::Shared(SharedReason::PodLevelResources),
            Some(0) => Self::Shared(SharedReason::Annotation),
            Some(cpus) if (cpus as u64).saturating_mul(1000) > request.0 => {
                return Err(fault(pod, EXCLUSIVE_CPUS, container, "is more than the container requests"));
            }
            Some(cpus) => Self::Exclusive { cpus, and_shared: request.whole() != Some(cpus) },
        };
        Ok(match (claim, share) {
            (Self::Exclusive { cpus, .. }, Some(and_shared)) => Self::Exclusive { cpus, and_shared },
            _ => claim,
        })
    }

    /// Number of CPUs to own.
    #[must_use]
    pub const fn cpus(self) -> usize {
        match self {
            Self::Exclusive { cpus, .. } => cpus,
            Self::Shared(_) => 0,
        }
    }
}

fn annotation<T>(
    pod: &Pod,
    key: &str,
    container: &Container,
    read: impl Fn(&str) -> Option<T>,
    problem: &'static str,
) -> Result<Option<T>, AllocationError> {
    match value(pod, key, container) {
        None => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| fault(pod, key, container, problem)),
    }
}

fn value<'a>(pod: &'a Pod, key: &str, container: &Container) -> Option<&'a str> {
    let mut found = pod.annotations.iter().filter(|(name, _)| name.strip_prefix(key) == Some(container.name.as_str()));
    found.next().map(|(_, value)| value)
}

fn fault(pod: &Pod, key: &str, container: &Container, problem: &'static str) -> AllocationError {
    let value = value(pod, key, container).unwrap_or_default().to_owned();
    AllocationError::Annotation { key: format!("{key}{}", container.name), value, problem }
}

/// Exclusive CPUs that a pod needs at its busiest moment (KEP-753): an init container beside the sidecars before it, or
/// all application containers beside all sidecars.
pub(super) fn claimed_by_pod(pod: &Pod, claimed: impl Fn(&Container) -> usize) -> usize {
    let (mut sidecars, mut highest_init, mut apps) = (0_usize, 0_usize, 0_usize);
    for container in &pod.containers {
        let cpus = claimed(container);
        match container.kind {
            ContainerKind::Sidecar => sidecars = sidecars.saturating_add(cpus),
            // An init container without exclusive CPUs does not count the sidecars before it either.
            ContainerKind::Init if cpus == 0 => {}
            ContainerKind::Init => highest_init = highest_init.max(sidecars.saturating_add(cpus)),
            ContainerKind::App => apps = apps.saturating_add(cpus),
        }
    }
    highest_init.max(apps.saturating_add(sidecars))
}
