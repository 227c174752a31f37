//! The daemon: one thread holds the node, one answers.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trimtab_domain::migration::Progress;
use trimtab_domain::plan::Finding;

use super::cluster::ClusterThread;
use super::nri::NriThread;
use super::pause::PauseJudge;
use super::{cluster, node, profiles, record, rehearse};
use crate::adapters::certificate_files::CertificateFiles;
use crate::adapters::config_map_files::StateFiles;
use crate::adapters::drift::KernelEvents;
use crate::adapters::history_file::HistoryFile;
use crate::adapters::hold_file::HoldFile;
use crate::adapters::host_fs::HostFs;
use crate::adapters::ledger::DiskLedger;
use crate::adapters::links::LinkChanges;
use crate::adapters::nat_writers::NatWriters;
use crate::adapters::nftables::Changes;
use crate::adapters::nri::RegistrationBook;
use crate::adapters::profile_file::LoadedProfile;
use crate::adapters::profile_object::Offer;
use crate::adapters::reach::Prober;
use crate::adapters::trial_file::TrialFiles;
use crate::adapters::uevents::HardwareChanges;
use crate::cli::exit;
use crate::cluster::NodeSide;
use crate::cluster::migration::MigrationPorts;
use crate::config::{HttpAddress, NriSocket, ProfileSource, RemoteArgs, RunArgs};
use crate::lifecycle;
use crate::metrics::{Metrics, MetricsOptions};
use crate::ports::kubelet_answers::KubeletPodResources;
use crate::ports::nri_stats::NriStats;
use crate::ports::runtime::ContainerRuntime;
use crate::reconcile::board::Board;
use crate::reconcile::confirm::Confirmer;
use crate::reconcile::engine::{Context, Held, SpecInForce};
use crate::reconcile::history::History;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::orders::Switchboard;
use crate::reconcile::report::ProfileReport;
use crate::serve::{self, RateLimit, ServeConfig, ServeState, TlsConfig};
use crate::subsystems::pinning::desk::Desk;

/// Longest time that the engine gets to finish the step in hand; below the DaemonSet's grace period.
const ENGINE_END: Duration = Duration::from_secs(10);

/// Longest time that the answers to the container runtime get to end.
const NRI_END: Duration = Duration::from_secs(1);

/// Pause before a source of kernel events that ended is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// What the threads share.
#[derive(Clone)]
struct Shared {
    board: Arc<Board>,
    history: Arc<History>,
    switchboard: Arc<Switchboard>,
    view: watch::Receiver<Arc<NodeView>>,
    kubelet: Option<Arc<dyn KubeletPodResources>>,
}

/// Runs until a signal.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    let _locks = node::lock(&args.node)?;
    let (ledger, findings) = DiskLedger::open(&args.node.state_dir)?;
    node::warn_of(&findings);
    let node = node::compose(&args.node, ledger)?;
    if let Some(api) = &node.pod_resources {
        api.leave_alone(&args.socket);
    }
    let names: Vec<&'static str> = node.subsystems.iter().map(|subsystem| subsystem.name()).collect();
    let board = Arc::new(Board::new(node::name(&args.node)?, &names));
    board.publish_findings("ledger", findings);
    info!(version = env!("CARGO_PKG_VERSION"), profile = %args.node.profile.display(), "holding this node");

    let history = Arc::new(History::going_on(HistoryFile::of(&args.node.state_dir).load()));
    history.note(record::started());
    let switchboard = Arc::new(Switchboard::new(&names));
    let kubelet = node.pod_resources.map(|api| -> Arc<dyn KubeletPodResources> { api });
    let shared = Shared { board, history, switchboard, view: node.view, kubelet };
    let options =
        MetricsOptions { kubelet: args.kubelet_metrics.then(|| node.desk.admissions()), exemplars: args.exemplars };
    let metrics = Arc::new(Metrics::with(env!("CARGO_PKG_VERSION"), &names, options));
    metrics.show_traffic(node.traffic);
    let spec = watch::Sender::new(None);
    let cancel = CancellationToken::new();
    let migration = (node.migration, metrics.migration());
    let answering = (Arc::clone(&node.desk), metrics.nri());
    let side = node_side(args, &shared, answering, spec.subscribe(), migration);
    let offers = ClusterThread::start(args, (side, metrics.api_server()), &cancel)?;
    let nri = nri_thread(args, (node.desk, node.answered_runtime), metrics.nri(), spec.subscribe())?;
    let nri = nri.map(|thread| thread.start(cancel.clone())).transpose()?;
    // The node is not touched before socket and port are had: an agent that cannot start leaves no trace.
    let (answering, may_begin) = oneshot::channel();
    let engine = {
        let (args, shared, cancel) = (args.clone(), shared.clone(), cancel.clone());
        let parts = Parts { subsystems: node.subsystems, writers: node.nat_writers, offers };
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let begin = may_begin.blocking_recv().is_ok();
                let result = if begin { engine(&args, &shared, parts, spec, &cancel) } else { Ok(()) };
                // Without an engine there is nothing to answer about.
                cancel.cancel();
                result
            })
            .context("cannot start the engine's thread")?
    };
    let answered = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(answer(args, &shared, metrics, (started, answering), &cancel)));
    cancel.cancel();
    if let Some(nri) = nri {
        nri.end(NRI_END);
    }
    let holding = engine.join().map_err(|_| anyhow::anyhow!("the engine's thread panicked"))?;
    answered?;
    holding?;
    info!("ended; the node keeps its settings, but for what the profile gives back on exit");
    Ok(exit::OK)
}

