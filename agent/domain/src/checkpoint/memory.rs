//! `memory_manager_state`: versions 1 (the default) and 2 (with pods as a whole).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::decode::Decoder;
use super::dump::Fnv1a;
use super::json::{self, Json};
use super::{CheckpointError, Layout};

/// The contents of the file; an absent map, list or record is a `null` in the file.
///
/// Nothing is judged here: ids and sizes are as written. The memory manager compares them with the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryCheckpoint<'a> {
    /// NUMA nodes by id.
    pub nodes: Option<BTreeMap<i64, Option<NodeRecord<'a>>>>,
    /// Blocks by pod and name of the container.
    pub entries: Option<PodBlocks<'a>>,
    /// Blocks of a pod as a whole (pod-level managers).
    pub pods: Option<BTreeMap<Cow<'a, str>, Blocks<'a>>>,
}

/// Blocks by pod and name of the container.
type PodBlocks<'a> = BTreeMap<Cow<'a, str>, Option<BTreeMap<Cow<'a, str>, Blocks<'a>>>>;

/// Blocks in the order of the file.
pub(super) type Blocks<'a> = Option<Vec<RecordedBlock<'a>>>;

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeRecord<'a> {
    /// How many blocks touch the node.
    pub assignments: i64,
    /// Amounts by type of memory.
    pub tables: Option<BTreeMap<Cow<'a, str>, Option<TableRecord>>>,
    /// The group of the node.
    pub cells: Option<Vec<i64>>,
}

/// One type of memory on one NUMA node; all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableRecord {
    /// All of it.
    pub total: u64,
    /// Kept from pods.
    pub system_reserved: u64,
    /// Offered to pods.
    pub allocatable: u64,
    /// Given to pods.
    pub reserved: u64,
    /// Not given yet.
    pub free: u64,
}

/// Memory of one type for one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedBlock<'a> {
    /// NUMA nodes, as written.
    pub affinity: Option<Vec<i64>>,
    /// `memory` or `hugepages-<size>`.
    pub kind: Cow<'a, str>,
    /// Bytes.
    pub size: u64,
}

/// Name under which the current layout is hashed; older kubelets know only this one.
const NAME: &str = "MemoryManagerCheckpoint";

/// The file, field by field.
pub(super) struct Document<'a> {
    pub(super) policy: Cow<'a, str>,
    pub(super) state: Cow<'a, MemoryCheckpoint<'a>>,
    pub(super) checksum: u64,
}

/// Writes the current layout, byte for byte as the kubelet does.
#[must_use]
pub fn write_memory_state(policy: &str, state: &MemoryCheckpoint<'_>, layout: Layout) -> String {
    let mut document = Document { policy: policy.into(), state: Cow::Borrowed(state), checksum: 0 };
    document.checksum = Fnv1a::of(|out| document.dump(out, NAME, layout));
    let pods = state.entries.as_ref().map_or(0, BTreeMap::len);
    // A block takes some 120 bytes, a node some 400; more only costs the text a move.
    let mut text = String::with_capacity(4096 + 128 * pods);
    let written = document.json(&mut text, layout);
    debug_assert!(written.is_ok(), "a string takes every text");
    text
}

/// Reads any version and checks it against the configured policy.
///
/// # Errors
/// The error of the *oldest* layout that was tried, as the kubelet reports it.
pub fn read_memory_state(
    bytes: &[u8],
    policy: &str,
    layout: Layout,
) -> Result<MemoryCheckpoint<'static>, CheckpointError> {
    let json = json::parse(bytes)?;
    let newest = if layout == Layout::Pod { decode(&json, Layout::Pod).ok() } else { None };
    let newest = newest.filter(|d| d.checksum == Fnv1a::of(|out| d.dump(out, NAME, Layout::Pod)));
    let document = match newest {
        Some(document) => document,
        None => {
            let document = decode(&json, Layout::Container)?;
            if !document.is_intact(layout) {
                return Err(CheckpointError::Corrupted);
            }
            document
        }
    };
    if document.policy != policy {
        return Err(CheckpointError::OtherPolicy {
            prefix: "[memorymanager] ",
            configured: policy.to_owned(),
            stored: document.policy.into_owned(),
        });
    }
    Ok(document.state.into_owned())
}

