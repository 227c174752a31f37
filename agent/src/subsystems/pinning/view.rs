//! Who holds what, for the answers; and one report per container.

mod machine;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::memory::MemoryTable;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::workload::{ContainerId, PodUid, QosClass, ResourceName};

use super::decide::{self, Decision, Rule, explained};
use super::facts::{self, CPUS, MEMS, Observed};
use super::placement_record::Holding;
use super::readback;
use super::writers::Via;
use crate::ports::kubelet::KubeletBlock;
use crate::reconcile::node_view::{ContainerView, Explained, MemoryBlock, NodeView, PodView};
use crate::reconcile::report::ObjectReport;

/// What containers hold, by cgroup: by the decision, or by the kubelet's own record.
struct Holdings<'a> {
    decision: &'a Decision,
    observed: &'a Observed,
    kubelet_cpus: bool,
    kubelet_mems: bool,
}

impl<'a> Holdings<'a> {
    fn new(decision: &'a Decision, observed: &'a Observed) -> Self {
        let owns = |rule, evidence: Option<String>| rule != Rule::Enforce && evidence.is_some();
        Self {
            decision,
            observed,
            kubelet_cpus: owns(decision.cpus, decide::kubelet_pins_cpus(observed)),
            kubelet_mems: owns(decision.mems, decide::kubelet_pins_memory(observed)),
        }
    }

    fn cpus(&self, pod: &PodCgroup, container: &ContainerCgroup) -> Vec<u32> {
        let set = if self.kubelet_cpus {
            self.kubelet_key(pod, container).and_then(|key| self.observed.kubelet_state.cpus.get(&key))
        } else {
            self.holding(container).and_then(|holding| holding.cpus.as_ref())
        };
        set.map(|set| set.iter().collect()).unwrap_or_default()
    }

    fn memory(&self, pod: &PodCgroup, container: &ContainerCgroup) -> Vec<MemoryBlock> {
        if self.kubelet_mems {
            let key = self.kubelet_key(pod, container);
            let blocks = key.and_then(|key| self.observed.kubelet_state.memory.get(&key));
            return blocks.map(|blocks| recorded_blocks(blocks)).unwrap_or_default();
        }
        let managers = self.decision.managers.as_ref();
        managers
            .map(|managers| blocks_of(managers, &pod.uid, self.observed.manager_name(container)))
            .unwrap_or_default()
    }

    fn mispinned(&self, pod: &PodCgroup, container: &ContainerCgroup) -> Option<String> {
        let clauses = readback::discrepancies(self.decision, self.observed, pod, container);
        (!clauses.is_empty()).then(|| clauses.join("; "))
    }

    fn holding(&self, container: &ContainerCgroup) -> Option<&Holding> {
        self.decision.holdings.get(&container.cpuset.path)
    }

    /// The kubelet knows containers by name.
    fn kubelet_key(&self, pod: &PodCgroup, container: &ContainerCgroup) -> Option<(PodUid, String)> {
        let name = self.observed.names.containers.get(&container.id)?;
        Some((pod.uid.clone(), name.container.clone()))
    }
}

/// Memory that the managers gave to a container.
fn blocks_of(managers: &ResourceManagers, uid: &PodUid, name: &str) -> Vec<MemoryBlock> {
    let blocks = managers.memory_of(uid, name).iter().map(|block| MemoryBlock {
        memory_type: block.kind.to_string(),
        size_bytes: block.bytes,
        numa_nodes: block.nodes.iter().collect(),
    });
    blocks.collect()
}

/// The same by the kubelet's own record.
fn recorded_blocks(blocks: &[KubeletBlock]) -> Vec<MemoryBlock> {
    let blocks = blocks.iter().map(|block| MemoryBlock {
        memory_type: block.memory_type.clone(),
        size_bytes: block.size_bytes,
        numa_nodes: block.nodes.clone(),
    });
    blocks.collect()
}

/// Makes the view.
pub(super) fn view(decision: &Decision, observed: &Observed) -> NodeView {
    let holdings = Holdings::new(decision, observed);
    let mut pods: Vec<PodView> =
        observed.tree.iter().flat_map(|tree| &tree.pods).map(|pod| pod_view(pod, &holdings)).collect();
    waiting::add(&mut pods, &holdings);
    pods.retain(|pod| !pod.containers.is_empty());
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    // Where the kubelet decides, its own settings say what could be given out.
    let theirs = (holdings.kubelet_cpus || holdings.kubelet_mems)
        .then(|| decide::start(&observed.kubelet.managers, observed).ok())
        .flatten();
    let cpus = if holdings.kubelet_cpus { theirs.as_ref() } else { decision.managers.as_ref() };
    let mems = if holdings.kubelet_mems { theirs.as_ref() } else { decision.managers.as_ref() };
    let held_by_record = holdings.kubelet_mems.then_some(&observed.kubelet_state.memory);
    NodeView {
        machine: machine::machine(&observed.hardware, mems, held_by_record),
        pods,
        allocatable_cpus: allocatable_cpus(cpus, &holdings),
        allocatable_memory: mems.map(allocatable_memory).unwrap_or_default(),
        shared_cpus: shared_cpus(decision, &holdings).iter().collect(),
        reserved_cpus: cpus.map(|managers| managers.reserved_cpus().iter().collect()).unwrap_or_default(),
        observe_only: decision.observe_only.clone(),
        foreign_pinners: decision.foreign_pinners.clone(),
        held_pods: observed.desk.held.iter().map(|held| &held.uid).collect::<BTreeSet<_>>().len(),
        late_pins: observed.late,
        explanations: explanations(&holdings),
    }
}

