//! Memory of finished init containers that later containers of the same pod may use again.

use super::Block;
use crate::hint::NumaMask;
use crate::workload::{ContainerKind, PodUid, ResourceName};

/// Reusable memory of one pod; it is forgotten when another pod gets memory, and at a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ReusableMemory {
    owner: Option<PodUid>,
    amounts: Vec<Block>,
}

impl ReusableMemory {
    /// Bytes that a container of the pod may use again, on exactly these nodes.
    pub(super) fn amount(&self, pod: &PodUid, nodes: NumaMask, kind: &ResourceName) -> u64 {
        let own = self.amounts.iter().filter(|_| self.owner.as_ref() == Some(pod));
        own.filter(|b| b.nodes == nodes && b.kind == *kind).map(|b| b.bytes).next().unwrap_or(0)
    }

    /// Node sets on which the pod may use something again.
    pub(super) fn sets(&self, pod: &PodUid) -> Vec<NumaMask> {
        let own = self.amounts.iter().filter(|b| b.bytes > 0 && self.owner.as_ref() == Some(pod));
        let mut sets: Vec<_> = own.map(|b| b.nodes).collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    /// Notes what a container got: the largest init container leaves most behind, every other container uses it up.
    pub(super) fn note(&mut self, pod: &PodUid, kind: ContainerKind, blocks: &[Block]) {
        if self.owner.as_ref() != Some(pod) {
            self.owner = Some(pod.clone());
            self.amounts.clear();
        }
        for block in blocks {
            let known = self.amounts.iter_mut().find(|b| b.nodes == block.nodes && b.kind == block.kind);
            match (kind, known) {
                (ContainerKind::Init, Some(known)) => known.bytes = known.bytes.max(block.bytes),
                (ContainerKind::Init, None) => self.amounts.push(block.clone()),
                (_, Some(known)) => known.bytes = known.bytes.saturating_sub(block.bytes),
                (_, None) => {}
            }
        }
    }
}
