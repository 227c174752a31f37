//! Asks a running agent over its socket; every failure says how to reach it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::node::v1alpha1::{
    GetReportRequest, GetTopologyRequest, ListPlacementsRequest, ListPlacementsResponse, NodeReport, Topology,
};

/// Time for the connection and for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);

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
        .timeout(TIMEOUT)
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
        match self.node_state.get_report(GetReportRequest::default()).await {
            Ok(answer) => Ok(answer.into_inner().report.unwrap_or_default()),
            Err(status) => Err(self.refused("GetReport", &status)),
        }
    }

    /// Who holds which CPUs and memory.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn placements(&mut self) -> Result<ListPlacementsResponse, ClientError> {
        match self.node_state.list_placements(ListPlacementsRequest::default()).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.refused("ListPlacements", &status)),
        }
    }

    /// The machine and who uses it.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn topology(&mut self) -> Result<Topology, ClientError> {
        match self.node_state.get_topology(GetTopologyRequest {}).await {
            Ok(answer) => Ok(answer.into_inner().topology.unwrap_or_default()),
            Err(status) => Err(self.refused("GetTopology", &status)),
        }
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
        Code::Unavailable | Code::Cancelled => "it may be stopping or starting; try again",
        _ => "its log may say more",
    }
}
