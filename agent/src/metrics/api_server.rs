//! The conversation with the API server, read from its counts when metrics are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::ports::api_stats::{API_BUCKETS_MILLIS, ApiRequest, ApiStats, ApiVerb};

/// What every agent asks, so that a rate over it misses no first increment.
const ROUTINE: [ApiRequest; 7] = [
    (ApiVerb::List, "nodes", Some(200)),
    (ApiVerb::Watch, "nodes", Some(200)),
    (ApiVerb::List, "nodeprofiles", Some(200)),
    (ApiVerb::Watch, "nodeprofiles", Some(200)),
    (ApiVerb::Apply, "nodes/status", Some(200)),
    (ApiVerb::Apply, "nodestates", Some(200)),
    (ApiVerb::Create, "events", Some(201)),
];

/// Reads the counts.
#[derive(Debug)]
pub(super) struct ApiServerCollector(pub(super) Arc<ApiStats>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    /// Of HTTP, hence a closed set; `none`: no answer came.
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: &'static str,
}

impl Collector for ApiServerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Self(stats) = self;
        let help = "Requests to the API server by what was asked and the status code; none: no answer came";
        let mut metric = encoder.encode_descriptor("api_server_requests", help, None, MetricType::Counter)?;
        let mut requests: BTreeMap<ApiRequest, u64> = ROUTINE.into_iter().map(|request| (request, 0)).collect();
        requests.extend(stats.requests());
        for ((verb, resource, code), count) in requests {
            let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            let labels = RequestLabels { verb: verb.as_str(), resource, code };
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        self.times(&mut encoder)?;
        if let Some(last) = stats.last_success() {
            let at = last.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let help = "When the API server last did as asked";
            let name = "api_server_last_success_timestamp";
            let metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
            ConstGauge::new(at).encode(metric)?;
        }
        let help = "How long requests to the API server have waited because the agent had made too many";
        let metric =
            encoder.encode_descriptor("api_server_waiting", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(stats.waited().as_secs_f64()).encode(metric)?;
        let help = "Faults in the agent after which it began anew to speak with the API server";
        let metric = encoder.encode_descriptor("api_server_restarts", help, None, MetricType::Counter)?;
        ConstCounter::new(stats.restarts()).encode(metric)
    }
}

impl ApiServerCollector {
    fn times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long the API server took to answer; a watch is answered when it is open";
        let unit = Some(&Unit::Seconds);
        let mut metric = encoder.encode_descriptor("api_server_answering", help, unit, MetricType::Histogram)?;
        for verb in ApiVerb::ALL {
            let times = self.0.times(verb);
            let bounds = API_BUCKETS_MILLIS.map(|millis| Duration::from_millis(millis).as_secs_f64());
            let buckets: Vec<(f64, u64)> = bounds.into_iter().chain([f64::INFINITY]).zip(times.buckets).collect();
            let labels = VerbLabel { verb: verb.as_str() };
            let mut series = metric.encode_family(&labels)?;
            let count = times.buckets.iter().sum();
            series.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), count, &buckets, None)?;
        }
        Ok(())
    }
}
