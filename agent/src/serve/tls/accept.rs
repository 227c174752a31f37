//! Accepts TCP connections and shakes hands, each in a task of its own, so that a slow one keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Certificates, names};
use crate::metrics::{ConnectionEnd, GrpcMetrics, Handshake, TlsMetrics};
use crate::serve::listen::Connection;
use crate::serve::peer::{Access, Admins, Identity, Peer, Rights};

/// Connections over TCP that are open at once, those that still shake hands included; those of the unix socket are never
/// kept out by them.
const MAX_CONNECTIONS: usize = 128;

/// Time for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Pause after a failed accept; without it the loop would spin when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is let in, and where it is counted.
#[derive(Clone)]
pub(in crate::serve) struct Door {
    pub(in crate::serve) certificates: Certificates,
    pub(in crate::serve) admins: Arc<Admins>,
    pub(in crate::serve) grpc: GrpcMetrics,
    pub(in crate::serve) tls: TlsMetrics,
}

/// A connection whose client has proved who it is.
type Verified = Connection<TlsStream<TcpStream>>;

/// The connections of the listener that have shaken hands, until the token is cancelled.
pub(in crate::serve) fn incoming(
    listener: TcpListener,
    door: Door,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Verified>> {
    let (verified, stream) = mpsc::channel(16);
    tokio::spawn(async move {
        let accepting = accept(&listener, &door, &verified);
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting => {}
        }
    });
    ReceiverStream::new(stream)
}

async fn accept(listener: &TcpListener, door: &Door, verified: &mpsc::Sender<io::Result<Verified>>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection over TCP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(limit = MAX_CONNECTIONS, %address, "a connection was closed because too many are open");
            door.grpc.closed(ConnectionEnd::Capacity);
            continue;
        };
        let (door, verified) = (door.clone(), verified.clone());
        tokio::spawn(async move {
            if let Some(connection) = door.shake_hands(stream, address, place).await {
                // The server is stopping if nobody takes it.
                let _ = verified.send(Ok(connection)).await;
            }
        });
    }
}

impl Door {
    /// `None`: the client did not prove who it is.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Verified> {
        // Answers are whole messages: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&self.certificates.borrow()));
        let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::info!(%address, %error, "a client did not prove who it is");
                self.tls.shaken(Handshake::Failed);
                return None;
            }
            Err(_) => {
                self.tls.shaken(Handshake::TooLate);
                return None;
            }
        };
        // The verifier lets nobody in without one.
        let names = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(names::of)?;
        self.tls.shaken(Handshake::Done);
        let rights =
            if names.iter().any(|name| self.admins.names.contains(name)) { Rights::Admin } else { Rights::Read };
        let identity = Identity::Certificate { names: names.into(), address };
        let peer = Peer { identity, connection: 0, access: Access::Allowed, rights };
        Some(Connection::new(stream, peer, self.grpc.clone(), Some(place)))
    }
}
