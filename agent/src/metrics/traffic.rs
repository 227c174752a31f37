//! What the masquerade rules have counted, read from the kernel when metrics are asked for.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use trimtab_domain::masquerade::{Counted, Family};

use super::labels::TrafficLabels;
use crate::ports::traffic::Traffic;

/// The counts, once there is a node to count on; every series is 0 before.
#[derive(Default)]
pub(super) struct TrafficShown(OnceLock<Arc<Traffic>>);

impl TrafficShown {
    /// The first one stays.
    pub(super) fn show(&self, traffic: Arc<Traffic>) {
        let _ = self.0.set(traffic);
    }

    /// The sums of these kinds of rules by family.
    pub(super) fn sums(&self, kinds: &[Counted]) -> Vec<(Family, Counted, u64)> {
        self.0.get().map_or_else(|| none(kinds), |traffic| traffic.sums(kinds))
    }
}

/// Reads the counts.
pub(super) struct TrafficCollector(pub(super) Arc<TrafficShown>);

impl fmt::Debug for TrafficCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficCollector").finish_non_exhaustive()
    }
}

impl Collector for TrafficCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let connections =
            "New connections by the kind of the masquerade rule that decided; a NAT chain sees first packets only";
        self.encode_sums(&mut encoder, ("masquerade_connections", connections), &Counted::CONNECTIONS)?;
        let packets = "Packets of pods to the cloud's metadata service by what became of them";
        self.encode_sums(&mut encoder, ("metadata_packets", packets), &Counted::PACKETS)
    }
}

impl TrafficCollector {
    fn encode_sums(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        kinds: &[Counted],
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (family, kind, sum) in self.0.sums(kinds) {
            let labels = TrafficLabels { family: family_label(family), rule: kind.as_str() };
            ConstCounter::new(sum).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

pub(super) const fn family_label(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn none(kinds: &[Counted]) -> Vec<(Family, Counted, u64)> {
    Family::ALL.into_iter().flat_map(|family| kinds.iter().map(move |kind| (family, *kind, 0))).collect()
}
