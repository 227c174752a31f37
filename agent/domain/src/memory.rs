//! The memory manager: on which NUMA nodes the memory of a container may lie, and whether they have it.
//!
//! # The book
//!
//! For every NUMA node and type of memory (`memory`, `hugepages-2Mi`, …) the manager keeps how much is allocatable, given
//! out (*reserved*) and *free*; `reserved + free = allocatable` always. Nothing is measured: it is bookkeeping, and only
//! Guaranteed pods are in the book.
//!
//! # Groups
//!
//! A container gets all its memory from one node set. A set of several nodes becomes a *group*: as long as one of its
//! nodes has assignments, that node serves only requests with exactly this set, and a node with assignments of its own
//! cannot join a group. So memory is never fragmented across overlapping sets. A node leaves its group when its last
//! assignment goes.
//!
//! # Where it could come from
//!
//! For each node set in turn (fewest nodes first): too little *allocatable* memory of any type drops it; the first size
//! that is not dropped is the best that an empty machine could do, and only hints of that size are preferred. Then the
//! group rule and the *free* memory decide. All types of a container share the list. No set at all means "no opinion",
//! not "impossible": the refusal then comes from [`allocate`](MemoryManager::allocate).
//!
//! # Taking and giving back
//!
//! A request on a group fills the lowest node first. What an init container used can be used again by later containers
//! on the same node set; their blocks shrink so that the sum is what is really charged. Giving back does not know which
//! node was charged, so amounts may shift between the nodes of a group; their sum does not.

use crate::hint::{HintList, NumaMask, ProviderHints, TopologyHint};
use crate::placement::AllocationError;
use crate::topology::Machine;
use crate::workload::{Container, ContainerKind, Pod, PodUid, QosClass};

mod config;
mod demand;
mod masks;
mod outlook;
mod pod_level;
mod record;
mod request;
mod restore;
mod reuse;
mod state;

pub use config::{MemoryConfig, MemoryConfigError, OverReserved};
pub use outlook::{MemoryOutlook, NodeOutlook};
pub use request::MemoryRequest;
pub use restore::MemoryStateError;
pub use state::{Block, MemoryState, MemoryTable, NodeMemory};

use config::StaticPolicy;
use reuse::ReusableMemory;

/// The memory manager of one machine.
#[derive(Debug, Clone)]
pub struct MemoryManager {
    /// Absent: policy `None`, nothing is ever bound.
    policy: Option<StaticPolicy>,
    state: MemoryState,
    reusable: ReusableMemory,
}

impl MemoryManager {
    /// Makes the manager. It knows nothing of pods until [`start`](Self::start).
    ///
    /// # Errors
    /// See [`MemoryConfigError`].
    pub fn new(machine: &Machine, config: &MemoryConfig) -> Result<Self, MemoryConfigError> {
        let policy = match config.policy.as_str() {
            "None" => None,
            "Static" => Some(StaticPolicy::new(machine, config)?),
            "BestEffort" => return Err(MemoryConfigError::NotOnLinux),
            other => return Err(MemoryConfigError::UnknownPolicy(other.to_owned())),
        };
        Ok(Self { policy, state: MemoryState::default(), reusable: ReusableMemory::default() })
    }

    /// Takes over what the state file holds; absent on a new node.
    ///
    /// # Errors
    /// See [`MemoryStateError`]; the manager must not be used then.
    pub fn start(
        &mut self,
        restored: Option<&crate::checkpoint::MemoryCheckpoint<'_>>,
    ) -> Result<(), MemoryStateError> {
        self.reusable = ReusableMemory::default();
        let Some(policy) = &self.policy else { return Ok(()) };
        self.state = match restored {
            Some(checkpoint) => restore::validated(&policy.empty, checkpoint)?,
            None => policy.empty.clone(),
        };
        Ok(())
    }

