//! Accepts connections, notes who they are from, and bounds how many there are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use super::authority::{self, AuthorityStream};
use super::peer::{Access, AllowedPeers, Peer};
use crate::metrics::{ConnectionEnd, GrpcMetrics};

/// Connections open at once; the next one is closed, so that a client sees at once that it leaks them.
const MAX_CONNECTIONS: i64 = 256;

/// Connections of peers that are not allowed, open at once; enough to tell them why, too few to keep others out.
const MAX_REFUSED: usize = 16;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of the listener, one after the other.
pub(super) fn incoming(
    listener: UnixListener,
    peers: AllowedPeers,
    metrics: GrpcMetrics,
) -> impl Stream<Item = io::Result<Connection<AuthorityStream<UnixStream>>>> {
    let mut door = Door { peers, refused: Arc::new(Semaphore::new(MAX_REFUSED)), metrics, number: 0 };
    UnixListenerStream::new(listener).then(pause_after_error).filter_map(move |accepted| match accepted {
        Ok(stream) => door.admit(stream).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// Without the pause the server would spin when file descriptors have run out.
async fn pause_after_error(accepted: io::Result<UnixStream>) -> io::Result<UnixStream> {
    if let Err(error) = &accepted {
        tracing::warn!(%error, "cannot accept a connection to the socket");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    accepted
}

/// Decides on each connection.
struct Door {
    peers: AllowedPeers,
    /// A permit for each open connection of a peer that is not allowed.
    refused: Arc<Semaphore>,
    metrics: GrpcMetrics,
    /// Connections so far.
    number: u64,
}

impl Door {
    /// `None` closes the connection.
    fn admit(&mut self, stream: UnixStream) -> Option<Connection<AuthorityStream<UnixStream>>> {
        self.number += 1;
        if self.metrics.connections().get() >= MAX_CONNECTIONS {
            tracing::warn!(limit = MAX_CONNECTIONS, "a connection was closed because too many are open");
            self.metrics.closed(ConnectionEnd::Capacity);
            return None;
        }
        let peer = Peer::of(&stream, self.number, &self.peers).ok()?;
        let refused = match peer.access {
            Access::Allowed => None,
            Access::Refused => Some(self.admit_refused(&peer)?),
        };
        Some(Connection::new(AuthorityStream::new(stream), peer, self.metrics.clone(), refused))
    }

    /// A peer that is not allowed is let in as far as to be told so.
    fn admit_refused(&self, peer: &Peer) -> Option<OwnedSemaphorePermit> {
        self.metrics.peer_refused();
        let permit = Arc::clone(&self.refused).try_acquire_owned().ok();
        if permit.is_some() {
            tracing::warn!(peer = %peer.identity, "a peer that is not allowed has connected");
        }
        permit
    }
}

/// An accepted connection; counted while it lives.
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    metrics: GrpcMetrics,
    /// Of those of which there may be only so many.
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, peer: Peer, metrics: GrpcMetrics, place: Option<OwnedSemaphorePermit>) -> Self {
        metrics.connections().inc();
        Self { stream, peer, metrics, _place: place }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.metrics.connections().dec();
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &polled
            && authority::is_malformed(error)
        {
            self.metrics.closed(ConnectionEnd::Malformed);
            tracing::debug!(peer = %self.peer.identity, %error, "a connection was closed");
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
