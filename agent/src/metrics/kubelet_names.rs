//! The metrics of the kubelet for what the agent does in its place, under the kubelet's own names, so that dashboards and
//! alerts which were made for a kubelet go on working.
//!
//! Names, labels and buckets are those of pkg/kubelet/metrics/metrics.go of Kubernetes 1.36. Some of its counters lack the
//! suffix that OpenMetrics demands; in that format they are of type `unknown`, in the older one they are counters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::grpc::{GrpcMethod, GrpcMetrics};
use super::labels::{AlignmentLabels, AllocationLabels, AssignmentLabels, NumaNodeLabel, ReasonLabel, VersionLabel};
use crate::ports::admission_stats::{AdmissionCount as Count, AdmissionStats, DECISION_BUCKETS_MICROS};
use crate::reconcile::node_view::NodeView;

/// Counters whose names do not end in `_total`.
pub(super) const COUNTERS_WITHOUT_SUFFIX: [&str; 9] = [
    "kubelet_container_aligned_compute_resources_count",
    "kubelet_container_aligned_compute_resources_failure_count",
    "kubelet_pod_resources_endpoint_requests_list",
    "kubelet_pod_resources_endpoint_requests_get_allocatable",
    "kubelet_pod_resources_endpoint_requests_get",
    "kubelet_pod_resources_endpoint_errors_list",
    "kubelet_pod_resources_endpoint_errors_get_allocatable",
    "kubelet_pod_resources_endpoint_errors_get",
    "resource_manager_container_assignments",
];

/// CPUs by pool, as the gauges have them.
#[derive(Debug, Default)]
struct Cpus {
    shared: usize,
    exclusive: usize,
    /// Exclusive ones by NUMA node; each node of the machine has its entry.
    by_numa_node: BTreeMap<u32, usize>,
}

/// What the metrics are read from.
#[derive(Debug)]
pub(super) struct KubeletNamed {
    admissions: Arc<AdmissionStats>,
    calls: GrpcMetrics,
    cpus: Mutex<Cpus>,
}

impl KubeletNamed {
    pub(super) fn new(admissions: Arc<AdmissionStats>, calls: GrpcMetrics) -> Self {
        Self { admissions, calls, cpus: Mutex::default() }
    }

    pub(super) fn record_view(&self, view: &NodeView) {
        let mut by_numa_node: BTreeMap<u32, usize> = view.machine.numa_nodes.iter().map(|node| (node.id, 0)).collect();
        let mut exclusive: Vec<u32> = view
            .pods
            .iter()
            .flat_map(|pod| &pod.containers)
            .flat_map(|container| container.exclusive_cpus.iter().copied())
            .collect();
        exclusive.sort_unstable();
        exclusive.dedup();
        for place in view.machine.cpus.iter().filter(|place| exclusive.binary_search(&place.cpu).is_ok()) {
            *by_numa_node.entry(place.numa_node).or_default() += 1;
        }
        // Under policy `none` there is no pool; the kubelet never sets the gauge then.
        let pooled = view.shared_cpus.iter().filter(|cpu| !view.reserved_cpus.contains(cpu)).count();
        let shared = if view.allocatable_cpus.is_empty() { 0 } else { pooled };
        *self.cpus.lock().unwrap_or_else(PoisonError::into_inner) =
            Cpus { shared, exclusive: exclusive.len(), by_numa_node };
    }
}

/// Shows them.
#[derive(Debug)]
pub(super) struct KubeletNamedCollector(pub(super) Arc<KubeletNamed>);

impl Collector for KubeletNamedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.managers(&mut encoder)?;
        self.cpus(&mut encoder)?;
        self.duration(&mut encoder)?;
        self.alignment(&mut encoder)?;
        self.allocations(&mut encoder)?;
        self.pod_resources(&mut encoder)
    }
}

impl KubeletNamedCollector {
    fn counted(&self, what: Count) -> u64 {
        self.0.admissions.counted(what)
    }

