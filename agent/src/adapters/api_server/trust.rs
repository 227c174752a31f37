//! A client that trusts whom a file names now: the authority of a cluster is exchanged while agents run.
//!
//! The file is read with each request, as the token beside it is, which costs microseconds; a client is made anew only if
//! its content has changed. What hangs on open connections, a watch, goes on until they end. A file that is gone or spoilt
//! changes nothing.

#![expect(clippy::disallowed_methods, reason = "the certificates are mounted into the agent's own pod")]

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{info, warn};

use super::ConnectError;

/// Longest file that is read; a bundle of hundreds of authorities is far below.
const MAX_BYTES: usize = 1 << 20;

/// The client and what it was made from.
#[derive(Debug)]
pub(super) struct Trust {
    file: PathBuf,
    /// All but the authorities.
    config: Config,
    made: Mutex<Made>,
}

struct Made {
    client: Client,
    /// The newest content, whether a client could be made from it or not.
    seen: Option<Vec<u8>>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").finish_non_exhaustive()
    }
}

impl Trust {
    /// A first client. Without the file those are trusted whom the system trusts, until it is there. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] if the file has no certificate, or no client can be made.
    pub(super) fn new(file: PathBuf, config: Config) -> Result<Self, ConnectError> {
        let seen = std::fs::read(&file).ok();
        let client = match &seen {
            Some(pem) => make(config.clone(), pem).map_err(|problem| problem.of(&file, &config))?,
            None => client_of(config.clone()).map_err(|source| Problem::Client(source).of(&file, &config))?,
        };
        Ok(Self { file, config, made: Mutex::new(Made { client, seen }) })
    }

    /// The client for the next request. Needs a tokio runtime.
    pub(super) fn client(&self) -> Client {
        let found = std::fs::read(&self.file).ok();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pem) = found.filter(|pem| made.seen.as_ref() != Some(pem)) {
            match make(self.config.clone(), &pem) {
                Ok(client) => {
                    info!(file = %self.file.display(), "the authority of the API server has changed");
                    made.client = client;
                }
                Err(problem) => {
                    let error = anyhow::Error::from(problem.of(&self.file, &self.config));
                    warn!(error = format!("{error:#}"), "those that were trusted before are trusted on");
                }
            }
            made.seen = Some(pem);
        }
        made.client.clone()
    }
}

/// What is wrong with a file.
type Source = Box<dyn std::error::Error + Send + Sync>;

enum Problem {
    Certificates(Source),
    Client(Source),
}

impl Problem {
    fn of(self, file: &std::path::Path, config: &Config) -> ConnectError {
        match self {
            Self::Certificates(source) => ConnectError::Authority { path: file.to_owned(), source },
            Self::Client(source) => ConnectError::Client { server: config.cluster_url.to_string(), source },
        }
    }
}

fn make(mut config: Config, pem: &[u8]) -> Result<Client, Problem> {
    if pem.len() > MAX_BYTES {
        return Err(Problem::Certificates("longer than 1 MiB".into()));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| Problem::Certificates(Box::new(error)))?;
    if certificates.is_empty() {
        return Err(Problem::Certificates("there is no certificate in it".into()));
    }
    // Given as bytes: with a path alone the library asks the system for its authorities, too, and a small image has none.
    config.root_cert = Some(certificates.iter().map(|certificate| certificate.to_vec()).collect());
    client_of(config).map_err(Problem::Client)
}

fn client_of(config: Config) -> Result<Client, Source> {
    Client::try_from(config).map_err(|error| Box::new(error) as Source)
}
