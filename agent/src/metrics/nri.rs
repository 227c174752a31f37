//! The conversation with the container runtime, read from its counts when metrics are asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::{NriHandledLabels, NriMethodLabel, ReasonLabel, ResultLabel};
use crate::ports::nri_stats::{ANSWER_BUCKETS_MICROS, NriMethod, NriResult, NriStats, RegistrationWait};

/// Reads the counts.
#[derive(Debug)]
pub(super) struct NriCollector(pub(super) Arc<NriStats>);

impl Collector for NriCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(stats) = self;
        let gauge = ConstGauge::new(i64::from(stats.connected()));
        let metric = encoder.encode_descriptor(
            "nri_connected",
            "1 while the container runtime asks the agent about each container that it creates",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(metric)?;
        let help = "Registrations with the container runtime that were tried";
        let metric = encoder.encode_descriptor("nri_registrations", help, None, MetricType::Counter)?;
        ConstCounter::new(stats.registrations()).encode(metric)?;
        self.waits(&mut encoder)?;
        self.answers(&mut encoder)?;
        let help = "Creations that were granted too late, or could not be answered, and were taken back";
        let metric = encoder.encode_descriptor("nri_undone", help, None, MetricType::Counter)?;
        ConstCounter::new(stats.undone()).encode(metric)?;
        let help = "Containers that were to be changed over NRI without a request of the runtime";
        let mut metric = encoder.encode_descriptor("nri_updates", help, None, MetricType::Counter)?;
        let (done, failed) = stats.updates();
        for (result, count) in [("done", done), ("failed", failed)] {
            counter(&mut metric, &ResultLabel { result }, count)?;
        }
        Ok(())
    }
}

impl NriCollector {
    fn waits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long registrations have waited";
        let mut metric =
            encoder.encode_descriptor("nri_registration_wait", help, Some(&Unit::Seconds), MetricType::Counter)?;
        for reason in RegistrationWait::ALL {
            let labels = ReasonLabel { reason: reason.as_str() };
            let waited = ConstCounter::new(self.0.waited(reason).as_secs_f64());
            waited.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn answers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests of the container runtime by how they were answered";
        let mut metric = encoder.encode_descriptor("nri_handled", help, None, MetricType::Counter)?;
        for method in NriMethod::ALL {
            for result in NriResult::ALL {
                let labels = NriHandledLabels { method: method.as_str(), result: result.as_str() };
                counter(&mut metric, &labels, self.0.answered(method, result))?;
            }
        }
        let help = "How long the container runtime waited for an answer, which every other container waits for too";
        let mut metric =
            encoder.encode_descriptor("nri_handling", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for method in NriMethod::ALL {
            let times = self.0.answer_times(method);
            let bounds = ANSWER_BUCKETS_MICROS.map(|micros| Duration::from_micros(micros).as_secs_f64());
            let buckets: Vec<(f64, u64)> = bounds.into_iter().chain([f64::INFINITY]).zip(times.buckets).collect();
            let labels = NriMethodLabel { method: method.as_str() };
            let mut series = metric.encode_family(&labels)?;
            let count = times.buckets.iter().sum();
            series.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), count, &buckets, None)?;
        }
        Ok(())
    }
}

fn counter(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(metric.encode_family(labels)?)
}
