//! Memory of each NUMA node: free, held by containers, reserved, and what nobody keeps a book of.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::reconcile::node_view::{NodeView, NumaNodeView};

/// The nodes of the last view.
#[derive(Debug, Default)]
pub(super) struct NumaMemory(Mutex<Arc<NodeView>>);

impl NumaMemory {
    pub(super) fn record(&self, view: &Arc<NodeView>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(view);
    }
}

/// Shows them. The machine bounds the labels: at most 64 NUMA nodes, each with its sizes of pages.
#[derive(Debug)]
pub(super) struct NumaMemoryCollector(pub(super) Arc<NumaMemory>);

impl Collector for NumaMemoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let view = Arc::clone(&self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        // An empty family would say nothing.
        if view.machine.numa_nodes.iter().all(|node| node.memory.is_empty()) {
            return Ok(());
        }
        let help = "Memory of each NUMA node by type: free to be given out, held by containers, reserved, or other: nobody \
                    keeps a book of it";
        let mut metric = encoder.encode_descriptor("pinning_memory", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for node in &view.machine.numa_nodes {
            let id = node.id.to_string();
            for (memory_type, usage, bytes) in uses(node) {
                let labels = [("numa_node", id.as_str()), ("memory_type", memory_type), ("use", usage)];
                let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                gauge.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// The four uses of each type add up to all there is of it.
fn uses(node: &NumaNodeView) -> impl Iterator<Item = (&str, &'static str, u64)> {
    node.memory.iter().flat_map(|kind| {
        let book = kind.book.unwrap_or_default();
        let free = book.allocatable_bytes.saturating_sub(book.held_bytes);
        let other = kind.total_bytes.saturating_sub(free + book.held_bytes + book.reserved_bytes);
        let rows = [("free", free), ("held", book.held_bytes), ("reserved", book.reserved_bytes), ("other", other)];
        rows.map(|(usage, bytes)| (kind.memory_type.as_str(), usage, bytes))
    })
}
