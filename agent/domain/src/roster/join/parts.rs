//! What the sources tell of one pod, before it is made one.

use std::collections::{BTreeMap, BTreeSet};

use super::Sources;
use crate::cgroup::tree::{ContainerCgroup, PodCgroup};
use crate::roster::isolation::sandboxed;
use crate::roster::names::PodName;
use crate::roster::pod::{KnownContainer, KnownPod};
use crate::roster::qos::{class_of_cgroup, class_of_oom_score};
use crate::roster::told::{Asked, Told};
use crate::roster::{ContainerState, Sandbox, SandboxContainer, identity};
use crate::workload::{ContainerId, ContainerKind, PodUid, QosClass};

/// What the containers of a pod are.
type Kinds = BTreeMap<ContainerId, ContainerKind>;

/// The parts of one pod.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    /// Its directories; more than one only where something is left over.
    pub(super) cgroups: Vec<&'a PodCgroup>,
    /// All of its sandboxes.
    pub(super) sandboxes: Vec<&'a Sandbox>,
    /// The one that counts.
    pub(super) sandbox: Option<&'a Sandbox>,
    /// Its containers as a runtime told of them, in order of creation.
    pub(super) containers: Vec<&'a SandboxContainer>,
    /// Those among them that the runtime counts to another pod.
    pub(super) strangers: Vec<&'a ContainerId>,
}

impl<'a> Parts<'a> {
    /// True if nothing of the pod is left but memories.
    pub(super) fn is_over(&self) -> bool {
        self.cgroups.is_empty() && !self.sandbox.is_some_and(|sandbox| sandbox.ready)
    }

    /// Inode of its oldest container or sandbox.
    pub(super) fn oldest_inode(&self) -> Option<u64> {
        self.cgroups.iter().flat_map(|pod| &pod.containers).filter_map(|container| container.inode).min()
    }

    /// Makes it one.
    pub(super) fn pod(&self, uid: &PodUid, sources: &Sources<'_>) -> KnownPod {
        let qos = self.qos();
        let leaves = self.leaves(sources);
        let name = self.name(uid, sources, &leaves);
        let annotations = self.sandbox.map(|sandbox| sandbox.annotations.clone()).unwrap_or_default();
        let resources = self.sandbox.and_then(|sandbox| sandbox.pod_resources.as_ref());
        KnownPod {
            uid: uid.clone(),
            namespace: name.namespace,
            name: name.name,
            labels: self.sandbox.map(|sandbox| sandbox.labels.clone()).unwrap_or_default(),
            origin: identity::origin(&annotations),
            annotations,
            qos,
            sandbox: self.sandbox.map(|sandbox| sandbox.id.clone()),
            ready: self.sandbox.is_none_or(|sandbox| sandbox.ready),
            runtime_handler: self.sandbox.map(|sandbox| sandbox.runtime_handler.clone()).unwrap_or_default(),
            sandboxed: self.sandbox.and_then(|sandbox| sandboxed(&sandbox.runtime_handler, sources.handlers)),
            cgroup: self.cgroups.first().map(|pod| pod.cpuset.path.clone()),
            asked: resources.map(|told| Asked::of_runtime(told, qos.exact().copied(), None)),
            containers: self.known_containers(&leaves, qos, sources),
        }
    }

    /// The class: see the table of the parent.
    fn qos(&self) -> Told<QosClass> {
        if let Some(pod) = self.cgroups.first() {
            return Told::Exact(pod.qos);
        }
        let parent = self.sandbox.and_then(|sandbox| class_of_cgroup(&sandbox.cgroup_parent));
        let path = || self.containers.iter().find_map(|container| class_of_cgroup(&container.cgroups_path));
        if let Some(class) = parent.or_else(path) {
            return Told::Exact(class);
        }
        let scores = self.containers.iter().filter_map(|container| container.resources.as_ref()?.oom_score_adj);
        scores.filter_map(class_of_oom_score).next().map_or(Told::Unknown, Told::Estimated)
    }

