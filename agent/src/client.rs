//! Asks a running agent over its socket; every failure says how to reach it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::node::v1alpha1::{
    GetReportRequest, GetTopologyRequest, ListHistoryRequest, ListHistoryResponse, ListPlacementsRequest,
    ListPlacementsResponse, NodeReport, PauseRequest, PauseResponse, PlanRequest, PlanResponse, ResumeRequest,
    ResumeResponse, ResyncRequest, ResyncResponse, RollbackRequest, RollbackResponse, Topology, WatchRequest,
    WatchResponse,
};

/// Time for the connection, and for each answer that is ready made.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Time for an answer that takes passes over the whole node.
const PASS_TIMEOUT: Duration = Duration::from_secs(120);

/// Largest answer that is accepted: the report of a node with thousands of objects is far below.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A socket address must be text here.
    #[error("the socket path {} is not valid UTF-8; choose another with --socket", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// Nobody can be reached at the path.
    #[error("cannot reach the agent at {}; {remedy}", path.display())]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
        /// What the system said.
        #[source]
        source: tonic::transport::Error,
    },
    /// The agent was reached and does not answer.
    #[error("the agent at {} does not answer {method} ({code:?}): {message}; {remedy}", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// What was asked.
        method: &'static str,
        /// The code of the answer.
        code: Code,
        /// The text of the answer.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A connection to an agent.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    node_state: NodeStateClient<Channel>,
}

/// Connects to the socket of an agent.
///
/// # Errors
/// [`ClientError`] if nobody serves the path, or this user may not connect.
pub async fn connect(path: &Path) -> Result<Client, ClientError> {
    let text = path.to_str().ok_or_else(|| ClientError::NotText { path: path.to_owned() })?;
    let unreachable =
        |source| ClientError::Unreachable { path: path.to_owned(), remedy: remedy_for_connect(&source), source };
    let channel = Endpoint::from_shared(format!("unix:{text}"))
        .map_err(unreachable)?
        .connect_timeout(TIMEOUT)
        .connect()
        .await
        .map_err(unreachable)?;
    let node_state = NodeStateClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    Ok(Client { path: path.to_owned(), node_state })
}

impl Client {
    /// The latest report.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn report(&mut self) -> Result<NodeReport, ClientError> {
        match self.node_state.get_report(within(TIMEOUT, GetReportRequest::default())).await {
            Ok(answer) => Ok(answer.into_inner().report.unwrap_or_default()),
            Err(status) => Err(self.refused("GetReport", &status)),
        }
    }

    /// Who holds which CPUs and memory.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn placements(&mut self) -> Result<ListPlacementsResponse, ClientError> {
        match self.node_state.list_placements(within(TIMEOUT, ListPlacementsRequest::default())).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.refused("ListPlacements", &status)),
        }
    }

    /// The machine and who uses it.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn topology(&mut self) -> Result<Topology, ClientError> {
        match self.node_state.get_topology(within(TIMEOUT, GetTopologyRequest {})).await {
            Ok(answer) => Ok(answer.into_inner().topology.unwrap_or_default()),
            Err(status) => Err(self.refused("GetTopology", &status)),
        }
    }

    /// A page of what was changed.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn history(&mut self, request: ListHistoryRequest) -> Result<ListHistoryResponse, ClientError> {
        let answer = self.node_state.list_history(within(TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("ListHistory", &status))
    }

    /// What a pass would change now.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn plan(&mut self, request: PlanRequest) -> Result<PlanResponse, ClientError> {
        let answer = self.node_state.plan(within(PASS_TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Plan", &status))
    }

    /// Makes passes now.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn resync(&mut self, request: ResyncRequest) -> Result<ResyncResponse, ClientError> {
        let answer = self.node_state.resync(within(PASS_TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Resync", &status))
    }

    /// Gives back what a subsystem holds, and pauses it.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn roll_back(&mut self, request: RollbackRequest) -> Result<RollbackResponse, ClientError> {
        let answer = self.node_state.rollback(within(PASS_TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Rollback", &status))
    }

    /// Lets a subsystem observe and report only.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn pause(&mut self, request: PauseRequest) -> Result<PauseResponse, ClientError> {
        let answer = self.node_state.pause(within(PASS_TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Pause", &status))
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn resume(&mut self, request: ResumeRequest) -> Result<ResumeResponse, ClientError> {
        let answer = self.node_state.resume(within(PASS_TIMEOUT, request)).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Resume", &status))
    }

    /// The state, then whatever changes of it.
    ///
    /// # Errors
    /// [`ClientError::Refused`]; the stream ends with one too, see [`interrupted`](Self::interrupted).
    pub async fn watch(&mut self, request: WatchRequest) -> Result<Streaming<WatchResponse>, ClientError> {
        let answer = self.node_state.watch(request).await;
        answer.map(Response::into_inner).map_err(|status| self.refused("Watch", &status))
    }

    /// Why a watch has ended.
    #[must_use]
    pub fn interrupted(&self, status: &Status) -> ClientError {
        self.refused("Watch", status)
    }

    fn refused(&self, method: &'static str, status: &Status) -> ClientError {
        ClientError::Refused {
            path: self.path.clone(),
            method,
            code: status.code(),
            message: status.message().to_owned(),
            remedy: remedy_for_code(status.code()),
        }
    }
}

/// The request with a time within which it must be answered.
fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

/// What to do, by the deepest error that the system gave.
fn remedy_for_connect(error: &tonic::transport::Error) -> &'static str {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = None;
    while let Some(error) = cause {
        kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = error.source();
    }
    match kind {
        Some(io::ErrorKind::NotFound) => {
            "there is no such socket: start the agent with `trimtab run`, or name its socket with --socket"
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            "nobody serves the socket any more: start the agent with `trimtab run`"
        }
        Some(io::ErrorKind::PermissionDenied) => {
            "this user may not connect: run the command as root, or as a member of the group that owns the socket"
        }
        _ => "see whether it runs and which socket it serves (`trimtab run --socket`)",
    }
}

const fn remedy_for_code(code: Code) -> &'static str {
    match code {
        Code::PermissionDenied => "run the command as root, or as a user that the agent allows",
        Code::Unimplemented => "another program, or another version of the agent, serves the socket",
        Code::ResourceExhausted => "ask less often",
        Code::InvalidArgument => "correct the command line",
        Code::DeadlineExceeded => "the engine may be busy with a step that takes long; its log says more",
        Code::Unavailable | Code::Cancelled => "it may be stopping or starting; try again",
        _ => "its log may say more",
    }
}
