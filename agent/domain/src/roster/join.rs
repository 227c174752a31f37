//! One model of the pods from everything that tells of them: a runtime, the cgroup tree, the names that the node keeps.
//!
//! A pod is one by its uid, a container by its id. Where sources contradict one another:
//!
//! | fact | who is believed |
//! |---|---|
//! | which pod a container belongs to, QoS class | the cgroup tree, on which the kernel acts; then the runtime's `cgroup_parent`; then the OOM score |
//! | names, labels, annotations, handler | the runtime, then the links of logs |
//! | requests and limits | what is exact; of two that are, the runtime's, which has the kubelet's order: anybody may write a file |
//! | whether a container exists | each for what it shows: the tree for what runs, the runtime also for what does not |
//!
//! So a source that is away makes facts unknown, but never different.

mod findings;
mod parts;

use std::collections::BTreeMap;

use self::parts::Parts;
use super::Roster;
use super::isolation::HandlerTypes;
use super::names::Names;
use super::pod::KnownPod;
use crate::cgroup::tree::PodTree;
use crate::plan::Finding;
use crate::workload::{ContainerId, PodUid};

/// Everything that tells of pods. A source that is away is empty.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What the runtime told, over NRI or CRI.
    pub roster: &'a Roster,
    /// The cgroups.
    pub tree: Option<&'a PodTree>,
    /// The names that the node keeps.
    pub names: &'a Names,
    /// What the handlers are.
    pub handlers: &'a HandlerTypes,
    /// Memory of the node in bytes, for estimates.
    pub memory_capacity: Option<u64>,
}

/// The pods of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joined {
    /// In order of creation as far as it can be told: by their oldest cgroup, then by their uid.
    pub pods: Vec<KnownPod>,
    /// Contradictions, and pods that are left alone.
    pub findings: Vec<Finding>,
    /// Containers of which the runtime and the files say different things, both exactly. What was kept of the runtime's
    /// answers may be older than a resize, so it should be asked again; if it stays so, the files have drifted.
    pub doubtful: Vec<ContainerId>,
}

impl Joined {
    /// The pod of this uid.
    #[must_use]
    pub fn pod(&self, uid: &PodUid) -> Option<&KnownPod> {
        self.pods.iter().find(|pod| pod.uid == *uid)
    }
}

/// Joins all sources.
#[must_use]
pub fn join(sources: &Sources<'_>) -> Joined {
    let mut joined = Joined::default();
    let mut aged = Vec::new();
    for (uid, parts) in collect(sources) {
        if parts.is_over() {
            continue;
        }
        let pod = parts.pod(uid, sources);
        findings::about(&pod, &parts, &mut joined.findings);
        joined.doubtful.extend(parts.doubtful(&pod, sources));
        let oldest = parts.oldest_inode();
        aged.push(((oldest.is_none(), oldest), pod));
    }
    aged.sort_by(|a, b| (a.0, &a.1.uid).cmp(&(b.0, &b.1.uid)));
    joined.pods = aged.into_iter().map(|(_, pod)| pod).collect();
    joined
}

/// What belongs to each pod.
fn collect<'a>(sources: &Sources<'a>) -> BTreeMap<&'a PodUid, Parts<'a>> {
    let mut parts: BTreeMap<&PodUid, Parts<'_>> = BTreeMap::new();
    let mut homes: BTreeMap<&ContainerId, &PodUid> = BTreeMap::new();
    for pod in sources.tree.iter().flat_map(|tree| &tree.pods) {
        homes.extend(pod.containers.iter().map(|container| (&container.id, &pod.uid)));
        parts.entry(&pod.uid).or_default().cgroups.push(pod);
    }
    for sandbox in sources.roster.sandboxes() {
        parts.entry(&sandbox.uid).or_default().sandboxes.push(sandbox);
    }
    for (uid, parts) in &mut parts {
        parts.sandbox = sources.roster.youngest_sandbox(uid);
    }
    for container in sources.roster.containers() {
        let told = sources.roster.sandbox(&container.sandbox).map(|sandbox| &sandbox.uid);
        let home = homes.get(&container.id).copied();
        let moved = home.is_some() && told.is_some() && home != told;
        if let Some(parts) = home.or(told).and_then(|uid| parts.get_mut(uid)) {
            parts.containers.push(container);
            parts.strangers.extend(moved.then_some(&container.id));
        }
    }
    parts
}

#[cfg(test)]
mod tests;