    fn managers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters = [
            (
                "kubelet_cpu_manager_pinning_requests",
                "Containers that were to get CPUs of their own",
                Count::CpuRequests,
            ),
            ("kubelet_cpu_manager_pinning_errors", "Containers that could not get CPUs of their own", Count::CpuErrors),
            (
                "kubelet_memory_manager_pinning_requests",
                "Containers that were to get memory of NUMA nodes",
                Count::MemoryRequests,
            ),
            (
                "kubelet_memory_manager_pinning_errors",
                "Containers that could not get memory of NUMA nodes",
                Count::MemoryErrors,
            ),
            ("kubelet_topology_manager_admission_requests", "Pods that were decided about", Count::Pods),
            (
                "kubelet_topology_manager_admission_errors",
                "Pods that could not be placed as the topology policy asks",
                Count::PodsRefused,
            ),
        ];
        for (name, help, what) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(self.counted(what)).encode(metric)?;
        }
        let help = "Containers or pods that were refused, by the reason that the kubelet gives";
        let mut metric = encoder.encode_descriptor("kubelet_admission_rejections", help, None, MetricType::Counter)?;
        for (reason, what) in [
            ("TopologyAffinityError", Count::TopologyAffinityErrors),
            ("UnexpectedAdmissionError", Count::UnexpectedAdmissionErrors),
            ("Other", Count::OtherErrors),
        ] {
            let labels = ReasonLabel { reason };
            ConstCounter::new(self.counted(what)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn cpus(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cpus = self.0.cpus.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = [
            (
                "kubelet_cpu_manager_shared_pool_size_millicores",
                "Shared CPUs without those reserved, in thousandths of a CPU",
                cpus.shared.saturating_mul(1000),
            ),
            (
                "kubelet_cpu_manager_exclusive_cpu_allocation_count",
                "CPUs that containers have for themselves",
                cpus.exclusive,
            ),
        ];
        for (name, help, number) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge(number).encode(metric)?;
        }
        if !cpus.by_numa_node.is_empty() {
            let (name, help) =
                ("kubelet_cpu_manager_allocation_per_numa", "CPUs that containers have for themselves, by NUMA node");
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (numa_node, number) in &cpus.by_numa_node {
                let labels = NumaNodeLabel { numa_node: *numa_node };
                gauge(*number).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn duration(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) =
            ("kubelet_topology_manager_admission_duration_ms", "How long a decision took, in milliseconds");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let (counts, sum) = self.0.admissions.times();
        let bounds = DECISION_BUCKETS_MICROS.map(|micros| micros as f64 / 1000.0);
        let buckets: Vec<(f64, u64)> = bounds.into_iter().chain([f64::INFINITY]).zip(counts).collect();
        metric.encode_histogram::<NoLabelSet>(sum.as_secs_f64() * 1000.0, counts.iter().sum(), &buckets, None)
    }

    fn alignment(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let aligned = [
            ("container", "physical_cpu", Count::AlignedCores),
            ("container", "uncore_cache", Count::AlignedCache),
            ("container", "numa_node", Count::AlignedContainer),
            ("pod", "numa_node", Count::AlignedPod),
        ];
        let unaligned = [
            ("container", "physical_cpu", Count::UnalignedCores),
            ("container", "numa_node", Count::UnalignedContainer),
            ("pod", "numa_node", Count::UnalignedPod),
        ];
        let families: [(&str, &str, &[_]); 2] = [
            ("kubelet_container_aligned_compute_resources_count", "Placements within a boundary", &aligned),
            (
                "kubelet_container_aligned_compute_resources_failure_count",
                "Placements that a boundary was promised for, and that it could not be kept for",
                &unaligned,
            ),
        ];
        for (name, help, rows) in families {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
            for (scope, boundary, what) in rows {
                let labels = AlignmentLabels { scope, boundary };
                unsuffixed(&mut metric, &labels, self.counted(*what))?;
            }
        }
        Ok(())
    }

    /// Those that the kubelet has behind its gate `PodLevelResourceManagers`. Pods with a pool of their own are seen from
    /// the inside by the kubelet alone, so everything comes from the pool of the node here.
    fn allocations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let granted = |requests, errors| self.counted(requests).saturating_sub(self.counted(errors));
        let cpus = granted(Count::CpuRequests, Count::CpuErrors);
        let memory = granted(Count::MemoryRequests, Count::MemoryErrors);
        let errors = [("cpu", self.counted(Count::CpuErrors)), ("memory", self.counted(Count::MemoryErrors))];
        let families = [
            ("resource_manager_allocations", "Allocations of CPUs and memory", [("cpu", cpus), ("memory", memory)]),
            ("resource_manager_allocation_errors", "Allocations of CPUs and memory that failed", errors),
        ];
        for (name, help, rows) in families {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (resource_name, count) in rows {
                let labels = AllocationLabels { resource_name, source: "node" };
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let (name, help) =
            ("resource_manager_container_assignments", "Containers by the pool that they were given from");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (resource_name, count) in [("cpu", cpus), ("memory", memory)] {
            let labels = AssignmentLabels { resource_name, assignment_type: "node_exclusive" };
            unsuffixed(&mut metric, &labels, count)?;
        }
        Ok(())
    }

    fn pod_resources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let calls = &self.0.calls;
        let requests = |method| calls.ended(method).0;
        let errors = |method| calls.ended(method).1;
        let (list, allocatable, get) = (GrpcMethod::List, GrpcMethod::GetAllocatableResources, GrpcMethod::Get);
        let (name, help) =
            ("kubelet_pod_resources_endpoint_requests", "Calls of the pod resources service, by its version");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        let all = [list, allocatable, get].map(requests).iter().sum();
        for (server_api_version, count) in [("v1", all), ("v1alpha1", requests(GrpcMethod::ListV1Alpha1))] {
            let labels = VersionLabel { server_api_version };
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        let families = [
            ("kubelet_pod_resources_endpoint_requests_list", "Calls of List", requests(list)),
            (
                "kubelet_pod_resources_endpoint_requests_get_allocatable",
                "Calls of GetAllocatableResources",
                requests(allocatable),
            ),
            ("kubelet_pod_resources_endpoint_requests_get", "Calls of Get", requests(get)),
            ("kubelet_pod_resources_endpoint_errors_list", "Calls of List that failed", errors(list)),
            (
                "kubelet_pod_resources_endpoint_errors_get_allocatable",
                "Calls of GetAllocatableResources that failed",
                errors(allocatable),
            ),
            ("kubelet_pod_resources_endpoint_errors_get", "Calls of Get that failed", errors(get)),
        ];
        for (name, help, count) in families {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
            unsuffixed(&mut metric, &VersionLabel { server_api_version: "v1" }, count)?;
        }
        Ok(())
    }
}

/// A sample under exactly the name of its family.
fn unsuffixed(
    metric: &mut MetricEncoder<'_>,
    labels: &impl prometheus_client::encoding::EncodeLabelSet,
    count: u64,
) -> fmt::Result {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(metric.encode_family(labels)?)
}

fn gauge(number: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX))
}
