//! One connection: register, then answer until it ends.
//!
//! One task reads, one answers, one writes. Requests are answered one after the other, as the runtime asks them; answers
//! to the agent's own calls are found by the reader, so that they never wait behind a request.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_proto::nri::v1alpha1 as nri;

use super::answers::Answers;
use super::caller::{CallError, Caller, Outgoing};
use super::mux::{self, Demux, OversizedFrame, PLUGIN_CONNECTION, Piece, RUNTIME_CONNECTION};
use super::plugin::Plugin;
use super::ttrpc::{Kind, MessageReader, OversizedMessage, RawMessage};
use crate::ports::admission::RuntimePeer;
use crate::ports::nri_stats::NriStats;

/// Name that the agent registers under.
const PLUGIN_NAME: &str = "trimtab";
/// Plugins are asked in ascending order, and each sees what those before it have set: the last one notices every other
/// that sets CPUs.
const PLUGIN_INDEX: &str = "99";
/// Version of NRI whose messages these are.
const NRI_VERSION: &str = "v0.12.2";
/// The runtime takes plugins one after the other, so the answer may be long in coming (nri PR 292).
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(60);
/// What was asked before the agent ends is still answered; above the limit of one answer.
const LAST_ANSWERS: Duration = Duration::from_millis(600);
/// Time for the last bytes to leave.
const LAST_BYTES: Duration = Duration::from_millis(50);
/// Requests and answers that may wait; a runtime that sends more is read no faster than it is answered.
const QUEUE: usize = 64;
const READ_BUFFER: usize = 64 << 10;
/// A buffer that grew beyond this for a large answer is given back.
const KEPT_BUFFER: usize = 64 << 10;

/// What every session needs.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) answers: Answers,
    pub(super) stats: Arc<NriStats>,
    /// Longest time for an answer.
    pub(super) answer_limit: Duration,
    pub(super) live: watch::Sender<Option<Live>>,
}

/// A session that is in use.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) caller: Caller,
    pub(super) peer: RuntimePeer,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionEnd {
    #[error("the agent is ending")]
    Cancelled,
    #[error("the container runtime closed the connection")]
    Closed,
    #[error("cannot {op} the NRI connection")]
    Io {
        op: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the container runtime does not speak NRI")]
    Frame(#[from] OversizedFrame),
    #[error("the container runtime does not speak ttrpc")]
    Message(#[from] OversizedMessage),
    #[error("cannot register")]
    Registration(#[from] CallError),
    #[error("the container runtime could not be told in time what is to be changed")]
    NotSynchronized,
}

/// A request and when it came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: RawMessage,
    pub(super) at: Instant,
}

/// Registers and answers until the connection ends or the agent does.
pub(super) async fn run(stream: UnixStream, shared: &Shared, cancel: &CancellationToken) -> SessionEnd {
    let (from_runtime, to_runtime) = stream.into_split();
    let (out, outgoing) = mpsc::channel(QUEUE);
    let (requests, arrived) = mpsc::channel(QUEUE);
    let caller = Caller::new(out.clone());
    let mut reading = pin!(read(from_runtime, requests, caller.clone(), cancel));
    let mut answering = pin!(Plugin::new(shared.clone(), caller.clone()).answer_all(arrived, out));
    let mut writing = pin!(write(to_runtime, outgoing));
    let mut registering = pin!(register(&caller, &shared.stats));
    let end = tokio::select! {
        end = &mut reading => end,
        // The runtime may ask before it answers, so it is read and answered from the start.
        Err(error) = &mut registering => error.into(),
        error = &mut writing => SessionEnd::Io { op: "write to", source: error },
        // Ends before the others if no answer can leave any more, or nothing will be asked.
        end = &mut answering => end,
    };
    if matches!(end, SessionEnd::Cancelled) {
        // What is not answered and written by then is decided by the end of the connection.
        let last = async {
            tokio::select! { _ = &mut answering => true, _ = &mut writing => false }
        };
        if let Ok(true) = tokio::time::timeout(LAST_ANSWERS, last).await {
            drop(tokio::time::timeout(LAST_BYTES, &mut writing).await);
        }
    }
    caller.end();
    shared.live.send_if_modified(|live| live.take().is_some());
    shared.stats.record_connected(false);
    end
}

/// Ends only if the registration fails.
async fn register(caller: &Caller, stats: &NriStats) -> Result<std::convert::Infallible, CallError> {
    stats.record_registration();
    let request = nri::RegisterPluginRequest {
        plugin_name: PLUGIN_NAME.to_owned(),
        plugin_idx: PLUGIN_INDEX.to_owned(),
        nri_version: NRI_VERSION.to_owned(),
    };
    caller.call::<nri::Empty>("RegisterPlugin", &request, REGISTRATION_PATIENCE).await?;
    std::future::pending().await
}

/// Reads until the end, hands requests on and answers to those who wait.
async fn read(
    mut from: OwnedReadHalf,
    requests: mpsc::Sender<Arrived>,
    caller: Caller,
    cancel: &CancellationToken,
) -> SessionEnd {
    let mut buffer = vec![0; READ_BUFFER];
    let mut inbox = Inbox { requests, caller, demux: Demux::default(), readers: Default::default() };
    loop {
        let read = tokio::select! {
            () = cancel.cancelled() => return SessionEnd::Cancelled,
            read = from.read(&mut buffer) => read,
        };
        let length = match read {
            Ok(0) => return SessionEnd::Closed,
            Ok(length) => length,
            Err(source) => return SessionEnd::Io { op: "read from", source },
        };
        if let Err(end) = inbox.deliver(buffer.get(..length).unwrap_or_default()).await {
            return end;
        }
    }
}

/// Puts messages together again and hands them on.
struct Inbox {
    requests: mpsc::Sender<Arrived>,
    caller: Caller,
    demux: Demux,
    /// Of the runtime's calls, and of the answers to the agent's.
    readers: [MessageReader; 2],
}

impl Inbox {
    /// Frames of other connections are skipped, and so is what no unary call consists of.
    async fn deliver(&mut self, mut bytes: &[u8]) -> Result<(), SessionEnd> {
        let at = Instant::now();
        let [requests, answers] = &mut self.readers;
        while let Some(Piece { connection, bytes: mut piece }) = self.demux.next(&mut bytes)? {
            match connection {
                PLUGIN_CONNECTION => {
                    while let Some(message) = requests.next(&mut piece)? {
                        if message.kind == Kind::Request {
                            let arrived = Arrived { message, at };
                            self.requests.send(arrived).await.map_err(|_| SessionEnd::Closed)?;
                        }
                    }
                }
                RUNTIME_CONNECTION => {
                    while let Some(message) = answers.next(&mut piece)? {
                        if message.kind == Kind::Response {
                            self.caller.resolve(message);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes messages in frames, one at a time; ends if it cannot, and never ends while somebody may write.
async fn write(mut to: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Outgoing>) -> io::Error {
    let mut frames = Vec::new();
    while let Some(Outgoing { connection, message }) = outgoing.recv().await {
        mux::write_frames(connection, &message, &mut frames);
        if let Err(error) = to.write_all(&frames).await {
            return error;
        }
        frames.clear();
        frames.shrink_to(KEPT_BUFFER);
    }
    io::Error::from(io::ErrorKind::BrokenPipe)
}
