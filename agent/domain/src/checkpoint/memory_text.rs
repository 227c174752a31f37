//! The two texts of `memory_manager_state`: the dump that is hashed, and the JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::Layout;
use super::dump;
use super::memory::{Blocks, Document, NodeRecord};

impl Document<'_> {
    pub(super) fn dump<W: Write>(&self, out: &mut W, name: &str, layout: Layout) -> fmt::Result {
        write!(out, "(*state.{name}){{PolicyName:(string){} MachineState:(state.NUMANodeMap)", self.policy)?;
        dump::map(out, self.state.nodes.as_ref(), |out, node| match node {
            Some(node) => dump_node(out, node),
            None => out.write_str("<nil>"),
        })?;
        out.write_str(" Entries:(state.ContainerMemoryAssignments)")?;
        dump::map(out, self.state.entries.as_ref(), |out, containers| {
            dump::map(out, containers.as_ref(), |out, blocks| dump_blocks(out, blocks))
        })?;
        if layout == Layout::Pod {
            out.write_str(" PodEntries:(state.PodMemoryAssignments)")?;
            dump::map(out, self.state.pods.as_ref(), |out, blocks| {
                out.write_str("{MemoryBlocks:([]state.Block)")?;
                dump_blocks(out, blocks)?;
                out.write_char('}')
            })?;
        }
        out.write_str(" Checksum:(checksum.Checksum)0}")
    }

    pub(super) fn json<W: Write>(&self, out: &mut W, layout: Layout) -> fmt::Result {
        out.write_str("{\"policyName\":")?;
        dump::json_string(out, &self.policy)?;
        out.write_str(",\"machineState\":")?;
        // The keys of a JSON object are sorted as texts: "10" before "2".
        let nodes: BTreeMap<String, _> =
            self.state.nodes.iter().flatten().map(|(id, node)| (id.to_string(), node)).collect();
        dump::json_object(out, nodes, |out, node| match node {
            Some(node) => json_node(out, node),
            None => out.write_str("null"),
        })?;
        if let Some(entries) = self.state.entries.as_ref().filter(|e| !e.is_empty()) {
            out.write_str(",\"entries\":")?;
            dump::json_object(out, entries, |out, containers| {
                dump::json_object(out, containers.iter().flatten(), |out, blocks| json_blocks(out, blocks))
            })?;
        }
        if let Some(pods) = self.state.pods.as_ref().filter(|p| layout == Layout::Pod && !p.is_empty()) {
            out.write_str(",\"podEntries\":")?;
            dump::json_object(out, pods, |out, blocks| {
                out.write_str("{\"memoryBlocks\":")?;
                json_blocks(out, blocks)?;
                out.write_char('}')
            })?;
        }
        write!(out, ",\"checksum\":{}}}", self.checksum)
    }
}

fn dump_node<W: Write>(out: &mut W, node: &NodeRecord<'_>) -> fmt::Result {
    write!(out, "<*>{{NumberOfAssignments:(int){} ", node.assignments)?;
    out.write_str("MemoryMap:(map[v1.ResourceName]*state.MemoryTable)")?;
    dump::map(out, node.tables.as_ref(), |out, table| {
        let Some(table) = table else { return out.write_str("<nil>") };
        write!(out, "<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} ", table.total, table.system_reserved)?;
        write!(out, "Allocatable:(uint64){} ", table.allocatable)?;
        write!(out, "Reserved:(uint64){} Free:(uint64){}}}", table.reserved, table.free)
    })?;
    out.write_str(" Cells:([]int)")?;
    dump_ids(out, node.cells.as_ref())?;
    out.write_char('}')
}

fn dump_blocks<W: Write>(out: &mut W, blocks: &Blocks<'_>) -> fmt::Result {
    dump::list(out, blocks.as_ref(), |out, block| {
        out.write_str("{NUMAAffinity:([]int)")?;
        dump_ids(out, block.affinity.as_ref())?;
        write!(out, " Type:(v1.ResourceName){} Size:(uint64){}}}", block.kind, block.size)
    })
}

fn dump_ids<W: Write>(out: &mut W, ids: Option<&Vec<i64>>) -> fmt::Result {
    dump::list(out, ids, |out, id| write!(out, "{id}"))
}

fn json_node<W: Write>(out: &mut W, node: &NodeRecord<'_>) -> fmt::Result {
    write!(out, "{{\"numberOfAssignments\":{},\"memoryMap\":", node.assignments)?;
    dump::json_object(out, node.tables.iter().flatten(), |out, table| {
        let Some(table) = table else { return out.write_str("null") };
        write!(out, "{{\"total\":{},\"systemReserved\":{},", table.total, table.system_reserved)?;
        write!(out, "\"allocatable\":{},", table.allocatable)?;
        write!(out, "\"reserved\":{},\"free\":{}}}", table.reserved, table.free)
    })?;
    out.write_str(",\"cells\":")?;
    json_ids(out, node.cells.as_ref())?;
    out.write_char('}')
}

fn json_blocks<W: Write>(out: &mut W, blocks: &Blocks<'_>) -> fmt::Result {
    let Some(blocks) = blocks else { return out.write_str("null") };
    dump::json_array(out, blocks, |out, block| {
        out.write_str("{\"numaAffinity\":")?;
        json_ids(out, block.affinity.as_ref())?;
        out.write_str(",\"type\":")?;
        dump::json_string(out, &block.kind)?;
        write!(out, ",\"size\":{}}}", block.size)
    })
}

fn json_ids<W: Write>(out: &mut W, ids: Option<&Vec<i64>>) -> fmt::Result {
    let Some(ids) = ids else { return out.write_str("null") };
    dump::json_array(out, ids, |out, id| write!(out, "{id}"))
}
