//! Checks of a restored book against the machine and the blocks in it.

use super::state::{Block, MemoryState};
use crate::checkpoint::{MemoryCheckpoint, RecordedBlock};
use crate::hint::NumaMask;
use crate::workload::{PodUid, ResourceName};

/// A restored state contradicts the machine or the configuration; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryStateError {
    /// Blocks without a book.
    #[error("[memorymanager] machine state can not be empty when it has memory assignments")]
    EmptyMachine,
    /// A block on a node that the machine lacks.
    #[error(
        "[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses the NUMA that does not exist"
    )]
    UnknownNode {
        /// Owner.
        pod: String,
        /// Owner.
        container: String,
    },
    /// A block of a type that the node lacks.
    #[error(
        "[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses memory resource that does not exist"
    )]
    UnknownKind {
        /// Owner.
        pod: String,
        /// Owner.
        container: String,
    },
    /// Sizes, reservations, groups or amounts are not those that machine and blocks imply.
    #[error("[memorymanager] the expected machine state is different from the real one")]
    Different,
}

/// The restored book if it is what the machine and the blocks imply; the empty one if nothing was recorded.
///
/// Inside a group only the sums of free and reserved memory must agree: giving back does not know where it was taken.
pub(super) fn validated(
    empty: &MemoryState,
    checkpoint: &MemoryCheckpoint<'_>,
) -> Result<MemoryState, MemoryStateError> {
    let recorded = checkpoint.nodes.iter().flatten();
    let mut state = empty.clone();
    if checkpoint.nodes.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
        let none = checkpoint.entries.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
        return if none { Ok(state) } else { Err(MemoryStateError::EmptyMachine) };
    }
    for (pod, blocks) in checkpoint.pods.iter().flatten() {
        let blocks = blocks.iter().flatten().map(|block| checked(&state, (pod, ""), block));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        for block in &blocks {
            state.charge(block.nodes, &block.kind, block.bytes);
        }
        state.insert_pod(&PodUid(pod.clone().into_owned()), blocks);
    }
    for (pod, containers) in checkpoint.entries.iter().flatten() {
        let pod_owns = checkpoint.pods.as_ref().is_some_and(|pods| pods.contains_key(pod));
        for (container, blocks) in containers.iter().flatten() {
            let owner = (pod.as_ref(), container.as_ref());
            let blocks = blocks.iter().flatten().map(|block| checked(&state, owner, block));
            let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
            for block in blocks.iter().filter(|_| !pod_owns) {
                state.charge(block.nodes, &block.kind, block.bytes);
            }
            state.insert(&PodUid(pod.clone().into_owned()), container, blocks);
        }
    }
    if checkpoint.nodes.as_ref().map_or(0, std::collections::BTreeMap::len) != state.nodes().len() {
        return Err(MemoryStateError::Different);
    }
    for (id, _) in recorded {
        let known = u32::try_from(*id).is_ok_and(|id| state.nodes().iter().any(|node| node.id == id));
        if !known || !node_agrees(&state, checkpoint, *id) {
            return Err(MemoryStateError::Different);
        }
    }
    take_spread(&mut state, checkpoint);
    Ok(state)
}

fn checked(
    state: &MemoryState,
    (pod, container): (&str, &str),
    block: &RecordedBlock<'_>,
) -> Result<Block, MemoryStateError> {
    let kind = ResourceName::from(block.kind.as_ref());
    let mut nodes = NumaMask::EMPTY;
    for id in block.affinity.iter().flatten() {
        let node = u32::try_from(*id).ok().and_then(|id| state.nodes().iter().find(|node| node.id == id));
        let Some(node) = node else {
            return Err(MemoryStateError::UnknownNode { pod: pod.to_owned(), container: container.to_owned() });
        };
        if state.table(node.id, &kind).is_none() {
            return Err(MemoryStateError::UnknownKind { pod: pod.to_owned(), container: container.to_owned() });
        }
        nodes = nodes.union(NumaMask::single(node.id).unwrap_or_default());
    }
    Ok(Block { nodes, kind, bytes: block.size })
}

/// Compares one recorded node with the expected one.
fn node_agrees(state: &MemoryState, checkpoint: &MemoryCheckpoint<'_>, id: i64) -> bool {
    let record = |id: i64| checkpoint.nodes.as_ref()?.get(&id)?.as_ref();
    let Some(real) = record(id) else { return false };
    let Some(expected) = state.nodes().iter().find(|node| i64::from(node.id) == id) else { return false };
    let cells: Option<NumaMask> = real
        .cells
        .iter()
        .flatten()
        .map(|cell| u32::try_from(*cell).ok().and_then(NumaMask::single))
        .try_fold(NumaMask::EMPTY, |mask, cell| Some(mask.union(cell?)));
    let types = state.kinds().iter().enumerate().filter(|(index, _)| expected.table(*index).is_some());
    let recorded_types = real.tables.as_ref().map_or(0, std::collections::BTreeMap::len);
    if u64::try_from(real.assignments) != Ok(expected.assignments)
        || cells != Some(expected.group)
        || recorded_types != types.clone().count()
    {
        return false;
    }
    let table = |id: i64, kind: &ResourceName| record(id)?.tables.as_ref()?.get(kind.as_str()).copied().flatten();
    types.into_iter().all(|(index, kind)| {
        let (Some(real), Some(own)) = (table(id, kind), expected.table(index)) else { return false };
        let same = real.total == own.total
            && real.system_reserved == own.system_reserved
            && real.allocatable == own.allocatable;
        let members = state.nodes().iter().filter(|node| expected.group.contains(node.id));
        let (mut free, mut reserved) = ((0_u64, 0_u64), (0_u64, 0_u64));
        for node in members {
            let real = table(i64::from(node.id), kind).unwrap_or_default();
            let own = node.table(index).unwrap_or_default();
            free = (free.0.wrapping_add(real.free), free.1.wrapping_add(own.free));
            reserved = (reserved.0.wrapping_add(real.reserved), reserved.1.wrapping_add(own.reserved));
        }
        same && free.0 == free.1 && reserved.0 == reserved.1
    })
}

/// Takes over how free and reserved memory is spread inside the groups.
fn take_spread(state: &mut MemoryState, checkpoint: &MemoryCheckpoint<'_>) {
    for (id, record) in checkpoint.nodes.iter().flatten() {
        for (kind, table) in record.iter().flat_map(|record| record.tables.iter().flatten()) {
            let (Ok(id), Some(table)) = (u32::try_from(*id), table) else { continue };
            state.set_spread(id, &ResourceName::from(kind.as_ref()), (table.reserved, table.free));
        }
    }
}
