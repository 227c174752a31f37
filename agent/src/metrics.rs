//! Every instrument and the one registry; fed from reports, placements and the calls that were answered.

mod api_server;
mod conntrack;
mod exemplars;
mod grpc;
mod kubelet;
mod kubelet_names;
mod labels;
mod migration;
mod nri;
mod numa_memory;
mod pinning;
pub mod plain;
mod process;
mod subsystem;
mod tls;
mod traffic;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family as Series;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trimtab_domain::masquerade::{Counted, Family};
use trimtab_domain::migration::Progress;
use trimtab_domain::plan::Finding;

use self::api_server::ApiServerCollector;
use self::conntrack::{ConntrackCollector, ConntrackSeen};
pub use self::grpc::{Call, ConnectionEnd, GrpcMethod, GrpcMetrics};
pub use self::kubelet::KubeletMetrics;
use self::kubelet_names::{KubeletNamed, KubeletNamedCollector};
use self::labels::RolloutLabels;
use self::migration::MigrationCollector;
use self::nri::NriCollector;
use self::numa_memory::{NumaMemory, NumaMemoryCollector};
use self::pinning::PinningMetrics;
use self::process::ProcessCollector;
use self::subsystem::SubsystemMetrics;
pub use self::tls::{Handshake, Renewal, TlsMetrics};
use self::traffic::{TrafficCollector, TrafficShown};
use crate::adapters::profile_object::Waiting;
use crate::ports::admission_stats::AdmissionStats;
use crate::ports::api_stats::ApiStats;
use crate::ports::nri_stats::NriStats;
use crate::ports::traffic::Traffic;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::report::NodeReport;

/// Prefix of every metric that is not a standard one of the process.
const PREFIX: &str = "trimtab";

/// What is shown beside the agent's own metrics.
#[derive(Debug, Clone, Default)]
pub struct MetricsOptions {
    /// The kubelet's metrics under its own names, fed from these counts; `None`: they are not shown.
    pub kubelet: Option<Arc<AdmissionStats>>,
    /// Whether samples of how long the runtime waited name the container that waited (OpenMetrics only).
    pub exemplars: bool,
}

/// All instruments.
pub struct Metrics {
    registry: Registry,
    ready: Gauge,
    profile_generation: Gauge,
    profile_valid: Gauge,
    rollout: Series<RolloutLabels, Gauge>,
    subsystems: SubsystemMetrics,
    pinning: PinningMetrics,
    grpc: GrpcMetrics,
    kubelet: KubeletMetrics,
    tls: TlsMetrics,
    nri: Arc<NriStats>,
    api_server: Arc<ApiStats>,
    exemplars: bool,
    numa_memory: Arc<NumaMemory>,
    kubelet_names: Option<Arc<KubeletNamed>>,
    conntrack: Arc<ConntrackSeen>,
    traffic: Arc<TrafficShown>,
    migration: watch::Sender<Progress>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn register_rollout(registry: &mut Registry) -> Series<RolloutLabels, Gauge> {
    let rollout = Series::default();
    registry.register(
        "rollout_waiting",
        "1 while a newer profile has not come to this node, because its turn has not come or because it was stopped",
        Series::clone(&rollout),
    );
    rollout
}

fn register_build(registry: &mut Registry, version: &'static str) {
    let build = Info::new([("version", version), ("architecture", std::env::consts::ARCH)]);
    registry.register("build", "Version of the agent; always 1", build);
}

impl Metrics {
    /// Creates every series that can be known beforehand, so that a rate over it misses no first increment.
    #[must_use]
    pub fn new(version: &'static str, subsystems: &[&'static str]) -> Self {
        Self::with(version, subsystems, MetricsOptions::default())
    }

