//! Where the double listens: on the loopback, in clear text or with TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ApiServer;

/// Where it listens; it stops with this.
pub(crate) struct Listening {
    /// Its address on the loopback.
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

/// How the server makes connections secure; changed while it listens.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Mutex<TlsAcceptor>>);

impl Identity {
    pub(crate) fn new(acceptor: TlsAcceptor) -> Self {
        Self(Arc::new(Mutex::new(acceptor)))
    }

    /// Another one from the next connection on.
    pub(crate) fn change(&self, acceptor: TlsAcceptor) {
        *self.0.lock().unwrap() = acceptor;
    }
}

impl ApiServer {
    /// Listens on a free port of the loopback until dropped.
    pub(crate) async fn listen(&self) -> Listening {
        self.listen_as(None).await
    }

    /// The same with TLS.
    pub(crate) async fn listen_with_tls(&self, identity: &Identity) -> Listening {
        self.listen_as(Some(identity.clone())).await
    }

    async fn listen_as(&self, identity: Option<Identity>) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(accept(self.clone(), (listener, identity), stop.clone()));
        Listening { address, _stop: stop.drop_guard() }
    }
}

async fn accept(server: ApiServer, (listener, identity): (TcpListener, Option<Identity>), stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => return,
            },
        };
        let cut = server.shared.connections.lock().unwrap().clone();
        let acceptor = identity.as_ref().map(|identity| identity.0.lock().unwrap().clone());
        let (server, stop) = (server.clone(), stop.clone());
        tokio::spawn(async move {
            let serving = async {
                match acceptor {
                    None => serve(server, stream).await,
                    // Who does not get on with the other has been told so.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(server, stream).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = cut.cancelled() => {}
                () = stop.cancelled() => {}
                () = serving => {}
            }
        });
    }
}

async fn serve(server: ApiServer, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = TowerToHyperService::new(server.service());
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