fn pod_view(pod: &PodCgroup, holdings: &Holdings<'_>) -> PodView {
    let observed = holdings.observed;
    let mut containers: Vec<ContainerView> = observed
        .containers(pod)
        .map(|container| ContainerView {
            name: match observed.names.containers.get(&container.id) {
                Some(name) => name.container.clone(),
                None => container.id.0.clone(),
            },
            id: container.id.clone(),
            exclusive_cpus: holdings.cpus(pod, container),
            memory: if pod.qos == QosClass::Guaranteed { holdings.memory(pod, container) } else { Vec::new() },
            effective_cpus: facts::effective(&container.cpuset, CPUS).unwrap_or_default().to_string(),
            effective_mems: facts::effective(&container.cpuset, MEMS).unwrap_or_default().to_string(),
            mispinned: holdings.mispinned(pod, container),
            waiting: false,
        })
        .collect();
    // It lives until the next pass.
    containers.shrink_to_fit();
    let linked = pod.containers.iter().find_map(|container| observed.names.containers.get(&container.id));
    let name = observed.names.pods.get(&pod.uid).or(linked.map(|name| &name.pod));
    PodView {
        uid: pod.uid.clone(),
        name: name.map_or_else(|| pod.uid.0.clone(), |name| name.name.clone()),
        namespace: name.map(|name| name.namespace.clone()).unwrap_or_default(),
        qos: pod.qos,
        containers,
    }
}

/// Why containers have what they have; nothing where somebody else decides.
fn explanations(holdings: &Holdings<'_>) -> BTreeMap<ContainerId, Explained> {
    let (decision, observed) = (holdings.decision, holdings.observed);
    let Some(tree) = observed.tree.as_ref().filter(|_| decision.managers.is_some()) else { return BTreeMap::new() };
    let containers = tree.pods.iter().flat_map(|pod| observed.containers(pod).map(move |container| (pod, container)));
    let story = |(pod, container): (&PodCgroup, &ContainerCgroup)| {
        let known = decision.explanations.get(&container.cpuset.path).cloned();
        let writer = match observed.writers.for_container(tree, container) {
            Via::Runtime(_) => "the container runtime (CRI)".to_owned(),
            Via::Plugin(_) => "the container runtime (NRI)".to_owned(),
            Via::Unit(unit) => format!("systemd (property of {unit}) and the cgroup's files"),
            Via::File => "the cgroup's files".to_owned(),
        };
        let told = known.unwrap_or_else(|| explained::sharing(pod.qos));
        (container.id.clone(), Explained { policy: decision.policies.clone(), writer, ..told })
    };
    containers.map(story).collect()
}

fn allocatable_cpus(managers: Option<&ResourceManagers>, holdings: &Holdings<'_>) -> Vec<u32> {
    let mut set = managers.map(ResourceManagers::allocatable_cpus).unwrap_or_default();
    if set.is_empty() && holdings.kubelet_cpus {
        // The kubelet's settings are not known well enough: everything that its record names, reserved CPUs included.
        let state = &holdings.observed.kubelet_state;
        set = state.cpus.values().fold(state.shared_cpus.clone(), |all, cpus| all.union(cpus));
    }
    set.iter().collect()
}

fn shared_cpus(decision: &Decision, holdings: &Holdings<'_>) -> CpuSet {
    if holdings.kubelet_cpus {
        holdings.observed.kubelet_state.shared_cpus.clone()
    } else if decision.managers.is_some() {
        decision.shared.clone()
    } else {
        holdings.observed.usable_cpus()
    }
}

/// Memory that could be given out, by node and type; nothing is listed where there is none.
fn allocatable_memory(managers: &ResourceManagers) -> Vec<MemoryBlock> {
    let state = managers.memory().state();
    let kinds = |node: u32| state.kinds().iter().filter_map(move |kind| Some((node, kind, state.table(node, kind)?)));
    let tables = state.nodes().iter().flat_map(|node| kinds(node.id)).filter(|(.., table)| table.allocatable > 0);
    let block = |(node, kind, table): (u32, &ResourceName, MemoryTable)| MemoryBlock {
        memory_type: kind.to_string(),
        size_bytes: table.allocatable,
        numa_nodes: vec![node],
    };
    tables.map(block).collect()
}

/// One report per container, in the order of the tree.
pub(super) fn objects(decision: &Decision, observed: &Observed) -> Vec<ObjectReport> {
    let holdings = Holdings::new(decision, observed);
    let pods = observed.tree.iter().flat_map(|tree| &tree.pods);
    let containers = pods.flat_map(|pod| observed.containers(pod).map(move |container| (pod, container)));
    containers
        .map(|(pod, container)| {
            let own: CpuSet = holdings.cpus(pod, container).into_iter().collect();
            let desired = match decision.cpus {
                Rule::Enforce if own.is_empty() => Some(decision.shared.to_string()),
                Rule::Enforce => Some(own.to_string()),
                Rule::GiveBack | Rule::LeaveAlone => None,
            };
            let kind = if own.is_empty() { "shared" } else { "exclusive" };
            let mut attributes = vec![
                ("kind", kind.to_owned()),
                ("qos", pod.qos.to_string()),
                ("cgroup", container.cpuset.path.clone()),
            ];
            attributes.extend(facts::effective(&container.cpuset, MEMS).map(|mems| ("mems", mems.to_string())));
            attributes.extend(holdings.mispinned(pod, container).map(|reason| ("mispinned", reason)));
            attributes.shrink_to_fit();
            ObjectReport {
                object: observed.display_name(pod, container),
                desired,
                observed: facts::effective(&container.cpuset, CPUS).map(|set| set.to_string()),
                attributes,
            }
        })
        .collect()
}
