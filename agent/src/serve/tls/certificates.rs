//! Certificates from files: checked whole, renewed while the server runs; bad ones never replace good ones.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trimtab_domain::plan::{Finding, Severity};

use super::{Findings, TlsConfig, expiry};
use crate::adapters::certificate_files::{CertificateFileError, CertificateFiles, CertificateTexts};
use crate::metrics::{Renewal, TlsMetrics};

/// The certificates are of no use, or the address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] CertificateFileError),
    /// A file holds no PEM, or not what it should hold.
    #[error("{} holds no {expected} in PEM form", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A client authority is no certificate.
    #[error("a client authority in {} is no certificate", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The client authorities are of no use.
    #[error("no client could be let in by {}", path.display())]
    Verifier {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key do not belong together, or are of no use.
    #[error("the certificate in {} cannot be served with the key in {}", certificate.display(), key.display())]
    Pair {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}; another process may use the port: choose another with --grpc-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Good certificates, and the texts that they are from.
pub(in crate::serve) struct Loaded {
    texts: CertificateTexts,
    pub(in crate::serve) config: Arc<ServerConfig>,
    /// When the first of the chain expires, in seconds since 1970; `None`: nobody can tell.
    expires: Option<i64>,
}

/// Reads and checks all files.
///
/// # Errors
/// [`TlsError`] for the first thing that is wrong.
pub(super) fn load(files: &CertificateFiles) -> Result<Loaded, TlsError> {
    check(files, files.read()?)
}

fn check(files: &CertificateFiles, texts: CertificateTexts) -> Result<Loaded, TlsError> {
    let pem = |path: &PathBuf, expected| {
        let path = path.clone();
        move |source| TlsError::Pem { path, expected, source }
    };
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&texts.client_ca).map_err(pem(&files.client_ca, "certificate"))? {
        let added = authorities.add(authority);
        added.map_err(|source| TlsError::Authority { path: files.client_ca.clone(), source })?;
    }
    let chain = certificates(&texts.certificate).map_err(pem(&files.certificate, "certificate"))?;
    let expires = expiry::first(&chain);
    let key = PrivateKeyDer::from_pem_slice(&texts.key).map_err(pem(&files.key, "private key"))?;

    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
        .build()
        .map_err(|source| TlsError::Verifier { path: files.client_ca.clone(), source })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map(|builder| builder.with_client_cert_verifier(verifier))
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|source| TlsError::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A session that is resumed is not checked again: its client's certificate may have expired meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { texts, config: Arc::new(config), expires })
}

/// Every certificate of a text, of which there must be one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

/// Follows the files until the token is cancelled. What is wrong with them is told once it was seen twice in a row: the
/// three are not replaced at the same moment.
pub(in crate::serve) async fn renew(
    config: TlsConfig,
    loaded: Loaded,
    (now, findings): (watch::Sender<Arc<ServerConfig>>, Findings),
    metrics: TlsMetrics,
    stop: CancellationToken,
) {
    metrics.expires(loaded.expires);
    let mut in_force = loaded.texts;
    let mut failed = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(config.look) => {}
        }
        let error = match config.files.read() {
            Ok(texts) if texts == in_force => None,
            Ok(texts) => match check(&config.files, texts) {
                Ok(checked) => {
                    now.send_replace(checked.config);
                    metrics.expires(checked.expires);
                    in_force = checked.texts;
                    metrics.renewed(Renewal::InForce);
                    tracing::info!("certificates were renewed; connections that are open keep the old ones");
                    None
                }
                Err(error) => Some(error),
            },
            Err(error) => Some(error.into()),
        };
        let message = error.map(|error| full_text(&error));
        let told = if message == failed { message.iter().map(|text| finding(&config, text)).collect() } else { vec![] };
        if message.is_none() || !told.is_empty() {
            let before = findings.send_replace(told.clone());
            if before.is_empty() && !told.is_empty() {
                metrics.renewed(Renewal::Refused);
                tracing::warn!(error = message, "the old certificates stay in force");
            }
        }
        failed = message;
    }
}

fn finding(config: &TlsConfig, message: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code: "tls-certificates",
        object: config.files.certificate.display().to_string(),
        message: format!("{message}; the old certificates stay in force"),
        remedy: "renew certificate and key together, and keep at least one client authority".to_owned(),
    }
}

/// The error with its causes.
fn full_text(error: &TlsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
