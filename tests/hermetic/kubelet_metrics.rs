//! The kubelet's metrics under its own names: fed by decisions that are really made, of the desk and of the pass, and by
//! calls that are really answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use trimtab::metrics::{Metrics, MetricsOptions};
use trimtab::reconcile::node_view::NodeView;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::resource_managers::ReservedMemory;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};
use trimtab_domain::workload::QosClass::{BestEffort, Burstable, Guaranteed};
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use trimtab_proto::podresources::{v1, v1alpha1};

use crate::laws::pass;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::NodeRuntime;
use crate::support::server::{SUBSYSTEMS, Setup, metric_in, within};

/// Two NUMA nodes of four cores with two threads each: CPUs 0-3 and 8-11, 4-7 and 12-15.
const SHAPE: Shape = Shape { nodes: 2, cores_per_node: 4, threads: 2 };

fn settings(change: impl FnOnce(&mut ResourceManagersSpec)) -> NodeSpec {
    let mut managers = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: "0,8".into(),
        topology_manager_policy: "single-numa-node".into(),
        ..ResourceManagersSpec::default()
    };
    change(&mut managers);
    NodeSpec { resource_managers: Some(managers), ..NodeSpec::default() }
}

/// A node, its agent and what a scraper of it sees.
struct Bench {
    runtime: NodeRuntime,
    agent: Pinning,
    view: tokio::sync::watch::Receiver<Arc<NodeView>>,
    metrics: Metrics,
    spec: NodeSpec,
}

impl Bench {
    async fn new(spec: NodeSpec, connected: bool) -> Self {
        let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, SHAPE);
        let (agent, view) = Pinning::new(node.ports());
        let kubelet = Some(agent.desk().admissions());
        let metrics = Metrics::with("1.2.3", &SUBSYSTEMS, MetricsOptions { kubelet, exemplars: false });
        let mut bench = Self { runtime: NodeRuntime::new(&node), agent, view, metrics, spec };
        bench.pass().await;
        if connected {
            bench.runtime.connect(bench.agent.desk());
        }
        bench
    }

    async fn pass(&mut self) {
        let done = pass(&self.agent, &self.spec).await;
        assert!(done.failures.is_empty(), "a step failed");
        self.metrics.record_view(&self.view.borrow_and_update());
    }

    fn create(&mut self, uid: &str, cpus: u64) -> bool {
        if !self.runtime.pods.contains_key(uid) {
            self.runtime.run_pod(Guaranteed, uid, &[]);
        }
        self.runtime.create(uid, "main", Ask::cpus(cpus)).is_ok()
    }

    /// Series without the common beginning of their names, and their values.
    fn shows(&self, rows: &[(&str, f64)]) {
        let text = self.metrics.to_plain_text().unwrap();
        for (series, expected) in rows {
            assert_eq!(metric_in(&text, &format!("kubelet_{series}")), *expected, "{series}");
        }
    }
}