    /// Cgroups of its containers, in order of creation.
    fn leaves(&self, sources: &Sources<'a>) -> Vec<&'a ContainerCgroup> {
        let named = |id: &ContainerId| {
            sources.names.containers.contains_key(id) || self.containers.iter().any(|container| container.id == *id)
        };
        let sandbox = |id: &ContainerId| self.sandboxes.iter().any(|sandbox| sandbox.id.0 == id.0);
        let pods = self.cgroups.iter().copied();
        pods.flat_map(|pod| pod.real_containers(named)).filter(|leaf| !sandbox(&leaf.id)).collect()
    }

    fn name(&self, uid: &PodUid, sources: &Sources<'_>, leaves: &[&ContainerCgroup]) -> PodName {
        if let Some(sandbox) = self.sandbox.filter(|sandbox| !sandbox.name.is_empty()) {
            return PodName { namespace: sandbox.namespace.clone(), name: sandbox.name.clone() };
        }
        let ids = leaves.iter().map(|leaf| &leaf.id).chain(self.containers.iter().map(|container| &container.id));
        let linked = || ids.filter_map(|id| sources.names.containers.get(id)).map(|name| &name.pod).next();
        let name = sources.names.pods.get(uid).or_else(linked);
        name.cloned().unwrap_or_else(|| PodName { namespace: String::new(), name: String::new() })
    }

    /// Those with a cgroup in the order of the tree, then those without in the order of the runtime.
    fn known_containers(
        &self,
        leaves: &[&ContainerCgroup],
        qos: Told<QosClass>,
        sources: &Sources<'_>,
    ) -> Vec<KnownContainer> {
        let shown: BTreeSet<&ContainerId> = leaves.iter().map(|leaf| &leaf.id).collect();
        let told = |id: &ContainerId| self.containers.iter().copied().find(|container| container.id == *id);
        let alive: BTreeSet<&str> = self
            .containers
            .iter()
            .filter(|container| container.state != ContainerState::Exited || shown.contains(&container.id))
            .map(|container| container.name.as_str())
            .collect();
        // One that has exited is kept for its next run, unless that has begun or the pod is ending.
        let ready = self.sandbox.is_some_and(|sandbox| sandbox.ready);
        let kept = |container: &&&SandboxContainer| {
            let waits = ready && !alive.contains(container.name.as_str());
            !shown.contains(&container.id) && (container.state != ContainerState::Exited || waits)
        };
        let kinds: Kinds = self.sandboxes.iter().flat_map(|one| sources.roster.kinds(&one.id, None)).collect();
        let facts = (qos, sources, &kinds);
        let with_cgroup = leaves.iter().map(|leaf| known(&leaf.id, told(&leaf.id), Some(leaf), facts));
        let without = self.containers.iter().filter(kept);
        let without = without.map(|container| known(&container.id, Some(container), None, facts));
        let mut known: Vec<KnownContainer> = with_cgroup.chain(without).collect();
        known.shrink_to_fit();
        known
    }

    /// Containers whose files contradict the runtime.
    pub(super) fn doubtful(&self, pod: &KnownPod, sources: &Sources<'a>) -> Vec<ContainerId> {
        let qos = pod.qos.exact().copied();
        let doubtful = |leaf: &&ContainerCgroup| {
            let told = self.containers.iter().find(|container| container.id == leaf.id);
            let told = told.and_then(|container| container.resources.as_ref());
            let (Some(told), Some(class)) = (told, qos) else { return false };
            let told = Asked::of_runtime(told, qos, None);
            let shown = Asked::of_cgroup(leaf, class);
            let differ = |a: Option<_>, b: Option<_>| a.is_some() && b.is_some() && a != b;
            differ(told.cpu_request.exact().map(|milli| milli.0), shown.cpu_request.exact().map(|milli| milli.0))
                || told.memory_limit.exact().is_some_and(|told| shown.memory_limit.exact().is_some_and(|s| s != told))
        };
        self.leaves(sources).into_iter().filter(doubtful).map(|leaf| leaf.id.clone()).collect()
    }
}

fn known(
    id: &ContainerId,
    told: Option<&SandboxContainer>,
    leaf: Option<&ContainerCgroup>,
    (qos, sources, kinds): (Told<QosClass>, &Sources<'_>, &Kinds),
) -> KnownContainer {
    let linked = || sources.names.containers.get(id).map(|name| name.container.clone());
    let name = told.map(|container| container.name.clone()).filter(|name| !name.is_empty()).or_else(linked);
    let resources = told.and_then(|container| container.resources.clone());
    let by_runtime =
        resources.as_ref().map(|told| Asked::of_runtime(told, qos.exact().copied(), sources.memory_capacity));
    let by_files = leaf.zip(qos.exact()).map(|(leaf, qos)| Asked::of_cgroup(leaf, *qos));
    let kind = kinds.get(id).copied().unwrap_or(ContainerKind::App);
    KnownContainer {
        id: id.clone(),
        name: name.unwrap_or_default(),
        kind: Told::Estimated(kind),
        state: told.map(|container| container.state),
        pid: told.and_then(|container| container.pid),
        asked: by_runtime.unwrap_or_default().or(by_files.unwrap_or_default()),
        told: resources,
        cgroup: leaf.map(|leaf| leaf.cpuset.path.clone()),
    }
}
