//! `/metrics`, `/healthz` and `/readyz` for scrapers and probes that cannot use a unix socket, and the page for people.

mod page;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ServeError, ServeState};
use crate::config::Page;
use crate::metrics::Metrics;
use crate::reconcile::history::History;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::report::{self, NodeReport};

/// Content type of the text format that the metrics are written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of the older text format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Connections open at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;

/// Bytes of request line and headers; a longer request is answered with 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Headers of a request; more are answered with 431.
const MAX_HEADERS: usize = 64;

/// Time for the headers to arrive, the wait between two requests of one connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// Life of a connection, so that one which never reads its answer goes away; a scraper connects anew.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Pause after a failed accept, for instance when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages read.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) metrics: Arc<Metrics>,
    pub(super) report: watch::Receiver<Arc<NodeReport>>,
    pub(super) view: watch::Receiver<Arc<NodeView>>,
    pub(super) history: Arc<History>,
    /// Whether the address can be reached from this machine only.
    loopback: bool,
    /// When the page is served.
    page: Page,
    /// A permit for each stream of changes.
    viewers: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

impl Pages {
    pub(super) fn new(state: ServeState, (address, page): (SocketAddr, Page), stop: CancellationToken) -> Self {
        let ServeState { report, view, metrics, history, .. } = state;
        let viewers = Arc::new(Semaphore::new(page::MAX_VIEWERS));
        Self { metrics, report, view, history, loopback: address.ip().is_loopback(), page, viewers, stop }
    }
}

/// A listener on its address.
pub(super) struct HttpServer {
    listener: TcpListener,
    /// The address, with the port that the kernel chose if it was asked to.
    pub(super) address: SocketAddr,
}

/// # Errors
/// [`ServeError::Http`] if the address cannot be had.
pub(super) async fn bind(address: SocketAddr) -> Result<HttpServer, ServeError> {
    let failed = |source| ServeError::Http { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(HttpServer { listener, address })
}

impl HttpServer {
    /// Serves until the token is cancelled and the answers in hand are out.
    pub(super) async fn run(self, pages: Pages) {
        let stop = pages.stop.clone();
        let router = router(pages);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        answer(stream, router, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// One connection, from its first request to its end.
async fn answer(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(MAX_AGE) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // A client that went away, or that does not speak HTTP, is no matter of ours.
    let _ = tokio::time::timeout(ACCEPT_PAUSE, connection).await;
}

fn router(pages: Pages) -> Router {
    let with_page = match pages.page {
        Page::Auto => pages.loopback,
        Page::Always => true,
        Page::Never => false,
    };
    let page = if with_page { page::routes(&pages) } else { Router::new() };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(page)
        .with_state(pages)
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (kind, text) = if wants_plain(accept) {
        (PLAIN, pages.metrics.to_plain_text())
    } else {
        (OPENMETRICS, pages.metrics.to_text())
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the metrics: {error}\n")).into_response()
        }
    }
}

/// Whether a client reads the older format only: scrapers that know OpenMetrics say so; browsers show plain text.
fn wants_plain(accept: &str) -> bool {
    !accept.contains("openmetrics") && (accept.contains("text/plain") || accept.contains("text/html"))
}

/// Alive: this very answer is the proof, as it is made by the thread that serves.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let report = Arc::clone(&pages.report.borrow());
    let reasons = not_ready(&report, pages.stop.is_cancelled());
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    let mut text = String::from("not ready\n");
    for reason in reasons {
        let _ = writeln!(text, "- {reason}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Why the agent is not ready; empty if it is.
fn not_ready(report: &NodeReport, stopping: bool) -> Vec<String> {
    if stopping {
        return vec!["the agent is stopping".to_owned()];
    }
    if report.ready {
        return Vec::new();
    }
    let mut reasons = Vec::new();
    if report.profile.generation == 0 {
        reasons.push("no valid profile is known yet".to_owned());
        reasons.extend(report.profile.errors.iter().cloned());
    }
    for subsystem in &report.subsystems {
        if let Some(why) = &subsystem.unready {
            reasons.push(format!("{}: {why}", subsystem.name));
        }
        if subsystem.state == report::State::Pending {
            reasons.push(format!("subsystem {} has not ended a pass yet", subsystem.name));
        }
    }
    if reasons.is_empty() {
        reasons.push("the first pass is not over yet".to_owned());
    }
    reasons
}
