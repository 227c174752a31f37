//! The kernel's table of connections, as the last pass over the masquerade rules saw it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use trimtab_domain::masquerade::Conntrack;

/// The last look.
#[derive(Debug, Default)]
pub(super) struct ConntrackSeen(Mutex<Conntrack>);

impl ConntrackSeen {
    /// `None`: nobody looks, or nothing is tracked; all series are 0 then.
    pub(super) fn record(&self, conntrack: Option<Conntrack>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = conntrack.unwrap_or_default();
    }
}

/// Shows the last look. The kernel's own totals are shown as they are.
#[derive(Debug)]
pub(super) struct ConntrackCollector(pub(super) Arc<ConntrackSeen>);

impl Collector for ConntrackCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let seen = *self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = [
            ("conntrack_entries", "Connections that the kernel tracks; 0 while nothing is masqueraded", seen.entries),
            ("conntrack_entries_limit", "Connections that the kernel may track; 0 for no limit or not known", seen.max),
            (
                "source_ports_used",
                "Source ports in use towards the busiest destination; 0 while too few connections exist to fill half",
                seen.source_ports,
            ),
            (
                "source_ports_limit",
                "Source ports that masqueraded connections to one destination can have; 0 while nothing is masqueraded",
                seen.source_ports_available,
            ),
        ];
        for (name, help, number) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let counters = [
            (
                "conntrack_insert_failures",
                "Connections lost, mostly because their source address and port were in use",
                seen.insert_failed,
            ),
            ("conntrack_drops", "Packets dropped because their connection could not be tracked", seen.dropped),
        ];
        for (name, help, number) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(number).encode(metric)?;
        }
        Ok(())
    }
}