    /// The same with what else is wanted.
    #[must_use]
    pub fn with(version: &'static str, subsystems: &[&'static str], options: MetricsOptions) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let ours = registry.sub_registry_with_prefix(PREFIX);
        let nri = Arc::new(NriStats::keeping_exemplars(options.exemplars));
        ours.register_collector(Box::new(NriCollector(Arc::clone(&nri))));
        let api_server = Arc::<ApiStats>::default();
        ours.register_collector(Box::new(ApiServerCollector(Arc::clone(&api_server))));
        let numa_memory = Arc::<NumaMemory>::default();
        ours.register_collector(Box::new(NumaMemoryCollector(Arc::clone(&numa_memory))));
        let conntrack = Arc::<ConntrackSeen>::default();
        ours.register_collector(Box::new(ConntrackCollector(Arc::clone(&conntrack))));
        let traffic = Arc::<TrafficShown>::default();
        ours.register_collector(Box::new(TrafficCollector(Arc::clone(&traffic))));
        let migration = watch::Sender::new(Progress::default());
        ours.register_collector(Box::new(MigrationCollector(migration.clone())));
        register_build(ours, version);
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let ready = gauge(ours, "ready", "1 once a profile is known and every subsystem has ended a pass");
        let profile_generation =
            gauge(ours, "profile_generation", "Counts the good profiles since the agent started; 0 before the first");
        let profile_valid =
            gauge(ours, "profile_valid", "1 if the newest text of the profile is in force, 0 if it was refused");
        let rollout = register_rollout(ours);
        let subsystems = SubsystemMetrics::register(ours, subsystems);
        let pinning = PinningMetrics::register(ours);
        let grpc = GrpcMetrics::register(ours);
        let kubelet = KubeletMetrics::register(ours);
        let tls = TlsMetrics::register(ours);
        let kubelet_names = options.kubelet.map(|admissions| {
            let named = Arc::new(KubeletNamed::new(admissions, grpc.clone()));
            registry.register_collector(Box::new(KubeletNamedCollector(Arc::clone(&named))));
            named
        });
        let metrics = Self {
            registry,
            ready,
            profile_generation,
            profile_valid,
            rollout,
            subsystems,
            pinning,
            grpc,
            kubelet,
            tls,
            nri,
            api_server,
            exemplars: options.exemplars,
            numa_memory,
            kubelet_names,
            conntrack,
            traffic,
            migration,
        };
        metrics.record_rollout(&[]);
        metrics
    }

    fn record_rollout(&self, findings: &[Finding]) {
        for (stopped, why) in [(false, "turn"), (true, "stopped")] {
            let waits = findings.iter().any(|finding| finding.code == Waiting::code(stopped));
            self.rollout.get_or_create(&RolloutLabels { why }).set(i64::from(waits));
        }
    }

    /// Takes over a report. Totals become counters by their difference to the report before.
    pub fn record_report(&self, report: &NodeReport) {
        self.ready.set(i64::from(report.ready));
        self.profile_generation.set(i64::try_from(report.profile.generation).unwrap_or(i64::MAX));
        self.profile_valid.set(i64::from(report.profile.valid));
        for subsystem in &report.subsystems {
            self.subsystems.record(subsystem);
        }
        self.conntrack.record(report.subsystems.iter().find_map(|subsystem| subsystem.measures.conntrack));
        self.subsystems.record_agent_findings(&report.findings);
        self.record_rollout(&report.findings);
    }

    /// Takes over the placements.
    pub fn record_view(&self, view: &Arc<NodeView>) {
        self.pinning.record_view(view);
        self.numa_memory.record(view);
        if let Some(named) = &self.kubelet_names {
            named.record_view(view);
        }
    }

    /// The instruments of the gRPC server.
    #[must_use]
    pub fn grpc(&self) -> &GrpcMetrics {
        &self.grpc
    }

    /// The instruments of gRPC over TCP.
    #[must_use]
    pub fn tls(&self) -> &TlsMetrics {
        &self.tls
    }

    /// The instruments of the questions to the kubelet.
    #[must_use]
    pub fn kubelet(&self) -> &KubeletMetrics {
        &self.kubelet
    }

    /// The counts of the conversation with the container runtime.
    #[must_use]
    pub fn nri(&self) -> Arc<NriStats> {
        Arc::clone(&self.nri)
    }

    /// The counts of the conversation with the API server.
    #[must_use]
    pub fn api_server(&self) -> Arc<ApiStats> {
        Arc::clone(&self.api_server)
    }

    /// Shows what the masquerade rules of this node count.
    pub fn show_traffic(&self, traffic: Arc<Traffic>) {
        self.traffic.show(traffic);
    }

    /// Where a migration to another cgroup driver says what it is doing.
    #[must_use]
    pub fn migration(&self) -> watch::Sender<Progress> {
        self.migration.clone()
    }

    /// What the masquerade rules have counted, by a name such as `ipv4-connections-masquerade`; the kernel is asked as for a
    /// scrape.
    #[must_use]
    pub fn rule_counts(&self) -> Vec<(String, u64)> {
        let named = |what: &'static str, kinds: &[Counted]| {
            let sums = self.traffic.sums(kinds).into_iter();
            let name = move |(family, kind, sum): (Family, Counted, u64)| {
                (format!("{}-{what}-{}", traffic::family_label(family), kind.as_str()), sum)
            };
            sums.map(name).collect::<Vec<_>>()
        };
        [named("connections", &Counted::CONNECTIONS), named("packets", &Counted::PACKETS)].concat()
    }

    /// All metrics in the OpenMetrics text format 1.0.
    ///
    /// # Errors
    /// Never in practice: the encoder fails only if writing into the string does.
    pub fn to_text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(if self.exemplars { exemplars::weave(&text, &self.nri) } else { text })
    }

    /// The same in the text format 0.0.4, for clients that do not read OpenMetrics.
    ///
    /// # Errors
    /// As for [`to_text`](Self::to_text).
    pub fn to_plain_text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(plain::from_openmetrics(&text))
    }
}

/// Feeds the metrics from the two channels until the token is cancelled or both channels are closed.
///
/// A report that is replaced before it is seen here shows in the counters, not in the histogram of pass durations.
pub async fn feed(
    metrics: Arc<Metrics>,
    mut report: watch::Receiver<Arc<NodeReport>>,
    mut view: watch::Receiver<Arc<NodeView>>,
    stop: CancellationToken,
) {
    report.mark_changed();
    view.mark_changed();
    let (mut report_open, mut view_open) = (true, true);
    while report_open || view_open {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = report.changed(), if report_open => match changed {
                Ok(()) => {
                    let latest = Arc::clone(&report.borrow_and_update());
                    metrics.record_report(&latest);
                }
                Err(_) => report_open = false,
            },
            changed = view.changed(), if view_open => match changed {
                Ok(()) => {
                    let latest = Arc::clone(&view.borrow_and_update());
                    metrics.record_view(&latest);
                }
                Err(_) => view_open = false,
            },
        }
    }
}
