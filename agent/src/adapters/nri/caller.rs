//! Calls to the runtime: stream ids, and answers that find their way back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use trimtab_proto::ttrpc::{Request, Response, Status};

use super::mux::RUNTIME_CONNECTION;
use super::ttrpc::{self, RawMessage};

/// Service that the runtime serves.
const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

/// Bytes for one connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) connection: u32,
    pub(super) message: Vec<u8>,
}

/// A call to the runtime failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The session ended before the answer came.
    #[error("the session with the container runtime ended before it answered {method}")]
    Ended {
        /// The method.
        method: &'static str,
    },
    /// No answer in time.
    #[error("the container runtime has not answered {method} within {seconds} s")]
    Timeout {
        /// The method.
        method: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// It answered with an error.
    #[error("the container runtime refused {method} (code {code}): {message}")]
    Refused {
        /// The method.
        method: &'static str,
        /// A gRPC code.
        code: i32,
        /// Its words.
        message: String,
    },
    /// Its answer cannot be read.
    #[error("the container runtime's answer to {method} cannot be read")]
    Unreadable {
        /// The method.
        method: &'static str,
        /// Where it breaks off.
        #[source]
        source: prost::DecodeError,
    },
}

/// Calls the runtime over one session; copies share the session.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    out: mpsc::Sender<Outgoing>,
    pending: Arc<Mutex<Pending>>,
}

#[derive(Debug)]
struct Pending {
    /// Odd and rising, as a client's ids must be.
    next_stream: u32,
    /// `None` once the session is over.
    waiting: Option<BTreeMap<u32, oneshot::Sender<Vec<u8>>>>,
}

impl Caller {
    pub(super) fn new(out: mpsc::Sender<Outgoing>) -> Self {
        let pending = Pending { next_stream: 1, waiting: Some(BTreeMap::new()) };
        Self { out, pending: Arc::new(Mutex::new(pending)) }
    }

    /// Calls and waits.
    pub(super) async fn call<R: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<R, CallError> {
        let answered = async {
            let answer = self.send(method, request, patience).await?;
            answer.await.map_err(|_| CallError::Ended { method })
        };
        let Ok(body) = tokio::time::timeout(patience, answered).await else {
            self.with(|pending| {
                if let Some(waiting) = &mut pending.waiting {
                    waiting.retain(|_, reply| !reply.is_closed());
                }
            });
            return Err(CallError::Timeout { method, seconds: patience.as_secs() });
        };
        let unreadable = |source| CallError::Unreadable { method, source };
        let response = Response::decode(body?.as_slice()).map_err(unreadable)?;
        match response.status {
            Some(Status { code, message }) if code != 0 => Err(CallError::Refused { method, code, message }),
            _ => R::decode(response.payload.as_slice()).map_err(unreadable),
        }
    }

    async fn send(
        &self,
        method: &'static str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Vec<u8>>, CallError> {
        let request = Request {
            service: RUNTIME_SERVICE.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX),
        };
        let ended = CallError::Ended { method };
        let Ok(place) = self.out.reserve().await else { return Err(ended) };
        let (reply, answer) = oneshot::channel();
        // Ids must rise on the wire, so nobody may send between taking one and using it.
        self.with(|pending| {
            let Some(waiting) = &mut pending.waiting else { return Err(ended) };
            let stream = pending.next_stream;
            pending.next_stream = stream.wrapping_add(2);
            waiting.insert(stream, reply);
            place.send(Outgoing { connection: RUNTIME_CONNECTION, message: ttrpc::request(stream, &request) });
            Ok(answer)
        })
    }

    /// An answer has come. One that nobody waits for is dropped.
    pub(super) fn resolve(&self, message: RawMessage) {
        let reply = self.with(|pending| pending.waiting.as_mut().and_then(|waiting| waiting.remove(&message.stream)));
        if let Some(reply) = reply {
            drop(reply.send(message.body));
        }
    }

    /// Ends all calls, and those to come.
    pub(super) fn end(&self) {
        self.with(|pending| pending.waiting = None);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pending) -> T) -> T {
        act(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
