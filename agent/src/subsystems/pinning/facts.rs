//! Everything that one pass over the pods reads, and small questions to it.

use std::collections::{BTreeMap, BTreeSet};

use trimtab_domain::cgroup::tree::{ContainerCgroup, Cpuset, PodCgroup, PodTree};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::record::Record;
use trimtab_domain::roster::join::Joined;
use trimtab_domain::roster::{ContainerState, Roster, SandboxId};
use trimtab_domain::workload::ContainerId;

use super::desk::DeskView;
use super::step::FirstPin;
use super::writers::Writers;
use crate::ports::kubelet::{KubeletSettings, KubeletState};
use crate::ports::machine::Hardware;
use crate::ports::names::{ContainerName, Names, PodName};
use crate::ports::threads::ThreadMasks;
use crate::reconcile::node_view::LatePins;

/// File with the CPUs of a cgroup.
pub(super) const CPUS: &str = "cpuset.cpus";
/// File with the NUMA nodes of a cgroup.
pub(super) const MEMS: &str = "cpuset.mems";

/// What the node and the ledger show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The pods; `None`: no directory of pods exists.
    pub tree: Option<PodTree>,
    /// CPUs, NUMA nodes and memory.
    pub hardware: Hardware,
    /// The kubelet's configuration.
    pub kubelet: KubeletSettings,
    /// The kubelet's own record.
    pub kubelet_state: KubeletState,
    /// CPUs that the kubelet says it may give out; empty: none, or it does not say.
    pub kubelet_cpus: CpuSet,
    /// Names of pods and containers: those that a runtime told, else those that the node's own files tell.
    pub names: Names,
    /// Who lives and who has what, as the desk has it.
    pub desk: DeskView,
    /// A runtime has listed everything that it runs since the tree was read.
    pub listed: bool,
    /// The pods, as all of these know them together.
    pub joined: Joined,
    /// The ledger.
    pub records: BTreeMap<String, Record>,
    /// Recorded files that are not in the tree of pods: gone (`None`), or elsewhere with this text.
    pub strays: BTreeMap<String, Option<String>>,
    /// Who answers for a write.
    pub writers: Writers,
    /// Containers whose bound of CPU time is lifted; the tree shows what it was before.
    pub lifted: BTreeSet<String>,
    /// Threads of containers with CPUs of their own, as far as they were looked at since their CPUs were written.
    pub threads: BTreeMap<ContainerId, ThreadMasks>,
    /// Containers that came since the agent looked last.
    pub newcomers: BTreeMap<ContainerId, FirstPin>,
    /// How late containers were pinned so far.
    pub late: LatePins,
}

impl Observed {
    /// Real containers of a pod, in order of creation; not those of which a runtime says that they are over.
    pub(super) fn containers<'a>(&'a self, pod: &'a PodCgroup) -> impl Iterator<Item = &'a ContainerCgroup> {
        let roster = &self.desk.roster;
        let real = pod.real_containers(|id| self.names.containers.contains_key(id));
        real.filter(move |cgroup| !self.is_over(cgroup) && roster.sandbox(&SandboxId(cgroup.id.0.clone())).is_none())
    }

    /// True if a runtime says that the container is over, though its cgroup is still there.
    pub(super) fn is_over(&self, cgroup: &ContainerCgroup) -> bool {
        self.desk.roster.container(&cgroup.id).is_some_and(|known| known.state == ContainerState::Exited)
    }

    /// The name under which the managers know a container: its own, or its id as long as nobody tells the name.
    pub(super) fn manager_name<'a>(&'a self, container: &'a ContainerCgroup) -> &'a str {
        self.names.containers.get(&container.id).map_or(&container.id.0, |name| &name.container)
    }

    /// CPUs that pods can use at most: what the cgroup above all of them grants.
    pub(super) fn usable_cpus(&self) -> CpuSet {
        let online: CpuSet = self.hardware.cpus.iter().map(|info| info.cpu).collect();
        match self.tree.as_ref().and_then(|tree| effective(&tree.above, CPUS)) {
            Some(granted) if !granted.is_empty() => online.intersection(&granted),
            _ => online,
        }
    }

    /// NUMA nodes with memory that pods can use at most.
    pub(super) fn usable_mems(&self) -> CpuSet {
        let nodes: CpuSet = self.hardware.nodes.iter().map(|node| node.id).collect();
        match self.tree.as_ref().and_then(|tree| effective(&tree.above, MEMS)) {
            Some(granted) if !granted.is_empty() => granted,
            _ => nodes,
        }
    }

    /// Name of a container for people: `namespace/pod/container` as far as known.
    pub(super) fn display_name(&self, pod: &PodCgroup, container: &ContainerCgroup) -> String {
        match self.names.containers.get(&container.id) {
            Some(name) => format!("{}/{}/{}", name.pod.namespace, name.pod.name, name.container),
            None => format!("{}/{}", self.pod_name(pod), short_id(&container.id.0)),
        }
    }

    /// Name of a pod for people: `namespace/name`, or the uid.
    pub(super) fn pod_name(&self, pod: &PodCgroup) -> String {
        match self.names.pods.get(&pod.uid) {
            Some(name) => format!("{}/{}", name.namespace, name.name),
            None => format!("pod {}", pod.uid),
        }
    }
}

/// Names as a runtime told them, over those that files tell.
pub(super) fn names_with(mut names: Names, roster: &Roster) -> Names {
    for sandbox in roster.sandboxes().filter(|sandbox| !sandbox.name.is_empty()) {
        let pod = PodName { namespace: sandbox.namespace.clone(), name: sandbox.name.clone() };
        for container in roster.containers_of(&sandbox.id).filter(|container| !container.name.is_empty()) {
            let name = ContainerName { pod: pod.clone(), container: container.name.clone() };
            names.containers.insert(container.id.clone(), name);
        }
        names.pods.insert(sandbox.uid.clone(), pod);
    }
    names
}

/// The first digits of a container id, as `crictl` shows it.
fn short_id(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// Text of a file of the controller as configured; `None`: no such file.
pub(super) fn configured<'a>(cpuset: &'a Cpuset, file: &str) -> Option<&'a str> {
    if file == CPUS { cpuset.cpus.as_deref() } else { cpuset.mems.as_deref() }
}

/// The configured set; `None` if there is no such file or its text is no list.
pub(super) fn configured_set(cpuset: &Cpuset, file: &str) -> Option<CpuSet> {
    CpuSet::parse(configured(cpuset, file)?).ok()
}

/// What the kernel grants; old kernels show only what is configured.
pub(super) fn effective(cpuset: &Cpuset, file: &str) -> Option<CpuSet> {
    let text = if file == CPUS { &cpuset.effective_cpus } else { &cpuset.effective_mems };
    match text {
        Some(text) => CpuSet::parse(text).ok(),
        None => configured_set(cpuset, file),
    }
}

/// Object of a cgroup file in the ledger and in steps.
pub(super) fn file_object(path: &str, file: &str) -> String {
    format!("{path}/{file}")
}