#[tokio::test]
async fn decisions_over_nri_count_as_the_kubelet_counts_its_own() {
    let spec = settings(|managers| {
        managers.cpu_manager_policy_options.insert("full-pcpus-only".into(), "true".into());
    });
    let mut bench = Bench::new(spec, true).await;
    bench.shows(&[
        ("cpu_manager_pinning_requests_total", 0.0),
        ("cpu_manager_pinning_errors_total", 0.0),
        ("cpu_manager_shared_pool_size_millicores", 14000.0),
        ("cpu_manager_exclusive_cpu_allocation_count", 0.0),
        ("cpu_manager_allocation_per_numa{numa_node=\"1\"}", 0.0),
        ("container_aligned_compute_resources_failure_count{scope=\"container\",boundary=\"physical_cpu\"}", 0.0),
        ("container_aligned_compute_resources_failure_count{scope=\"pod\",boundary=\"numa_node\"}", 0.0),
        ("topology_manager_admission_duration_ms_count", 0.0),
    ]);
    assert!(bench.create("fits", 4), "granted");
    assert!(!bench.create("wide", 10), "no NUMA node has 10 CPUs");
    assert!(!bench.create("wide", 10), "asked again by the runtime: the same refusal");
    assert!(!bench.create("odd", 3), "not whole cores");
    bench.runtime.run_pod(BestEffort, "free", &[]);
    bench.runtime.create("free", "main", Ask { milli: 0, memory: None }).unwrap();
    // The container ends and is started again in its pod, which is no new admission.
    bench.runtime.exit("fits", "main");
    assert!(bench.create("fits", 4), "started again");
    bench.pass().await;
    bench.shows(&[
        ("topology_manager_admission_requests_total", 4.0),
        ("topology_manager_admission_errors_total", 2.0),
        ("topology_manager_admission_duration_ms_count", 4.0),
        ("topology_manager_admission_duration_ms_bucket{le=\"+Inf\"}", 4.0),
        ("cpu_manager_pinning_requests_total", 2.0),
        ("cpu_manager_pinning_errors_total", 1.0),
        ("cpu_manager_shared_pool_size_millicores", 10000.0),
        ("cpu_manager_exclusive_cpu_allocation_count", 4.0),
        ("cpu_manager_allocation_per_numa{numa_node=\"0\"}", 4.0),
        ("cpu_manager_allocation_per_numa{numa_node=\"1\"}", 0.0),
        ("container_aligned_compute_resources_count{scope=\"container\",boundary=\"physical_cpu\"}", 1.0),
        ("container_aligned_compute_resources_failure_count{scope=\"container\",boundary=\"physical_cpu\"}", 1.0),
        ("container_aligned_compute_resources_count{scope=\"container\",boundary=\"numa_node\"}", 2.0),
        ("container_aligned_compute_resources_failure_count{scope=\"container\",boundary=\"numa_node\"}", 1.0),
        ("container_aligned_compute_resources_count{scope=\"container\",boundary=\"uncore_cache\"}", 1.0),
        ("admission_rejections_total{reason=\"TopologyAffinityError\"}", 1.0),
        ("admission_rejections_total{reason=\"Other\"}", 1.0),
    ]);
    bench.runtime.stop_pod("fits");
    bench.pass().await;
    bench.shows(&[
        ("cpu_manager_shared_pool_size_millicores", 14000.0),
        ("cpu_manager_exclusive_cpu_allocation_count", 0.0),
        ("cpu_manager_allocation_per_numa{numa_node=\"0\"}", 0.0),
        ("cpu_manager_pinning_requests_total", 2.0),
    ]);
}

#[tokio::test]
async fn decisions_of_the_pass_are_counted_once_however_many_passes_there_are() {
    let mut bench = Bench::new(settings(|_| {}), false).await;
    bench.runtime.run_pod(Guaranteed, "fits", &[]);
    bench.runtime.create("fits", "main", Ask::cpus(3)).unwrap();
    bench.runtime.run_pod(Guaranteed, "wide", &[]);
    bench.runtime.create("wide", "main", Ask::cpus(10)).unwrap();
    bench.runtime.run_pod(Burstable, "web", &[]);
    bench.runtime.create("web", "main", Ask { milli: 100, memory: None }).unwrap();
    for _ in 0..3 {
        bench.pass().await;
    }
    bench.shows(&[
        ("cpu_manager_pinning_requests_total", 1.0),
        ("cpu_manager_pinning_errors_total", 0.0),
        ("topology_manager_admission_requests_total", 2.0),
        ("topology_manager_admission_errors_total", 1.0),
        ("container_aligned_compute_resources_count{scope=\"container\",boundary=\"numa_node\"}", 1.0),
        ("container_aligned_compute_resources_failure_count{scope=\"container\",boundary=\"numa_node\"}", 1.0),
        ("cpu_manager_exclusive_cpu_allocation_count", 3.0),
    ]);
}