fn decode(json: &Json, layout: Layout) -> Result<Document<'static>, CheckpointError> {
    let (mut policy, mut checksum) = (String::new(), 0);
    let mut state =
        MemoryCheckpoint { nodes: Some(BTreeMap::new()), entries: Some(BTreeMap::new()), pods: Some(BTreeMap::new()) };
    let (go, fields): (_, &[&'static str]) = match layout {
        Layout::Container => (
            ("MemoryManagerCheckpointV1", "state.MemoryManagerCheckpointV1"),
            &["policyName", "machineState", "entries", "checksum"],
        ),
        Layout::Pod => (
            ("MemoryManagerCheckpoint", "state.MemoryManagerCheckpoint"),
            &["policyName", "machineState", "entries", "podEntries", "checksum"],
        ),
    };
    let mut decoder = Decoder::default();
    decoder.structure(json, go, fields, |decoder, field, value| match field {
        "policyName" => decoder.string(value, "string", &mut policy),
        "machineState" => decoder.map(value, "state.NUMANodeMap", &mut state.nodes, |d, id, value| {
            let node = decode_node(d, value);
            Some((d.integer_key(id)?, node))
        }),
        "entries" => decoder.map(value, "state.ContainerMemoryAssignments", &mut state.entries, |d, pod, value| {
            let mut containers = None;
            d.map(value, "map[string][]state.Block", &mut containers, |d, name, value| {
                Some((Cow::Owned(name.to_owned()), decode_blocks(d, value)))
            });
            Some((Cow::Owned(pod.to_owned()), containers))
        }),
        "podEntries" => decoder.map(value, "state.PodMemoryAssignments", &mut state.pods, |d, pod, value| {
            let mut blocks = None;
            d.structure(value, ("PodEntry", "state.PodEntry"), &["memoryBlocks"], |d, _, value| {
                blocks = decode_blocks(d, value);
            });
            Some((Cow::Owned(pod.to_owned()), blocks))
        }),
        _ => decoder.integer(value, "checksum.Checksum", &mut checksum),
    });
    decoder.finish()?;
    Ok(Document { policy: Cow::Owned(policy), state: Cow::Owned(state), checksum })
}

fn decode_node(decoder: &mut Decoder, value: &Json) -> Option<NodeRecord<'static>> {
    if *value == Json::Null {
        return None;
    }
    let mut node = NodeRecord::default();
    let fields = ["numberOfAssignments", "memoryMap", "cells"];
    decoder.structure(value, ("NUMANodeState", "state.NUMANodeState"), &fields, |decoder, field, value| match field {
        "numberOfAssignments" => decoder.integer(value, "int", &mut node.assignments),
        "memoryMap" => {
            let go = "map[v1.ResourceName]*state.MemoryTable";
            decoder.map(value, go, &mut node.tables, |d, kind, value| {
                Some((Cow::Owned(kind.to_owned()), decode_table(d, value)))
            });
        }
        _ => decode_ids(decoder, value, &mut node.cells),
    });
    Some(node)
}

fn decode_table(decoder: &mut Decoder, value: &Json) -> Option<TableRecord> {
    if *value == Json::Null {
        return None;
    }
    let mut table = TableRecord::default();
    let fields = ["total", "systemReserved", "allocatable", "reserved", "free"];
    decoder.structure(value, ("MemoryTable", "state.MemoryTable"), &fields, |decoder, field, value| {
        let target = match field {
            "total" => &mut table.total,
            "systemReserved" => &mut table.system_reserved,
            "allocatable" => &mut table.allocatable,
            "reserved" => &mut table.reserved,
            _ => &mut table.free,
        };
        decoder.integer(value, "uint64", target);
    });
    Some(table)
}

fn decode_blocks(decoder: &mut Decoder, value: &Json) -> Blocks<'static> {
    let mut blocks = None;
    decoder.list(value, "[]state.Block", &mut blocks, |decoder, value| {
        let mut block = RecordedBlock::default();
        let fields = ["numaAffinity", "type", "size"];
        decoder.structure(value, ("Block", "state.Block"), &fields, |decoder, field, value| match field {
            "numaAffinity" => decode_ids(decoder, value, &mut block.affinity),
            "type" => decoder.string(value, "v1.ResourceName", block.kind.to_mut()),
            _ => decoder.integer(value, "uint64", &mut block.size),
        });
        block
    });
    blocks
}

fn decode_ids(decoder: &mut Decoder, value: &Json, target: &mut Option<Vec<i64>>) {
    decoder.list(value, "[]int", target, |decoder, value| {
        let mut id = 0;
        decoder.integer(value, "int", &mut id);
        id
    });
}

impl Document<'_> {
    /// True if the checksum is one of those under which version 1 is accepted; 0 is accepted unseen.
    fn is_intact(&self, layout: Layout) -> bool {
        let names: &[&str] =
            if layout == Layout::Pod { &[NAME] } else { &["MemoryManagerCheckpointV1", "MemoryManagerCheckpoint"] };
        let sum = |name| Fnv1a::of(|out| self.dump(out, name, Layout::Container));
        self.checksum == 0 || names.iter().any(|name| self.checksum == sum(name))
    }
}
