//! Instruments of the questions to the kubelet's own PodResources API.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// How a question ended; closed, with the words of `KubeletAway`.
const RESULTS: [&str; 5] = ["answered", "no-socket", "itself", "failed", "too-late"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The instruments; a clone counts into the same series.
#[derive(Debug, Clone)]
pub struct KubeletMetrics {
    asked: Family<ResultLabel, Counter>,
    answering: Gauge,
    asking_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
}

impl KubeletMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { asked: Family::default(), answering: Gauge::default(), asking_seconds: Counter::default() };
        registry.register(
            "kubelet_questions",
            "Questions to the kubelet's own PodResources API, by how they ended",
            metrics.asked.clone(),
        );
        registry.register(
            "kubelet_answering",
            "1 if the kubelet's PodResources API answered the last question, 0 if the last good answer is served",
            metrics.answering.clone(),
        );
        registry.register_with_unit(
            "kubelet_asking",
            "Time spent waiting for the kubelet's PodResources API",
            Unit::Seconds,
            metrics.asking_seconds.clone(),
        );
        for result in RESULTS {
            let _ = metrics.asked.get_or_create(&ResultLabel { result });
        }
        metrics
    }

    /// A question has ended with this result.
    pub fn asked(&self, result: &'static str, took: Duration) {
        self.asked.get_or_create(&ResultLabel { result }).inc();
        self.answering.set(i64::from(result == "answered"));
        self.asking_seconds.inc_by(took.as_secs_f64());
    }
}
