//! The two gRPC servers, over the unix socket and over TCP: one set of services and checks, the same bounds, one end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::grpc::Guard;
use super::listen;
use super::peer::{Admins, AllowedPeers};
use super::socket::{BoundSocket, OwnedPath};
use super::tls::{self, BoundTls, Findings, TlsConfig};
use crate::metrics::{GrpcMetrics, Metrics};

/// Calls in progress on one connection; a client that opens more waits (RFC 9113, SETTINGS_MAX_CONCURRENT_STREAMS).
const MAX_STREAMS: u32 = 64;

/// Bytes of the decoded headers of one call; a client that sends more is answered with HTTP status 431.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// Time for calls in progress to end after the order to stop, then connections are cut.
const DRAIN: Duration = Duration::from_secs(3);

/// Pause between two signs of life that clients over TCP are asked for, and how long they may take to answer: a node or a
/// network that is gone closes nothing.
const SIGN_OF_LIFE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Age at which a connection over TCP is ended, so that a client whose certificate has expired must show another one.
const OLDEST: Duration = Duration::from_secs(30 * 60);

fn builder() -> Server {
    Server::builder().max_concurrent_streams(MAX_STREAMS).http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
}

/// Serves the unix socket until the token is cancelled, and removes it.
pub(super) async fn local(
    socket: BoundSocket,
    guard: Guard,
    peers: AllowedPeers,
    metrics: GrpcMetrics,
    stop: CancellationToken,
) {
    let BoundSocket { listener, path } = socket;
    let incoming = listen::incoming(listener, peers, metrics);
    let serving = builder().serve_with_incoming_shutdown(guard, incoming, stop.clone().cancelled_owned());
    // The path is removed first, so that clients which reconnect find nobody instead of a server that is going away.
    until_drained(serving, &stop, || remove(&path)).await;
}

/// Serves TCP until the token is cancelled, with certificates that are renewed meanwhile.
pub(super) async fn remote(
    bound: BoundTls,
    config: TlsConfig,
    (guard, admins): (Guard, Arc<Admins>),
    findings: Findings,
    (metrics, stop): (Arc<Metrics>, CancellationToken),
) {
    let BoundTls { listener, loaded, .. } = bound;
    let (now, certificates) = watch::channel(Arc::clone(&loaded.config));
    let (grpc, tls) = (metrics.grpc().clone(), metrics.tls().clone());
    let incoming = tls::incoming(listener, tls::Door { certificates, admins, grpc, tls: tls.clone() }, stop.clone());
    let serving = builder()
        .http2_keepalive_interval(Some(SIGN_OF_LIFE.0))
        .http2_keepalive_timeout(Some(SIGN_OF_LIFE.1))
        .max_connection_age(OLDEST)
        .serve_with_incoming_shutdown(guard, incoming, stop.clone().cancelled_owned());
    let renewing = tls::renew(config, loaded, (now, findings), tls, stop.clone());
    tokio::join!(until_drained(serving, &stop, || {}), renewing);
}

/// Serves until the token is cancelled, then for as long as calls in progress may take.
async fn until_drained(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    stop: &CancellationToken,
    at_the_end: impl Fn(),
) {
    let drained = async {
        stop.cancelled().await;
        at_the_end();
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => match served {
            Ok(()) => at_the_end(),
            Err(error) => tracing::error!(%error, "a gRPC server has ended"),
        },
        () = drained => tracing::warn!("connections were cut that did not end in time"),
    }
}

fn remove(path: &OwnedPath) {
    if let Err(error) = path.remove() {
        tracing::warn!(%error, "the socket stays behind");
    }
}
