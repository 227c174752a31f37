//! What a migration to another cgroup driver is doing, read when metrics are asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;
use trimtab_domain::migration::{Phase, Progress};

use super::labels::PhaseLabel;

/// Reads it.
#[derive(Debug)]
pub(super) struct MigrationCollector(pub(super) watch::Sender<Progress>);

impl Collector for MigrationCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let now = self.0.borrow().phase;
        let help = "1 for what the migration of the node to another cgroup driver is doing, 0 for all else";
        let mut metric = encoder.encode_descriptor("cgroup_migration", help, None, MetricType::Gauge)?;
        for phase in Phase::ALL {
            let gauge = ConstGauge::new(i64::from(phase == now));
            gauge.encode(metric.encode_family(&PhaseLabel { phase: phase.as_str() })?)?;
        }
        Ok(())
    }
}