/// The node, as far as the API server is told of it.
fn node_side(
    args: &RunArgs,
    shared: &Shared,
    (desk, stats): (Arc<Desk>, Arc<NriStats>),
    spec: watch::Receiver<Option<SpecInForce>>,
    (migration, progress): (Option<MigrationPorts>, watch::Sender<Progress>),
) -> NodeSide {
    NodeSide {
        reports: shared.board.subscribe(),
        board: Arc::clone(&shared.board),
        switchboard: Arc::clone(&shared.switchboard),
        spec,
        desk,
        link: matches!(args.nri_socket, NriSocket::Path(_)).then(|| stats.link()),
        view: shared.view.clone(),
        uses_objects: args.kube.profile_source != ProfileSource::File,
        migration,
        progress,
        config_maps: Arc::new(StateFiles::new(&args.node.state_dir)),
    }
}

/// The thread that answers the container runtime, if it is to be answered.
fn nri_thread(
    args: &RunArgs,
    (desk, runtime): (Arc<Desk>, Option<Arc<dyn ContainerRuntime>>),
    stats: Arc<NriStats>,
    spec: watch::Receiver<Option<SpecInForce>>,
) -> anyhow::Result<Option<NriThread>> {
    let NriSocket::Path(socket) = &args.nri_socket else { return Ok(None) };
    let socket = args.node.host_root.join(socket.strip_prefix("/").unwrap_or(socket));
    let files = Arc::new(HostFs::new(&args.node.host_root)?);
    let book = RegistrationBook::new(files, "/run/trimtab/nri-registrations");
    Ok(Some(NriThread { socket, book, desk, runtime, stats, spec }))
}

/// What the engine holds, and by whose word.
struct Parts {
    subsystems: Vec<Box<dyn Held>>,
    writers: Arc<NatWriters>,
    /// What the API server has for this node, where there is one.
    offers: Option<watch::Receiver<Offer>>,
}

