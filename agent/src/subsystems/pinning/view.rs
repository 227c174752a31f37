//! Who holds what, for the answers; and one report per container.

use std::collections::BTreeMap;

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::quantity::Quantity;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{QosClass, ResourceName};

use super::decide::{self, Decision, Rule};
use super::facts::{self, CPUS, MEMS, Observed};
use super::placement_record::Holding;
use crate::reconcile::node_view::{ContainerView, MemoryBlock, NodeView, PodView};
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
            let blocks = blocks.into_iter().flatten().map(|block| MemoryBlock {
                memory_type: block.memory_type.clone(),
                size_bytes: block.size_bytes,
                numa_nodes: block.nodes.clone(),
            });
            return blocks.collect();
        }
        let Some(nodes) = self.holding(container).and_then(|holding| holding.nodes) else { return Vec::new() };
        let requests = container.guaranteed_resources().unwrap_or_default().requests;
        let memory = requests.iter().filter(|(name, _)| **name == ResourceName::Memory || name.is_hugepages());
        let block = |(name, size): (&ResourceName, &Quantity)| MemoryBlock {
            memory_type: name.to_string(),
            size_bytes: u64::try_from(size.value()).unwrap_or(0),
            numa_nodes: nodes.iter().collect(),
        };
        memory.map(block).collect()
    }

    fn holding(&self, container: &ContainerCgroup) -> Option<&Holding> {
        self.decision.holdings.get(&container.cpuset.path)
    }

    /// The kubelet knows containers by name.
    fn kubelet_key(
        &self,
        pod: &PodCgroup,
        container: &ContainerCgroup,
    ) -> Option<(trimtab_domain::workload::PodUid, String)> {
        let name = self.observed.names.containers.get(&container.id)?;
        Some((pod.uid.clone(), name.container.clone()))
    }
}

/// Makes the view.
pub(super) fn view(spec: Option<&ResourceManagersSpec>, decision: &Decision, observed: &Observed) -> NodeView {
    let holdings = Holdings::new(decision, observed);
    let mut pods: Vec<PodView> =
        observed.tree.iter().flat_map(|tree| &tree.pods).map(|pod| pod_view(pod, &holdings)).collect();
    pods.retain(|pod| !pod.containers.is_empty());
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    // Where the kubelet decides, its own settings say what could be given out.
    let owner = if holdings.kubelet_cpus { Some(&observed.kubelet.managers) } else { spec };
    let managers = match (&decision.managers, holdings.kubelet_cpus) {
        (Some(managers), false) => Some(managers.clone()),
        _ => owner.filter(|_| holdings.kubelet_cpus).and_then(|spec| decide::start(spec, observed).ok()),
    };
    let memory_owner = if holdings.kubelet_mems { Some(&observed.kubelet.managers) } else { spec };
    let memory_pinned = holdings.kubelet_mems || decision.mems == Rule::Enforce && decision.managers.is_some();
    NodeView {
        pods,
        allocatable_cpus: allocatable_cpus(managers.as_ref(), &holdings),
        allocatable_memory: memory_owner
            .filter(|_| memory_pinned)
            .map(|spec| allocatable_memory(spec, observed))
            .unwrap_or_default(),
        shared_cpus: shared_cpus(decision, &holdings).iter().collect(),
        reserved_cpus: managers.as_ref().map(|managers| managers.reserved_cpus().iter().collect()).unwrap_or_default(),
        observe_only: decision.observe_only.clone(),
    }
}

fn pod_view(pod: &PodCgroup, holdings: &Holdings<'_>) -> PodView {
    let observed = holdings.observed;
    let containers: Vec<ContainerView> = observed
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
        })
        .collect();
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

fn allocatable_cpus(managers: Option<&ResourceManagers>, holdings: &Holdings<'_>) -> Vec<u32> {
    let set = match managers {
        Some(managers) => managers.allocatable_cpus(),
        // The kubelet's settings are not known well enough: everything that its record names, reserved CPUs included.
        None if holdings.kubelet_cpus => {
            let state = &holdings.observed.kubelet_state;
            state.cpus.values().fold(state.shared_cpus.clone(), |all, cpus| all.union(cpus))
        }
        None => CpuSet::new(),
    };
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

/// Memory of each node and type less its reservation; nothing is listed where nothing is left.
fn allocatable_memory(spec: &ResourceManagersSpec, observed: &Observed) -> Vec<MemoryBlock> {
    let mut blocks = Vec::new();
    for node in &observed.hardware.nodes {
        let mut reserved = BTreeMap::<&str, u64>::new();
        for (name, text) in
            spec.reserved_memory.iter().filter(|entry| entry.numa_node == node.id).flat_map(|e| &e.limits)
        {
            let bytes = Quantity::parse(text).map(|quantity| u64::try_from(quantity.value()).unwrap_or(0)).unwrap_or(0);
            *reserved.entry(name).or_default() += bytes;
        }
        let mut left = |memory_type: String, total: u64| {
            let size_bytes = total.saturating_sub(reserved.get(memory_type.as_str()).copied().unwrap_or(0));
            if size_bytes > 0 {
                blocks.push(MemoryBlock { memory_type, size_bytes, numa_nodes: vec![node.id] });
            }
        };
        let pages = |pages: &trimtab_domain::topology::HugePages| pages.page_size_bytes.saturating_mul(pages.count);
        left("memory".into(), node.memory_bytes.saturating_sub(node.hugepages.iter().map(pages).sum()));
        for size in &node.hugepages {
            let bytes = Quantity::from_bytes(i64::try_from(size.page_size_bytes).unwrap_or(i64::MAX));
            left(format!("hugepages-{bytes}"), pages(size));
        }
    }
    blocks.sort_by(|a, b| (&a.numa_nodes, &a.memory_type).cmp(&(&b.numa_nodes, &b.memory_type)));
    blocks
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
            ObjectReport {
                object: observed.display_name(pod, container),
                desired,
                observed: facts::effective(&container.cpuset, CPUS).map(|set| set.to_string()),
                attributes,
            }
        })
        .collect()
}
