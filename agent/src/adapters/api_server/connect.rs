//! How the API server is reached: a kubeconfig, the service account of a pod, or not at all.

#![expect(clippy::disallowed_methods, reason = "the token and the certificates are mounted into the agent's own pod")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::trust::Trust;
use super::{ApiError, ApiServer, Link};

/// Time to make a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By a kubeconfig and its current context.
    Kubeconfig(PathBuf),
    /// As the person who calls: as kubectl would.
    User {
        /// A kubeconfig; `None`: those of `KUBECONFIG`, else `~/.kube/config`.
        kubeconfig: Option<PathBuf>,
        /// One of its contexts; `None`: the current one.
        context: Option<String>,
    },
    /// At this address, as the service account whose token and authority are in this directory.
    ServiceAccount {
        /// `https://HOST:PORT`.
        server: String,
        /// Directory with `token` and `ca.crt`.
        directory: PathBuf,
    },
}

/// The API server cannot be addressed; trying again is of no use until the files change.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is not usable.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller has no usable kubeconfig.
    #[error("no usable kubeconfig; set KUBECONFIG, write ~/.kube/config, or give --kubeconfig and --context")]
    User {
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address is none.
    #[error("{server:?} is not the address of an API server; write https://HOST:PORT")]
    Address {
        /// The address.
        server: String,
    },
    /// The authorities of the service account are not usable.
    #[error("cannot use the certificates in {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client of a user who logs in with a program cannot be made.
    #[error("cannot log in at {server} with {program}, the program that the kubeconfig names")]
    LogIn {
        /// The address.
        server: String,
        /// The program.
        program: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client cannot be made.
    #[error("cannot make a client for {server}")]
    Client {
        /// The address.
        server: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A token that somebody else keeps fresh.
#[derive(Debug, Clone)]
pub(super) struct TokenFile(PathBuf);

impl TokenFile {
    pub(super) fn read(&self) -> Result<String, ApiError> {
        let token = std::fs::read_to_string(&self.0).map_err(|error| ApiError::Unauthorized {
            detail: format!("cannot read the token {}: {error}", self.0.display()),
        })?;
        Ok(token.trim().to_owned())
    }
}

/// Makes a client; nothing is sent yet. Needs a tokio runtime.
///
/// # Errors
/// [`ConnectError`] if files or the address are not usable.
pub async fn connect(access: &Access) -> Result<ApiServer, ConnectError> {
    let (mut config, account) = match access {
        Access::Kubeconfig(path) => (of_kubeconfig(path).await?, None),
        Access::User { kubeconfig, context } => (of_user(kubeconfig.as_deref(), context.clone()).await?, None),
        Access::ServiceAccount { server, directory } => {
            let url = server.parse().map_err(|_| ConnectError::Address { server: server.clone() })?;
            let mut config = Config::new(url);
            // Without it, leases would be looked for in `default`.
            if let Ok(namespace) = std::fs::read_to_string(directory.join("namespace")) {
                namespace.trim().clone_into(&mut config.default_namespace);
            }
            (config, Some(directory))
        }
    };
    config.connect_timeout = Some(CONNECT);
    // Watches are silent for long; their silence is judged by bookmarks, and every other request has its own deadline.
    config.read_timeout = None;
    config.write_timeout = Some(CONNECT);
    config.default_retry = false;
    if let Some(directory) = account {
        let trust = Trust::new(directory.join("ca.crt"), config)?;
        let token = Some(TokenFile(directory.join("token")));
        return Ok(ApiServer { token, ..ApiServer::over(Link::Trusting(Arc::new(trust))) });
    }
    let server = config.cluster_url.to_string();
    let program = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let client = Client::try_from(config).map_err(|error| match program {
        Some(program) => ConnectError::LogIn { server, program, source: Box::new(error) },
        None => ConnectError::Client { server, source: Box::new(error) },
    })?;
    Ok(ApiServer::new(client))
}

/// `HOST:PORT` of the API server; `None` if the kubeconfig does not say so, and for a person, who needs none. A kubeconfig is
/// read each time.
#[must_use]
pub fn address(access: &Access) -> Option<String> {
    let server = match access {
        Access::ServiceAccount { server, .. } => server.clone(),
        Access::User { .. } => return None,
        Access::Kubeconfig(path) => {
            let kubeconfig = Kubeconfig::read_from(path).ok()?;
            let current = kubeconfig.current_context?;
            let context = kubeconfig.contexts.into_iter().find(|context| context.name == current)?.context?;
            let cluster = kubeconfig.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?;
            cluster.cluster?.server?
        }
    };
    let url: http::Uri = server.parse().ok()?;
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    Some(format!("{}:{port}", url.host()?))
}

async fn of_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Kubeconfig { path: path.to_owned(), source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(Box::new(error)))?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(Box::new(error)))
}

async fn of_user(path: Option<&Path>, context: Option<String>) -> Result<Config, ConnectError> {
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| match path {
        Some(path) => ConnectError::Kubeconfig { path: path.to_owned(), source },
        None => ConnectError::User { source },
    };
    let read = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let kubeconfig = read.map_err(|error| unusable(Box::new(error)))?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(Box::new(error)))
}