/// The engine's thread: profile, kernel events, one loop per subsystem.
fn engine(
    args: &RunArgs,
    shared: &Shared,
    Parts { subsystems, writers, offers }: Parts,
    spec_in: watch::Sender<Option<SpecInForce>>,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the engine's runtime")?;
    let access = cluster::access(&args.kube.api)?;
    let own = match args.http {
        HttpAddress::Off => None,
        HttpAddress::On(address) => Some(address),
    };
    let held = runtime.block_on(async {
        let drift = KernelEvents::start(&args.node.host_root, cancel.clone());
        tokio::spawn(follow_netfilter(Arc::clone(&drift), writers, cancel.clone()));
        tokio::spawn(follow_interfaces(Arc::clone(&drift), cancel.clone()));
        tokio::spawn(follow_hardware(Arc::clone(&drift), cancel.clone()));
        let profile = profiles::follow(args, offers, cancel.clone());
        let spec = spec_in.subscribe();
        tokio::spawn(follow_profile(profile, shared.clone(), spec_in, cancel.clone()));
        tokio::spawn(record::follow_placements(shared.view.clone(), Arc::clone(&shared.history)));
        if let Some(rehearsals) = shared.switchboard.rehearsals() {
            tokio::spawn(rehearse::answer(args.node.clone(), rehearsals));
        }
        let file = HistoryFile::of(&args.node.state_dir);
        let keeping = tokio::spawn(record::keep(file, Arc::clone(&shared.history), cancel.clone()));
        let context = Context {
            spec,
            board: Arc::clone(&shared.board),
            drift,
            resync: args.resync,
            cancel: cancel.clone(),
            switchboard: Arc::clone(&shared.switchboard),
            holds: Arc::new(HoldFile::open(&args.node.state_dir)),
            history: Arc::clone(&shared.history),
            confirmer: Some(Confirmer {
                book: Arc::new(TrialFiles::of(&args.node.state_dir)),
                reach: Arc::new(Prober::new(access, own)),
            }),
        };
        let mut loops = JoinSet::new();
        for subsystem in subsystems {
            loops.spawn(subsystem.run(context.clone()));
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            // A loop ends when cancelled; one that ends before is a defect, and a node half held is worse than a restart.
            Some(ended) = loops.join_next() => anyhow::ensure!(cancel.is_cancelled(), "a subsystem's loop has ended: {ended:?}"),
        }
        let all = async { while loops.join_next().await.is_some() {} };
        if tokio::time::timeout(ENGINE_END, all).await.is_err() {
            error!("a step did not end in time; it is left to the kernel");
        }
        let _ended = keeping.await;
        anyhow::Ok(())
    });
    // A step that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    held
}

/// Puts each good profile in force and tells the board of every one.
async fn follow_profile(
    mut profile: watch::Receiver<LoadedProfile>,
    shared: Shared,
    spec: watch::Sender<Option<SpecInForce>>,
    cancel: CancellationToken,
) {
    let (mut before, mut pauses) = (ProfileReport::default(), PauseJudge::default());
    loop {
        let mut loaded = profile.borrow_and_update().clone();
        let generation = loaded.report.generation;
        loaded.findings.extend(loaded.spec.as_ref().and_then(|spec| pauses.look(spec, SystemTime::now())));
        node::warn_of(&loaded.findings);
        shared.board.publish_findings("profile", loaded.findings);
        record::profile(&shared.history, &before, &loaded.report);
        before.clone_from(&loaded.report);
        shared.board.publish_profile(loaded.report);
        if let Some(in_force) = loaded.spec {
            spec.send_if_modified(|now| {
                let newer = now.as_ref().is_none_or(|now| now.generation != generation);
                if newer {
                    *now = Some(SpecInForce { generation, spec: in_force, text: loaded.text });
                }
                newer
            });
        }
        if profile.changed().await.is_err() {
            // The file cannot be followed any more; what is in force stays in force.
            cancel.cancelled().await;
            return;
        }
    }
}

/// Wakes who asked for netfilter events. Without the socket the resync finds drift.
async fn follow_netfilter(drift: Arc<KernelEvents>, writers: Arc<NatWriters>, cancel: CancellationToken) {
    let mut changes = match Changes::open() {
        Ok(changes) => changes,
        Err(error) => {
            warn!(%error, "nf_tables events are not available; changed rules are found by the resync only");
            return;
        }
    };
    // A pass may have looked before there was anybody to hear of what came after.
    drift.netfilter_changed();
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.next() => match change {
                Ok(writer) => {
                    drift.netfilter_changed();
                    writers.changed_by(writer.as_ref());
                    continue;
                }
                Err(error) => error,
            },
        };
        warn!(error = %ended, "nf_tables events have ended; they are opened again");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(REOPEN_PAUSE) => {}
        }
        if let Ok(again) = Changes::open() {
            changes = again;
            // What was missed meanwhile is found by looking.
            drift.netfilter_changed();
        }
    }
}

/// Wakes who asked for events about interfaces. Without the socket the resync finds new ones.
async fn follow_interfaces(drift: Arc<KernelEvents>, cancel: CancellationToken) {
    let mut changes = match LinkChanges::open() {
        Ok(changes) => changes,
        Err(error) => {
            warn!(%error, "interface events are not available; new interfaces are found by the resync only");
            return;
        }
    };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.next() => match change {
                Ok(()) => drift.interfaces_changed(),
                Err(error) => {
                    warn!(%error, "interface events have ended; new interfaces are found by the resync only");
                    return;
                }
            },
        }
    }
}

