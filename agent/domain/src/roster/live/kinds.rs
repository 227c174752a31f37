//! Which containers were init containers: no runtime tells that, so it is concluded from the order of events and from the
//! sum that the kubelet told for the pod.
//!
//! A kubelet runs init containers one after another, each until it has succeeded, and only then the next container. So a
//! container *may* have been one if it ended before a container came whose name was not there before, and if nothing that
//! came later ever ran beside it. An application container that crashes before the kubelet has made the next one does the
//! same; the pod's sum tells it apart, because it counts what runs at the same time and init containers are over by then:
//! as long as the sum has room for what has ended, its place is kept.
//!
//! What remains: where no runtime tells the sum (or shares alone, in a Burstable pod), the first application container is
//! taken for an init container if it ends before the second one is made.

use std::collections::BTreeMap;

use super::{Entry, Roster};
use crate::roster::qos::class_of_cgroup;
use crate::roster::told::Asked;
use crate::roster::{Sandbox, SandboxContainer, SandboxId, ToldResources};
use crate::workload::{ContainerId, ContainerKind, QosClass};

/// How often the kubelet has made a container of this name in this pod before.
const RESTARTS: &str = "io.kubernetes.container.restartCount";

impl Roster {
    /// What the containers of a sandbox are, as far as it can be told; `newcomer` is about to be made.
    #[must_use]
    pub fn kinds(
        &self,
        sandbox: &SandboxId,
        newcomer: Option<&SandboxContainer>,
    ) -> BTreeMap<ContainerId, ContainerKind> {
        let inside: Vec<&Entry> =
            self.containers.values().filter(|entry| entry.container.sandbox == *sandbox).collect();
        let (mut over, rest): (Vec<&Entry>, Vec<&Entry>) =
            inside.iter().partition(|entry| may_be_init(entry, &inside, newcomer));
        over.sort_by_key(|entry| entry.came);
        let running = rest.iter().map(|entry| entry.container.as_ref()).chain(newcomer);
        let kept = self.sandbox(sandbox).and_then(|sandbox| room_for(sandbox, running, &over)).unwrap_or(0);
        let first_kept = over.len().saturating_sub(kept);
        let kind = |place: usize| if place < first_kept { ContainerKind::Init } else { ContainerKind::App };
        let over = over.into_iter().enumerate().map(|(place, entry)| (entry.container.id.clone(), kind(place)));
        over.chain(rest.into_iter().map(|entry| (entry.container.id.clone(), ContainerKind::App))).collect()
    }
}

/// Number of times that the kubelet has made a container of this name before.
pub(super) fn restarts(container: &SandboxContainer) -> u64 {
    container.annotations.get(RESTARTS).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// True if the order of events fits an init container.
fn may_be_init(entry: &Entry, inside: &[&Entry], newcomer: Option<&SandboxContainer>) -> bool {
    let Some(ended) = entry.ended.filter(|_| !entry.ran_beside_later) else { return false };
    let name = &entry.container.name;
    let next = inside.iter().any(|other| other.container.name != *name && other.name_came > ended);
    let is_next = |new: &SandboxContainer| {
        let was_there = inside.iter().any(|other| other.container.name == new.name && other.name_came < ended);
        new.name != *name && !was_there && restarts(new) == 0
    };
    next || newcomer.is_some_and(is_next)
}

/// How many of those that are over, the last ones first, fit into the pod's sum besides those that are not. `None`: nobody
/// told.
fn room_for<'a>(
    sandbox: &Sandbox,
    running: impl Iterator<Item = &'a SandboxContainer>,
    over: &[&Entry],
) -> Option<usize> {
    let class = class_of_cgroup(&sandbox.cgroup_parent).filter(|class| *class == QosClass::Guaranteed)?;
    let milli = |told: &ToldResources| Some(Asked::of_runtime(told, Some(class), None).cpu_request.exact()?.0);
    let total = milli(sandbox.pod_resources.as_ref()?)?;
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for container in running {
        by_name.insert(&container.name, milli(container.resources.as_ref()?)?);
    }
    let mut used: u64 = by_name.values().sum();
    let fits = over.iter().rev().take_while(|entry| {
        let asked = entry.container.resources.as_ref().and_then(milli);
        used = used.saturating_add(asked.unwrap_or(u64::MAX));
        used <= total
    });
    Some(fits.count())
}

#[cfg(test)]
mod tests;
