//! The connection to the runtime: made when it is first needed, made anew after it was lost, left alone while the
//! runtime hangs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};
use trimtab_proto::runtime::v1::VersionRequest;
use trimtab_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;

use super::info::RuntimeInfo;
use super::socket::{Candidates, SocketSearch};
use super::{Patience, lock};
use crate::ports::runtime::RuntimeError;

/// Largest answer that is accepted: the kubelet's own bound is 16 MiB, and a list of thousands of containers with large
/// annotations comes near it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// What the HTTP/2 authority must be: a plain host name.
const ORIGIN: &str = "http://localhost";

pub(super) type Client = RuntimeServiceClient<Channel>;

/// A call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nobody answered.
    Away { socket: String, method: &'static str, detail: String },
    /// The runtime answered with an error.
    Status { method: &'static str, code: Code, message: String },
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Away { socket, method, detail } => Self::Away { socket, method, detail },
            CallError::Status { method, code, message } => {
                Self::Refused { method, detail: format!("{message} ({code:?})") }
            }
        }
    }
}

/// The connection.
pub(super) struct Line {
    search: SocketSearch,
    pub(super) patience: Patience,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// Until when nothing is asked, and which socket hangs.
    quiet: Option<(Instant, String)>,
}

#[derive(Clone)]
struct Open {
    socket: PathBuf,
    client: Client,
    /// What the runtime showed of itself on this connection; the outer `None`: not asked yet.
    info: Option<Option<RuntimeInfo>>,
    /// How it calls itself; `None`: not asked yet.
    name: Option<String>,
}

impl Line {
    pub(super) fn new(search: SocketSearch, patience: Patience) -> Self {
        Self { search, patience, state: Mutex::default() }
    }

    /// Path of the socket that is connected, on the host.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        lock(&self.state).open.as_ref().map(|open| open.socket.clone())
    }

    /// What was kept with [`Self::keep_info`] on this connection.
    pub(super) fn kept_info(&self) -> Option<Option<RuntimeInfo>> {
        lock(&self.state).open.as_ref().and_then(|open| open.info.clone())
    }

    pub(super) fn keep_info(&self, info: Option<RuntimeInfo>) {
        if let Some(open) = &mut lock(&self.state).open {
            open.info = Some(info);
        }
    }

    /// What was kept with [`Self::keep_name`] on this connection.
    pub(super) fn kept_name(&self) -> Option<String> {
        lock(&self.state).open.as_ref().and_then(|open| open.name.clone())
    }

    pub(super) fn keep_name(&self, name: &str) {
        if let Some(open) = &mut lock(&self.state).open {
            open.name = Some(name.to_owned());
        }
    }

    /// Makes a call that changes nothing.
    pub(super) async fn ask<T, F>(
        &self,
        method: &'static str,
        ask: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.call(method, self.patience.ask, ask).await
    }

    /// Makes a call that changes something.
    pub(super) async fn change<T, F>(
        &self,
        method: &'static str,
        ask: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.call(method, self.patience.change, ask).await
    }

    /// Makes a call that ends something, which may take as long as is said.
    pub(super) async fn end<T, F>(
        &self,
        method: &'static str,
        deadline: Duration,
        ask: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.call(method, deadline, ask).await
    }

    async fn call<T, F>(
        &self,
        method: &'static str,
        deadline: Duration,
        ask: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let open = self.open(method).await?;
        let socket = open.socket.display().to_string();
        match timeout(deadline, ask(open.client)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if is_away(&status) => {
                lock(&self.state).open = None;
                Err(CallError::Away { socket, method, detail: status.message().to_owned() })
            }
            Ok(Err(status)) => {
                Err(CallError::Status { method, code: status.code(), message: status.message().to_owned() })
            }
            Err(_) => {
                let mut state = lock(&self.state);
                state.open = None;
                state.quiet = Some((Instant::now() + self.patience.quiet, socket.clone()));
                Err(CallError::Away { socket, method, detail: format!("no answer within {deadline:?}") })
            }
        }
    }

    async fn open(&self, method: &'static str) -> Result<Open, CallError> {
        {
            let mut state = lock(&self.state);
            if let Some(open) = &state.open {
                return Ok(open.clone());
            }
            match &state.quiet {
                Some((until, socket)) if Instant::now() < *until => {
                    let detail = "it did not answer in time just now, and is left alone for some seconds".into();
                    return Err(CallError::Away { socket: socket.clone(), method, detail });
                }
                _ => state.quiet = None,
            }
        }
        let open = self.connect(method).await?;
        lock(&self.state).open = Some(open.clone());
        Ok(open)
    }

    async fn connect(&self, method: &'static str) -> Result<Open, CallError> {
        let (paths, named) = match self.search.candidates() {
            Candidates::Off => {
                let detail = "--cri-socket is off".into();
                return Err(CallError::Away { socket: "off".into(), method, detail });
            }
            Candidates::Named(path) => (vec![path], true),
            Candidates::Probed(paths) => (paths, false),
        };
        let mut last = None;
        for path in paths {
            match self.try_socket(&path, named).await {
                Ok(open) => return Ok(open),
                Err(detail) => last = Some((path, detail)),
            }
        }
        let (path, detail) = last.unwrap_or_default();
        // With several candidates the last one's words would mislead.
        let (socket, detail) = if named {
            (path.display().to_string(), detail)
        } else {
            ("any known place".into(), "no runtime was found; name its socket with --cri-socket".into())
        };
        Err(CallError::Away { socket, method, detail })
    }

    /// Connects; behind a socket that nobody named there may be something else than a runtime of Kubernetes, for
    /// instance Docker's containerd, so that is asked who it is first.
    async fn try_socket(&self, path: &Path, named: bool) -> Result<Open, String> {
        let wait = self.patience.connect;
        let below = self.search.below_root(path);
        let text = below.to_str().ok_or("its path is not UTF-8")?;
        let endpoint = Endpoint::from_shared(format!("unix:{text}")).map_err(|error| error.to_string())?;
        let endpoint = endpoint.origin(Uri::from_static(ORIGIN)).connect_timeout(wait);
        let channel = match timeout(wait, endpoint.connect()).await {
            Ok(channel) => channel.map_err(|error| chain(&error))?,
            Err(_) => return Err(format!("no connection within {wait:?}")),
        };
        let mut client = Client::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        if !named {
            let request = VersionRequest { version: "v1".into() };
            match timeout(wait, client.version(request)).await {
                Ok(answer) => answer.map(drop).map_err(|status| status.message().to_owned())?,
                Err(_) => return Err(format!("no answer within {wait:?}")),
            }
        }
        Ok(Open { socket: path.to_owned(), client, info: None, name: None })
    }
}

/// True if the runtime did not answer, or says that it cannot yet. `Unknown` without words of the runtime is what a
/// connection that broke in mid-call gives.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        || std::error::Error::source(status).is_some()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