    /// True under the policy `Static`.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        self.policy.is_some()
    }

    /// `None` or `Static`, as in the state file.
    #[must_use]
    pub const fn policy_name(&self) -> &'static str {
        if self.policy.is_some() { "Static" } else { "None" }
    }

    /// The book, with who has what; empty under `None`.
    #[must_use]
    pub const fn state(&self) -> &MemoryState {
        &self.state
    }

    /// Where the memory of a container could be.
    #[must_use]
    pub fn hints_for_container(&self, pod: &Pod, container: &Container) -> ProviderHints {
        let Some(policy) = self.pinning(pod) else { return ProviderHints::NO_OPINION };
        let Ok(request) = MemoryRequest::of_container(container) else { return ProviderHints::NO_OPINION };
        match self.state.blocks_of(&pod.uid, &container.name) {
            Some(blocks) => recorded_hints(blocks, &request),
            None => self.fresh_hints(policy, &pod.uid, &request),
        }
    }

    /// Where the memory of all containers of a pod together could be.
    #[must_use]
    pub fn hints_for_pod(&self, pod: &Pod) -> ProviderHints {
        let Some(policy) = self.pinning(pod) else { return ProviderHints::NO_OPINION };
        let Ok(request) = self.whole_request(pod) else { return ProviderHints::NO_OPINION };
        match self.recorded_for_pod(pod) {
            Some(blocks) => recorded_hints(blocks, &request),
            None => self.fresh_hints(policy, &pod.uid, &request),
        }
    }

    /// Gives a container its memory, on the hinted nodes or on more. One that has memory keeps it.
    ///
    /// # Errors
    /// No node set has it, or the hint does not allow it; nothing has changed then.
    pub fn allocate(&mut self, pod: &Pod, container: &Container, hint: &TopologyHint) -> Result<(), AllocationError> {
        let Some(policy) = self.pinning(pod) else { return Ok(()) };
        if let Some(blocks) = self.state.blocks_of(&pod.uid, &container.name) {
            self.reusable.note(&pod.uid, container.kind, blocks);
            return Ok(());
        }
        let request = MemoryRequest::of_container(container)?;
        let nodes = self.choose(policy, &pod.uid, &request, *hint)?;
        self.record(pod, container, &request, nodes);
        Ok(())
    }

    /// Writes down that a running container has its memory on these nodes, whatever the hints would say now.
    ///
    /// Memory that the nodes no longer have is not charged: what runs is a fact.
    ///
    /// # Errors
    /// The request is no whole number of bytes.
    pub fn adopt(&mut self, pod: &Pod, container: &Container, nodes: NumaMask) -> Result<(), AllocationError> {
        if self.pinning(pod).is_some() && self.state.blocks_of(&pod.uid, &container.name).is_none() {
            let request = MemoryRequest::of_container(container)?;
            self.record(pod, container, &request, nodes.intersection(self.state.node_mask()));
        }
        Ok(())
    }

    /// A container is about to start: init containers before it are over, and their memory is given back.
    pub fn container_started(&mut self, pod: &Pod, container: &str) {
        for over in earlier_init_containers(pod, container) {
            self.state.release(&pod.uid, &over.name);
        }
    }

    /// A container is known by another name from now on.
    pub(crate) fn rename(&mut self, pod: &PodUid, from: &str, to: &str) {
        if let Some(containers) = self.state.blocks.get_mut(pod)
            && let Some(blocks) = containers.remove(from)
        {
            containers.insert(to.to_owned(), blocks);
        }
    }

    /// Gives the memory of a container back.
    pub fn remove_container(&mut self, pod: &PodUid, container: &str) {
        self.state.release(pod, container);
    }

    /// Gives back the memory of every container for which `active` is false.
    pub fn retain_active(&mut self, active: impl Fn(&PodUid, &str) -> bool) {
        let stale: Vec<_> = self.state.iter().filter(|(pod, container, _)| !active(pod, container)).collect();
        let stale: Vec<_> = stale.into_iter().map(|(pod, container, _)| (pod.clone(), container.to_owned())).collect();
        for (pod, container) in stale {
            self.remove_container(&pod, &container);
        }
    }

    /// NUMA nodes of a container's memory (`cpuset.mems`); absent if it may use all.
    #[must_use]
    pub fn nodes_of(&self, pod: &PodUid, container: &str) -> Option<NumaMask> {
        let blocks = self.state.blocks_of(pod, container)?;
        Some(blocks.iter().fold(NumaMask::EMPTY, |nodes, block| nodes.union(block.nodes))).filter(|n| !n.is_empty())
    }

    /// The same question as [`hints_for_container`](Self::hints_for_container), answered per node instead of per set,
    /// for machines with too many nodes to list the sets. Absent where the answer is "no opinion" or is recorded.
    #[must_use]
    pub fn outlook(&self, pod: &Pod, request: &MemoryRequest) -> Option<MemoryOutlook> {
        self.pinning(pod)?;
        Some(MemoryOutlook::new(&self.state, &self.reusable, &pod.uid, request))
    }

    /// The static policy, if the pod is one that it looks at.
    fn pinning(&self, pod: &Pod) -> Option<&StaticPolicy> {
        let counts = |policy: &&StaticPolicy| policy.pod_level || pod.resources.is_none();
        self.policy.as_ref().filter(counts).filter(|_| pod.qos == QosClass::Guaranteed)
    }

    /// What all containers of a pod ask for together, or the pod itself if it has resources of its own.
    fn whole_request(&self, pod: &Pod) -> Result<MemoryRequest, AllocationError> {
        self.pod_level_request(pod).unwrap_or_else(|| MemoryRequest::of_pod(pod))
    }

    /// The blocks that stand for a whole pod: its own, or those of the first container that has any.
    ///
    /// Compared with the request of the whole pod, the latter say that a pod with several containers has no opinion once
    /// it is admitted. The kubelet does so.
    fn recorded_for_pod(&self, pod: &Pod) -> Option<&[Block]> {
        let of_containers = || pod.containers.iter().find_map(|c| self.state.blocks_of(&pod.uid, &c.name));
        self.state.pod_blocks(&pod.uid).or_else(of_containers)
    }

    fn fresh_hints(&self, policy: &StaticPolicy, pod: &PodUid, request: &MemoryRequest) -> ProviderHints {
        let list = policy.order.hints(&self.state, &self.reusable, pod, request);
        let mut hints = ProviderHints::NO_OPINION;
        if !list.is_empty() {
            let list = HintList::from(list);
            for (kind, _) in request.iter() {
                hints.push(kind.clone(), list.clone());
            }
        }
        hints
    }

    /// The node set that serves the request under a merged hint.
    fn choose(
        &self,
        policy: &StaticPolicy,
        pod: &PodUid,
        request: &MemoryRequest,
        hint: TopologyHint,
    ) -> Result<NumaMask, AllocationError> {
        let best = |inside: NumaMask| policy.order.best(&self.state, &self.reusable, (pod, request), inside);
        let (mut nodes, mut preferred) = match hint.affinity {
            Some(nodes) => (nodes, hint.preferred),
            None => {
                let (nodes, preferred) = best(NumaMask::EMPTY).ok_or(AllocationError::NoDefaultMemoryAffinity)?;
                if hint.preferred && !preferred {
                    return Err(AllocationError::NoDefaultPreferredHint);
                }
                (nodes, preferred)
            }
        };
        if !request.iter().all(|(kind, bytes)| self.state.free(nodes, kind) >= bytes) {
            let extended = best(nodes).ok_or(AllocationError::NoExtendedMemoryAffinity)?;
            if preferred && !extended.1 {
                return Err(AllocationError::NoExtendedPreferredHint);
            }
            (nodes, preferred) = extended;
        }
        debug_assert!(!nodes.is_empty(), "a hint has nodes, preferred or not ({preferred})");
        if self.state.violates_group(nodes) { Err(AllocationError::MemoryGroupViolation) } else { Ok(nodes) }
    }

    /// Charges the request, less what init containers leave behind, and writes the blocks.
    fn record(&mut self, pod: &Pod, container: &Container, request: &MemoryRequest, nodes: NumaMask) {
        let mut blocks = Vec::with_capacity(request.len());
        for (kind, bytes) in request.iter() {
            let again = self.reusable.amount(&pod.uid, nodes, kind);
            self.state.charge(nodes, kind, bytes.saturating_sub(again));
            blocks.push(Block { nodes, kind: kind.clone(), bytes });
        }
        self.reusable.note(&pod.uid, container.kind, &blocks);
        for block in &blocks {
            let mut left = block.bytes;
            for earlier in earlier_init_containers(pod, &container.name) {
                self.state.shrink(&pod.uid, &earlier.name, block, &mut left);
            }
        }
        self.state.insert(&pod.uid, &container.name, blocks);
    }
}

/// The hints that repeat what is recorded, if the request is still the same; otherwise no opinion.
fn recorded_hints(blocks: &[Block], request: &MemoryRequest) -> ProviderHints {
    let same = |block: &Block| request.bytes(&block.kind) == Some(block.bytes);
    let mut hints = ProviderHints::NO_OPINION;
    if blocks.len() == request.len() && blocks.iter().all(same) {
        for block in blocks {
            hints.push(block.kind.clone(), HintList::from(vec![TopologyHint::new(block.nodes, true)]));
        }
    }
    hints
}

/// Init containers, sidecars aside, that end before this container starts: all of them for an application container.
fn earlier_init_containers<'a>(pod: &'a Pod, container: &'a str) -> impl Iterator<Item = &'a Container> {
    let inits = pod.containers.iter().filter(|c| c.kind != ContainerKind::App);
    inits.take_while(move |c| c.name != container).filter(|c| c.kind == ContainerKind::Init)
}

#[cfg(test)]
mod tests;