#[tokio::test]
async fn scope_pod_counts_pods_and_memory_is_counted_where_it_is_managed() {
    let amounts = |text: &str| BTreeMap::from([("memory".to_owned(), text.to_owned())]);
    let spec = settings(|managers| {
        managers.topology_manager_scope = "pod".into();
        managers.memory_manager_policy = "Static".into();
        // The kubelet adds 100Mi for its default eviction threshold.
        managers.system_reserved = amounts("1948Mi");
        managers.reserved_memory = vec![
            ReservedMemory { numa_node: 0, limits: amounts("1Gi") },
            ReservedMemory { numa_node: 1, limits: amounts("1Gi") },
        ];
    });
    let mut bench = Bench::new(spec, true).await;
    assert!(bench.create("fits", 2));
    bench.runtime.create("fits", "second", Ask::cpus(1)).unwrap();
    assert!(!bench.create("wide", 10));
    bench.shows(&[
        ("memory_manager_pinning_requests_total", 2.0),
        ("memory_manager_pinning_errors_total", 0.0),
        ("cpu_manager_pinning_requests_total", 2.0),
        ("topology_manager_admission_requests_total", 2.0),
        ("topology_manager_admission_errors_total", 1.0),
        ("container_aligned_compute_resources_count{scope=\"pod\",boundary=\"numa_node\"}", 1.0),
        ("container_aligned_compute_resources_count{scope=\"container\",boundary=\"numa_node\"}", 0.0),
        ("container_aligned_compute_resources_failure_count{scope=\"pod\",boundary=\"numa_node\"}", 1.0),
    ]);
    let text = bench.metrics.to_plain_text().unwrap();
    for (series, expected) in [
        ("resource_manager_allocations_total{resource_name=\"memory\",source=\"node\"}", 2.0),
        ("resource_manager_allocation_errors_total{resource_name=\"cpu\",source=\"node\"}", 0.0),
        ("resource_manager_container_assignments{resource_name=\"cpu\",assignment_type=\"node_exclusive\"}", 2.0),
    ] {
        assert_eq!(metric_in(&text, series), expected, "{series}");
    }
}

#[tokio::test]
async fn calls_of_the_pod_resources_service_are_counted_by_version() {
    let mut setup = Setup::new();
    setup.options.kubelet = Some(Arc::default());
    let server = setup.start().await;
    let channel = server.channel().await;
    let mut client = PodResourcesListerClient::new(channel.clone());
    for _ in 0..2 {
        within(client.list(v1::ListPodResourcesRequest {})).await.unwrap();
    }
    within(client.get_allocatable_resources(v1::AllocatableResourcesRequest {})).await.unwrap();
    let known = |name: &str| v1::GetPodResourcesRequest { pod_name: name.into(), pod_namespace: "data".into() };
    within(client.get(known("db"))).await.unwrap();
    within(client.get(known("nobody"))).await.unwrap_err();
    let mut old = v1alpha1::pod_resources_lister_client::PodResourcesListerClient::new(channel);
    within(old.list(v1alpha1::ListPodResourcesRequest {})).await.unwrap();
    let text = server.metrics.to_plain_text().unwrap();
    for (series, expected) in [
        ("requests_total{server_api_version=\"v1\"}", 5.0),
        ("requests_total{server_api_version=\"v1alpha1\"}", 1.0),
        ("requests_list{server_api_version=\"v1\"}", 2.0),
        ("requests_get_allocatable{server_api_version=\"v1\"}", 1.0),
        ("requests_get{server_api_version=\"v1\"}", 2.0),
        ("errors_get{server_api_version=\"v1\"}", 1.0),
        ("errors_list{server_api_version=\"v1\"}", 0.0),
        ("errors_get_allocatable{server_api_version=\"v1\"}", 0.0),
    ] {
        assert_eq!(metric_in(&text, &format!("kubelet_pod_resources_endpoint_{series}")), expected, "{series}");
    }
    server.shut_down().await;
}

#[test]
fn names_that_openmetrics_does_not_allow_for_counters_are_untyped_there_and_counters_elsewhere() {
    let kubelet = Some(Arc::default());
    let metrics = Metrics::with("1.2.3", &SUBSYSTEMS, MetricsOptions { kubelet, exemplars: false });
    let name = "kubelet_container_aligned_compute_resources_count";
    assert!(metrics.to_text().unwrap().contains(&format!("# TYPE {name} unknown\n")));
    assert!(metrics.to_plain_text().unwrap().contains(&format!("# TYPE {name} counter\n")));
    let without = Metrics::new("1.2.3", &SUBSYSTEMS).to_text().unwrap();
    assert!(!without.contains(" kubelet_") && !without.contains(" resource_manager_"), "only if asked for");
}
