//! How many exclusive CPUs a container or a pod wants.

use crate::workload::{Container, ContainerKind, Pod, QosClass};

/// Exclusive CPUs of a container: its whole CPU request in a Guaranteed pod, else 0.
///
/// Pods with resources of their own get none (kubelet 1.36 without `PodLevelResourceManagers`).
pub(super) fn wanted(pod: &Pod, container: &Container) -> usize {
    if pod.qos != QosClass::Guaranteed || pod.resources.is_some() {
        return 0;
    }
    container.resources.cpu_request().whole().unwrap_or(0)
}

/// Exclusive CPUs that a pod needs at its busiest moment (KEP-753): an init container beside the sidecars before it, or
/// all application containers beside all sidecars.
pub(super) fn wanted_by_pod(pod: &Pod, wanted: impl Fn(&Container) -> usize) -> usize {
    let (mut sidecars, mut highest_init, mut apps) = (0_usize, 0_usize, 0_usize);
    for container in &pod.containers {
        let cpus = wanted(container);
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