/// Wakes who asked for events about CPUs and memory. Without the socket the resync finds what went or came.
async fn follow_hardware(drift: Arc<KernelEvents>, cancel: CancellationToken) {
    /// The kernel changes the sets of cgroups a moment after it has announced the cause (`cpuset_hotplug_workfn`).
    const SETTLED: Duration = Duration::from_millis(100);
    let mut changes = match HardwareChanges::open() {
        Ok(changes) => changes,
        Err(error) => {
            warn!(%error, "hotplug events are not available; CPUs that go or come are found by the resync only");
            return;
        }
    };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.next() => match change {
                Ok(()) => {
                    drift.hardware_changed();
                    tokio::time::sleep(SETTLED).await;
                    drift.hardware_changed();
                }
                Err(error) => {
                    warn!(%error, "hotplug events have ended; CPUs that go or come are found by the resync only");
                    return;
                }
            },
        }
    }
}

/// Serves until cancelled; tells when the node has first been brought to its profile.
async fn answer(
    args: &RunArgs,
    shared: &Shared,
    metrics: Arc<Metrics>,
    (started, answering): (Instant, oneshot::Sender<()>),
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    lifecycle::cancel_on_signal(cancel.clone()).context("cannot install signal handlers")?;
    let mut report = shared.board.subscribe();
    let state = ServeState {
        report: report.clone(),
        view: shared.view.clone(),
        kubelet: shared.kubelet.clone(),
        metrics,
        history: Arc::clone(&shared.history),
        switchboard: Arc::clone(&shared.switchboard),
    };
    let serving = serve::run(serve_config(args), state, cancel.clone()).await?;
    tokio::spawn(follow_findings(serving.findings(), Arc::clone(&shared.board)));
    // The engine's thread can only be gone if it panicked; joining it tells.
    let _told = answering.send(());
    // The guard on the report must not live on: while it does, no new report can be published.
    let ready = async { report.wait_for(|node| node.ready).await.map(drop) };
    tokio::select! {
        () = cancel.cancelled() => {}
        ready = ready => if ready.is_ok() {
            info!(milliseconds = started.elapsed().as_millis(), "ready: every subsystem has ended a pass");
        },
    }
    cancel.cancelled().await;
    serving.stopped().await;
    Ok(())
}

/// Tells the board what is wrong with what the servers were given.
async fn follow_findings(mut findings: watch::Receiver<Vec<Finding>>, board: Arc<Board>) {
    // Ends with the servers.
    while findings.changed().await.is_ok() {
        let now = findings.borrow_and_update().clone();
        board.publish_findings("serve", now);
    }
}

fn serve_config(args: &RunArgs) -> ServeConfig {
    let mut config = ServeConfig::new(&args.socket);
    config.socket.mode = args.socket_mode;
    config.socket.group = args.socket_group;
    config.peers.gids.extend(args.socket_group);
    if !args.admin_uid.is_empty() {
        config.peers.admins.uids = args.admin_uid.iter().copied().collect();
        config.peers.uids.extend(&args.admin_uid);
    }
    // A tenth of a second's calls may come at once, and never fewer than the kubelet allows.
    config.rate_limit =
        (args.rate_limit > 0).then(|| RateLimit { per_second: args.rate_limit, burst: (args.rate_limit / 10).max(10) });
    config.http = match args.http {
        HttpAddress::Off => None,
        HttpAddress::On(address) => Some(address),
    };
    config.page = args.page;
    config.peers.admins.names = args.remote.admin_name.iter().cloned().collect();
    let RemoteArgs { grpc_listen, tls_cert, tls_key, tls_client_ca, .. } = args.remote.clone();
    // The command line is refused unless all four are there.
    if let (Some(address), Some(certificate), Some(key), Some(client_ca)) =
        (grpc_listen, tls_cert, tls_key, tls_client_ca)
    {
        config.tls = Some(TlsConfig::new(address, CertificateFiles { certificate, key, client_ca }));
    }
    config
}
