//! Everything that answers: gRPC on a unix socket, metrics and probes over HTTP. Reads the latest state, decides nothing.

mod authority;
mod grpc;
mod http;
mod kubelet;
mod listen;
mod page;
mod peer;
mod servers;
mod socket;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trimtab_domain::plan::Finding;

use self::grpc::{Guard, PeerLimiter, Serving, Sources, Watchers};
pub use self::grpc::{RateLimit, Reflection, WatchLimits};
use self::http::{HttpServer, Pages};
use self::kubelet::Follower;
pub use self::peer::{Admins, AllowedPeers};
pub use self::socket::{SocketConfig, SocketError};
pub use self::tls::{TlsConfig, TlsError};
use crate::config::Page;
use crate::metrics::{self, Metrics};
use crate::ports::kubelet_answers::KubeletPodResources;
use crate::reconcile::history::History;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::orders::Switchboard;
use crate::reconcile::report::NodeReport;

/// Where and to whom the agent answers.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The socket for gRPC.
    pub socket: SocketConfig,
    /// gRPC over TCP, to clients with a certificate; `None`: not served.
    pub tls: Option<TlsConfig>,
    /// Who may use it, besides what its file mode says.
    pub peers: AllowedPeers,
    /// Calls per client process; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
    /// Calls in progress at once on all connections, watches included; each costs a few KiB.
    pub calls: usize,
    /// Whether clients may ask which services there are.
    pub reflection: Reflection,
    /// Bounds of the watches.
    pub watch: WatchLimits,
    /// Address for the page, `/metrics`, `/healthz` and `/readyz`; `None`: not served.
    pub http: Option<SocketAddr>,
    /// When the page is served there too.
    pub page: Page,
}

impl ServeConfig {
    /// The defaults: mode 0660 for root and the agent's own user, the kubelet's rate limit per client, no HTTP.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: SocketConfig::new(socket),
            tls: None,
            peers: AllowedPeers::default(),
            rate_limit: Some(RateLimit::default()),
            calls: 4096,
            reflection: Reflection::default(),
            watch: WatchLimits::default(),
            http: None,
            page: Page::default(),
        }
    }
}

/// The answers cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be had.
    #[error("cannot serve gRPC")]
    Socket(#[from] SocketError),
    /// The certificates are of no use, or the TCP address cannot be had.
    #[error("cannot serve gRPC over TCP")]
    Tls(#[from] TlsError),
    /// The HTTP address cannot be had.
    #[error("cannot serve HTTP on {address}; another process may use the port: choose another with --http, or `off`")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The running servers.
#[derive(Debug)]
pub struct ServeHandle {
    socket: PathBuf,
    http: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    findings: watch::Receiver<Vec<Finding>>,
    servers: JoinHandle<()>,
}

impl ServeHandle {
    /// Path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Address of the HTTP server, with the port that the kernel chose if port 0 was asked for; `None`: not served.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Address of gRPC over TCP, with the port that the kernel chose if port 0 was asked for; `None`: not served.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// What is wrong with what the servers were given, now.
    #[must_use]
    pub fn findings(&self) -> watch::Receiver<Vec<Finding>> {
        self.findings.clone()
    }

    /// Ends when every server has stopped and the socket is gone; that takes a cancelled token.
    pub async fn stopped(self) {
        if let Err(error) = self.servers.await {
            tracing::error!(%error, "the servers have ended badly");
        }
    }
}

/// What the servers answer from.
#[derive(Clone)]
pub struct ServeState {
    /// The latest report.
    pub report: watch::Receiver<Arc<NodeReport>>,
    /// The latest placements.
    pub view: watch::Receiver<Arc<NodeView>>,
    /// The kubelet's own service, whose answers are merged into ours; `None`: there is none to ask.
    pub kubelet: Option<Arc<dyn KubeletPodResources>>,
    /// Where calls are counted; fed here from the two channels.
    pub metrics: Arc<Metrics>,
    /// What was changed; calls that change something are noted here.
    pub history: Arc<History>,
    /// The way to the engine.
    pub switchboard: Arc<Switchboard>,
}

impl fmt::Debug for ServeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeState").field("kubelet", &self.kubelet.is_some()).finish_non_exhaustive()
    }
}

/// Binds everything, then serves in the background until the token is cancelled.
///
/// # Errors
/// [`ServeError`] if something cannot be bound; nothing is served then and no path is left behind.
pub async fn run(config: ServeConfig, state: ServeState, stop: CancellationToken) -> Result<ServeHandle, ServeError> {
    let http = match config.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let tls = match &config.tls {
        Some(tls) => Some(tls::bind(tls).await?),
        None => None,
    };
    let (serving, serving_seen) = watch::channel(Serving::No);
    let (follower, kubelet) =
        state.kubelet.clone().map(|kubelet| Follower::new(kubelet, state.metrics.kubelet().clone())).unzip();
    let history = Arc::clone(&state.history);
    let watchers = Watchers::new(config.watch, &state.report, &state.view, Arc::clone(&history));
    let sources = Sources {
        report: state.report.clone(),
        view: state.view.clone(),
        kubelet,
        serving: serving_seen,
        history,
        switchboard: Arc::clone(&state.switchboard),
        watchers: watchers.clone(),
        metrics: Arc::clone(&state.metrics),
    };
    let routes = grpc::routes(&sources, config.reflection);
    let guard = Guard::new(routes, PeerLimiter::new(config.rate_limit), config.calls, state.metrics.grpc().clone());
    let socket = socket::bind(&config.socket).await?;
    let address = http.as_ref().map(|server| server.address);

    let mut tasks = JoinSet::new();
    if let Some(follower) = follower {
        tasks.spawn(follower.follow(state.view.clone(), stop.clone()));
    }
    tasks.spawn(report_health(serving, state.report.clone(), stop.clone()));
    tasks.spawn(watchers.keep(state.report.clone(), state.view.clone(), stop.clone()));
    tasks.spawn(metrics::feed(Arc::clone(&state.metrics), state.report.clone(), state.view.clone(), stop.clone()));
    let (findings, findings_seen) = watch::channel(Vec::new());
    let remote = tls.as_ref().map(|tls| tls.address);
    if let (Some(bound), Some(settings)) = (tls, config.tls) {
        let admins = Arc::new(config.peers.admins.clone());
        tasks.spawn(servers::remote(
            bound,
            settings,
            (guard.clone(), admins),
            findings,
            (Arc::clone(&state.metrics), stop.clone()),
        ));
    }
    tasks.spawn(servers::local(socket, guard, config.peers, state.metrics.grpc().clone(), stop.clone()));
    if let Some(server) = http {
        tasks.spawn(serve_http(server, state, config.page, stop));
    }
    let servers = tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
    Ok(ServeHandle { socket: config.socket.path, http: address, remote, findings: findings_seen, servers })
}

/// Tells health what the report says; the end of this task ends every watch of health.
async fn report_health(
    serving: watch::Sender<Serving>,
    mut report: watch::Receiver<Arc<NodeReport>>,
    stop: CancellationToken,
) {
    loop {
        let now = if report.borrow_and_update().ready { Serving::Yes } else { Serving::No };
        serving.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = report.changed() => if changed.is_err() {
                stop.cancelled().await;
                break;
            },
        }
    }
    serving.send_replace(Serving::No);
}

async fn serve_http(server: HttpServer, state: ServeState, page: Page, stop: CancellationToken) {
    let pages = Pages::new(state, (server.address, page), stop);
    server.run(pages).await;
}
