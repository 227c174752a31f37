//! The real servers on a socket in a temporary directory, fed by the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use trimtab::metrics::{Metrics, MetricsOptions};
use trimtab::ports::kubelet_answers::KubeletPodResources;
use trimtab::reconcile::history::History;
use trimtab::reconcile::node_view::{ContainerView, LatePins, MachineView, MemoryBlock, NodeView, PodView};
use trimtab::reconcile::orders::Switchboard;
use trimtab::reconcile::report::{NodeReport, ProfileReport, State, SubsystemReport};
use trimtab::serve::{self, ServeConfig, ServeError, ServeHandle, ServeState};
use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

/// Longest wait for something that should happen at once.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const SUBSYSTEMS: [&str; 4] = ["sysctl", "cgroup", "pinning", "masquerade"];

pub(crate) struct TestServer {
    pub(crate) dir: TempDir,
    pub(crate) report: watch::Sender<Arc<NodeReport>>,
    pub(crate) view: watch::Sender<Arc<NodeView>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) history: Arc<History>,
    pub(crate) switchboard: Arc<Switchboard>,
    pub(crate) stop: CancellationToken,
    pub(crate) handle: ServeHandle,
}

/// Everything that a server is started from; the test changes what it is about.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    pub(crate) config: ServeConfig,
    pub(crate) options: MetricsOptions,
    pub(crate) report: NodeReport,
    pub(crate) view: NodeView,
    pub(crate) kubelet: Option<Arc<dyn KubeletPodResources>>,
    /// With an engine behind it only if the test starts one.
    pub(crate) switchboard: Arc<Switchboard>,
}

impl Setup {
    /// A ready node with two pods, no rate limit, no HTTP.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = ServeConfig::new(dir.path().join("run/trimtab.sock"));
        config.rate_limit = None;
        let options = MetricsOptions::default();
        let switchboard = Arc::new(Switchboard::new(&SUBSYSTEMS));
        Self { dir, config, options, report: ready_report(), view: two_pods(), kubelet: None, switchboard }
    }

    pub(crate) async fn try_start(self) -> Result<TestServer, ServeError> {
        let (report, report_seen) = watch::channel(Arc::new(self.report));
        let (view, view_seen) = watch::channel(Arc::new(self.view));
        let metrics = Arc::new(Metrics::with("1.2.3", &SUBSYSTEMS, self.options));
        let stop = CancellationToken::new();
        let (history, switchboard) = (Arc::<History>::default(), self.switchboard);
        let state = ServeState {
            report: report_seen,
            view: view_seen,
            kubelet: self.kubelet,
            metrics: Arc::clone(&metrics),
            history: Arc::clone(&history),
            switchboard: Arc::clone(&switchboard),
        };
        let handle = serve::run(self.config, state, stop.clone()).await?;
        Ok(TestServer { dir: self.dir, report, view, metrics, history, switchboard, stop, handle })
    }

    pub(crate) async fn start(self) -> TestServer {
        self.try_start().await.unwrap()
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.handle.socket().to_owned()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("unix:{}", self.handle.socket().display());
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    /// Value of the series with exactly this name and labels, for instance `trimtab_ready`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        metric_in(&self.metrics.to_text().unwrap(), series)
    }

    /// Stops and waits for the end.
    pub(crate) async fn shut_down(self) {
        self.stop.cancel();
        within(self.handle.stopped()).await;
    }
}

/// Value of one series in a text of metrics.
pub(crate) fn metric_in(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series).filter(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no series {series} in\n{text}")).trim().parse().unwrap()
}

/// The result of a future that should end soon.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("should have ended by now")
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

pub(crate) fn ready_report() -> NodeReport {
    let mut report = pending_report();
    report.ready = true;
    report.profile =
        ProfileReport { name: "web".into(), generation: 3, source: "/etc/p.yaml".into(), valid: true, errors: vec![] };
    for subsystem in &mut report.subsystems {
        let mut done = SubsystemReport::clone(subsystem);
        done.state = State::Converged;
        done.last_pass = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        done.last_success = done.last_pass;
        done.last_duration = Duration::from_millis(4);
        done.totals.passes = 1;
        *subsystem = Arc::new(done);
    }
    report
}

pub(crate) fn pending_report() -> NodeReport {
    NodeReport {
        node: "node-1".into(),
        version: "1.2.3",
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000),
        profile: ProfileReport::default(),
        subsystems: SUBSYSTEMS.iter().map(|name| Arc::new(SubsystemReport::pending(name))).collect(),
        findings: Vec::new(),
        ready: false,
    }
}

pub(crate) fn container(name: &str, exclusive_cpus: &[u32], memory: Vec<MemoryBlock>) -> ContainerView {
    ContainerView {
        name: name.into(),
        id: ContainerId(format!("id-of-{name}")),
        exclusive_cpus: exclusive_cpus.to_vec(),
        memory,
        effective_cpus: "0-3".into(),
        effective_mems: "0".into(),
        mispinned: None,
        waiting: false,
    }
}

pub(crate) fn pod(namespace: &str, name: &str, qos: QosClass, containers: Vec<ContainerView>) -> PodView {
    PodView { uid: PodUid(format!("uid-of-{name}")), name: name.into(), namespace: namespace.into(), qos, containers }
}

pub(crate) fn memory(size_bytes: u64, numa_nodes: &[u32]) -> MemoryBlock {
    MemoryBlock { memory_type: "memory".into(), size_bytes, numa_nodes: numa_nodes.to_vec() }
}

/// Not in the order of the answer, so that sorting shows.
pub(crate) fn two_pods() -> NodeView {
    NodeView {
        machine: MachineView::default(),
        pods: vec![
            pod("web", "shop", QosClass::Burstable, vec![container("app", &[], vec![])]),
            pod(
                "data",
                "db",
                QosClass::Guaranteed,
                vec![
                    container("server", &[3, 2], vec![memory(1 << 30, &[0])]),
                    container("exporter", &[], vec![memory(1 << 20, &[0, 1])]),
                ],
            ),
        ],
        allocatable_cpus: vec![1, 2, 3],
        allocatable_memory: vec![memory(7 << 30, &[0]), memory(8 << 30, &[1])],
        shared_cpus: vec![1],
        reserved_cpus: vec![0],
        observe_only: None,
        foreign_pinners: std::collections::BTreeSet::new(),
        held_pods: 0,
        late_pins: LatePins::default(),
        explanations: std::collections::BTreeMap::new(),
    }
}
