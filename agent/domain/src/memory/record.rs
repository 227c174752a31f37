//! The book in the form of the state file.

use std::borrow::Cow;

use super::state::{Block, MemoryState, MemoryTable, NodeMemory};
use crate::checkpoint::{MemoryCheckpoint, NodeRecord, RecordedBlock, TableRecord};
use crate::hint::NumaMask;

impl MemoryState {
    /// The contents of the state file.
    #[must_use]
    pub fn to_checkpoint(&self) -> MemoryCheckpoint<'_> {
        let node = |node: &NodeMemory| (i64::from(node.id), Some(self.node_record(node)));
        let entries = self.blocks.iter().map(|(pod, containers)| {
            let containers = containers.iter().map(|(name, blocks)| (Cow::from(name), records(blocks)));
            (Cow::from(&pod.0), Some(containers.collect()))
        });
        MemoryCheckpoint {
            nodes: Some(self.nodes.iter().map(node).collect()),
            entries: Some(entries.collect()),
            pods: Some(self.pods.iter().map(|(pod, blocks)| (Cow::from(&pod.0), records(blocks))).collect()),
        }
    }

    fn node_record(&self, node: &NodeMemory) -> NodeRecord<'_> {
        let tables = self.kinds.iter().enumerate().filter_map(|(index, kind)| {
            let table = node.table(index)?;
            Some((Cow::from(kind.as_str()), Some(table.to_record())))
        });
        NodeRecord {
            assignments: i64::try_from(node.assignments).unwrap_or(i64::MAX),
            tables: Some(tables.collect()),
            cells: Some(ids(node.group)),
        }
    }
}

impl MemoryTable {
    const fn to_record(self) -> TableRecord {
        TableRecord {
            total: self.total,
            system_reserved: self.system_reserved,
            allocatable: self.allocatable,
            reserved: self.reserved,
            free: self.free,
        }
    }
}

impl Block {
    fn to_record(&self) -> RecordedBlock<'_> {
        RecordedBlock { affinity: Some(ids(self.nodes)), kind: Cow::from(self.kind.as_str()), size: self.bytes }
    }
}

/// A list of the state file; an empty one is `null` there.
fn records(blocks: &[Block]) -> Option<Vec<RecordedBlock<'_>>> {
    (!blocks.is_empty()).then(|| blocks.iter().map(Block::to_record).collect())
}

fn ids(nodes: NumaMask) -> Vec<i64> {
    nodes.iter().map(i64::from).collect()
}
