//! What the memory manager tells the topology manager on a machine with too many nodes to list the sets: conditions.

use super::{Block, MemoryManager, MemoryOutlook, MemoryRequest};
use crate::hint::{Bound, Demand, NumaMask, Opinion, PreferredSets};
use crate::workload::{Container, Pod, ResourceName};

impl MemoryManager {
    /// What [`hints_for_container`](Self::hints_for_container) lists, as conditions, one per type of memory; none
    /// without an opinion.
    #[must_use]
    pub fn demands_of_container(&self, pod: &Pod, container: &Container) -> Vec<Opinion> {
        let Ok(request) = MemoryRequest::of_container(container) else { return Vec::new() };
        self.demands(pod, self.state.blocks_of(&pod.uid, &container.name), &request)
    }

    /// What [`hints_for_pod`](Self::hints_for_pod) lists, in the same form.
    #[must_use]
    pub fn demands_of_pod(&self, pod: &Pod) -> Vec<Opinion> {
        let Ok(request) = self.whole_request(pod) else { return Vec::new() };
        self.demands(pod, self.recorded_for_pod(pod), &request)
    }

    fn demands(&self, pod: &Pod, blocks: Option<&[Block]>, request: &MemoryRequest) -> Vec<Opinion> {
        if self.pinning(pod).is_none() {
            return Vec::new();
        }
        if let Some(blocks) = blocks {
            let same = |block: &Block| request.bytes(&block.kind) == Some(block.bytes);
            let unchanged = blocks.len() == request.len() && blocks.iter().all(same);
            let recorded = blocks.iter().filter(|_| unchanged);
            return recorded.map(|block| Opinion::Sets(exactly(&block.kind, block.nodes))).collect();
        }
        let Some(outlook) = self.outlook(pod, request) else { return Vec::new() };
        let kinds: Vec<ResourceName> = request.iter().map(|(kind, _)| kind.clone()).collect();
        match sets(&outlook, &kinds) {
            Some(demand) => {
                let of_kind = |resource| Opinion::Sets(Demand { resource, ..demand.clone() });
                kinds.into_iter().map(of_kind).collect()
            }
            None => Vec::new(),
        }
    }
}

/// One node set and no other.
fn exactly(kind: &ResourceName, nodes: NumaMask) -> Demand {
    Demand {
        resource: kind.clone(),
        universe: NumaMask::EMPTY,
        required: NumaMask::EMPTY,
        bounds: Vec::new(),
        isolated: vec![nodes],
        preferred: PreferredSets { len: nodes.len(), sockets: None },
    }
}

/// The node sets that can serve a request, which are the same for every type; none if there is no such set.
///
/// Nodes without assignments combine freely. All other sets that the group rule allows are complete in themselves: an
/// assigned node alone, a group, and a set on which memory is used again.
fn sets(outlook: &MemoryOutlook, kinds: &[ResourceName]) -> Option<Demand> {
    let resource = kinds.first()?.clone();
    let len = outlook.smallest()?;
    let free = outlook.nodes.iter().filter(|node| node.unassigned);
    let bound = |(kind, need): (usize, &u64)| {
        let mut weights = vec![0; 64];
        for node in free.clone() {
            if let (Some(weight), Some(free)) = (weights.get_mut(node.id as usize), node.free.get(kind)) {
                *weight = *free;
            }
        }
        Bound::sum(weights, *need)
    };
    let assigned = outlook.nodes.iter().filter(|node| !node.unassigned);
    let known = assigned.flat_map(|node| NumaMask::single(node.id).into_iter().chain([node.group]));
    let mut isolated: Vec<NumaMask> = known.chain(outlook.reusable.iter().map(|(set, _)| *set)).collect();
    isolated.sort_unstable();
    isolated.dedup();
    isolated.retain(|set| !set.is_empty() && outlook.serves(*set));
    let demand = Demand {
        resource,
        universe: free.clone().map(|node| node.id).collect(),
        required: NumaMask::EMPTY,
        bounds: outlook.needed.iter().enumerate().map(bound).collect(),
        isolated,
        preferred: PreferredSets { len, sockets: None },
    };
    Some(demand).filter(Demand::is_possible)
}
