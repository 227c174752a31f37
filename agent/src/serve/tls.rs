//! gRPC over TCP, to clients with a certificate and to nobody else.

mod accept;
mod certificates;
mod der;
mod expiry;
mod names;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use trimtab_domain::plan::Finding;

pub(super) use self::accept::{Door, incoming};
pub use self::certificates::TlsError;
pub(super) use self::certificates::{Loaded, renew};
use crate::adapters::certificate_files::CertificateFiles;

/// Where, and with which certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Address to listen on.
    pub address: SocketAddr,
    /// Certificate, key, client authorities.
    pub files: CertificateFiles,
    /// Time between two looks at the files.
    pub look: Duration,
}

impl TlsConfig {
    /// Looks at the files every ten seconds.
    #[must_use]
    pub fn new(address: SocketAddr, files: CertificateFiles) -> Self {
        Self { address, files, look: Duration::from_secs(10) }
    }
}

/// A listener, and the certificates that were good at the start.
pub(super) struct BoundTls {
    pub(super) listener: TcpListener,
    /// With the port that the kernel chose if port 0 was asked for.
    pub(super) address: SocketAddr,
    pub(super) loaded: Loaded,
}

/// What the certificates are now: replaced by [`renew`], read at every handshake.
pub(super) type Certificates = watch::Receiver<Arc<ServerConfig>>;

/// What is wrong with the files, for the report.
pub(super) type Findings = watch::Sender<Vec<Finding>>;

/// Reads the certificates, then listens.
///
/// # Errors
/// [`TlsError`] if the certificates are of no use, or the address cannot be had.
pub(super) async fn bind(config: &TlsConfig) -> Result<BoundTls, TlsError> {
    let loaded = certificates::load(&config.files)?;
    let listen = |source: io::Error| TlsError::Listen { address: config.address, source };
    let listener = TcpListener::bind(config.address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    Ok(BoundTls { listener, address, loaded })
}
