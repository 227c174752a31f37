//! The runtime's end of the connection, as the Go side behaves: written from the protocol, not from the agent's code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use trimtab_proto::ttrpc::{Request, Response, Status};

/// The runtime reads a connection through a buffer of this size and closes everything on a longer frame.
pub(crate) const GO_BUFFER: usize = 4096;
pub(crate) const PLUGIN: u32 = 1;
pub(crate) const RUNTIME: u32 = 2;
const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";

/// How bytes leave.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Split {
    /// As Go does: the first 4096 bytes of a message in one frame, the rest in another, each in one write.
    Go,
    /// Frames and writes of at most this many bytes.
    Pieces(usize),
    /// Frames and writes of random lengths; with a seed.
    Random(u64),
}

/// Why a call to the plugin gave nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CallFailure {
    /// It answered with an error.
    Status(i32, String),
    /// It did not answer in time.
    Timeout,
    /// It is gone.
    Closed,
}

/// A call of the plugin.
pub(crate) struct PluginCall {
    pub(crate) stream: u32,
    pub(crate) method: String,
    pub(crate) payload: Vec<u8>,
    /// A request of the runtime was unanswered when it came.
    pub(crate) during_a_request: bool,
}

/// One connection of a plugin.
pub(crate) struct Wire {
    out: mpsc::UnboundedSender<Vec<u8>>,
    pending: Mutex<BTreeMap<u32, oneshot::Sender<Vec<u8>>>>,
    next_stream: AtomicU32,
    noisy: bool,
    closed: AtomicBool,
    closing: Notify,
    violations: Arc<Mutex<Vec<String>>>,
    /// Longest mux frame that came, header included.
    pub(crate) longest_frame: AtomicUsize,
}

impl Wire {
    /// Starts to read and write; calls of the plugin come out of the channel.
    pub(crate) fn start(
        stream: UnixStream,
        split: Split,
        noisy: bool,
        violations: Arc<Mutex<Vec<String>>>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<PluginCall>) {
        let (read, write) = stream.into_split();
        let (out, outgoing) = mpsc::unbounded_channel();
        let (calls, called) = mpsc::unbounded_channel();
        let wire = Arc::new(Self {
            out,
            pending: Mutex::default(),
            next_stream: AtomicU32::new(1),
            noisy,
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            violations,
            longest_frame: AtomicUsize::new(0),
        });
        tokio::spawn(write_all(Arc::clone(&wire), write, outgoing, split));
        tokio::spawn(read_all(Arc::clone(&wire), read, calls));
        (wire, called)
    }

    /// Closes the connection, whatever is in flight.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
        self.pending.lock().unwrap().clear();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until the connection is closed by either side.
    pub(crate) async fn closed(&self) {
        loop {
            let closing = self.closing.notified();
            if self.is_closed() {
                return;
            }
            closing.await;
        }
    }

    /// Calls the plugin.
    pub(crate) async fn call(
        &self,
        method: &str,
        mut payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, CallFailure> {
        if self.noisy {
            payload.extend_from_slice(UNKNOWN_FIELDS);
        }
        let request = Request {
            service: PLUGIN_SERVICE.into(),
            method: method.into(),
            payload,
            timeout_nano: i64::try_from(patience.as_nanos()).unwrap(),
        };
        let mut body = request.encode_to_vec();
        let mut ids = 2;
        if self.noisy {
            // metadata (5) { key (1), value (2) }, as a tracing interceptor adds it; and ids are skipped.
            body.extend_from_slice(b"\x2a\x0f\x0a\x0btraceparent\x12\x00");
            ids = 6;
        }
        let stream = self.next_stream.fetch_add(ids, Ordering::SeqCst);
        self.call_raw(stream, &body, patience).await
    }

    /// Calls with an envelope of one's own.
    pub(crate) async fn call_raw(&self, stream: u32, body: &[u8], patience: Duration) -> Result<Vec<u8>, CallFailure> {
        let (reply, answer) = oneshot::channel();
        self.pending.lock().unwrap().insert(stream, reply);
        if self.is_closed() {
            return Err(CallFailure::Closed);
        }
        self.send(PLUGIN, &ttrpc(stream, 1, body));
        let answered = tokio::time::timeout(patience, answer).await;
        self.pending.lock().unwrap().remove(&stream);
        let body = answered.map_err(|_| CallFailure::Timeout)?.map_err(|_| CallFailure::Closed)?;
        let response = Response::decode(body.as_slice()).expect("an answer is a Response");
        match response.status {
            Some(Status { code, message }) if code != 0 => Err(CallFailure::Status(code, message)),
            _ => Ok(response.payload),
        }
    }

    /// Answers a call of the plugin.
    pub(crate) fn answer(&self, stream: u32, answer: Result<Vec<u8>, (i32, String)>) {
        let response = match answer {
            Ok(payload) => Response { status: None, payload },
            Err((code, message)) => Response { status: Some(Status { code, message }), payload: Vec::new() },
        };
        self.send(RUNTIME, &ttrpc(stream, 2, &response.encode_to_vec()));
    }

    /// Sends one message of a connection.
    pub(crate) fn send(&self, connection: u32, message: &[u8]) {
        if self.noisy {
            drop(self.out.send(frame(9, b"nobody listens here")));
        }
        drop(self.out.send([&connection.to_be_bytes(), message].concat()));
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        drop(self.out.send([&RAW.to_be_bytes(), bytes].concat()));
    }

    fn violation(&self, text: String) {
        self.violations.lock().unwrap().push(text);
        self.close();
    }
}

/// Not a connection: what follows is written as it is.
const RAW: u32 = u32::MAX;

/// Field 500 with a number and 501 with a text.
const UNKNOWN_FIELDS: &[u8] = b"\xa0\x1f\x07\xaa\x1f\x03new";

/// A ttrpc message.
pub(crate) fn ttrpc(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0], body].concat()
}

/// A mux frame.
pub(crate) fn frame(connection: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&connection.to_be_bytes()[..], &length.to_be_bytes(), payload].concat()
}

async fn write_all(
    wire: Arc<Wire>,
    mut to: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    split: Split,
) {
    let mut random = SmallRng::seed_from_u64(if let Split::Random(seed) = split { seed } else { 0 });
    loop {
        let bytes = tokio::select! {
            () = wire.closed() => return,
            bytes = outgoing.recv() => bytes,
        };
        let Some(bytes) = bytes else { return };
        let (connection, message) = bytes.split_at(4);
        let connection = u32::from_be_bytes(connection.try_into().unwrap());
        let frames = if connection == RAW { message.to_vec() } else { frames(connection, message, split, &mut random) };
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let length = match split {
                Split::Go => rest.len(),
                Split::Pieces(length) => length,
                Split::Random(_) => random.random_range(1..200),
            };
            let (now, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            if to.write_all(now).await.is_err() {
                wire.close();
                return;
            }
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn frames(connection: u32, message: &[u8], split: Split, random: &mut SmallRng) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut rest = message;
    let mut first = true;
    while !rest.is_empty() {
        let length = match split {
            Split::Go if first => GO_BUFFER,
            Split::Go => rest.len(),
            Split::Pieces(length) => length,
            Split::Random(_) => random.random_range(1..300),
        };
        let (now, later) = rest.split_at(length.min(rest.len()));
        frames.extend(frame(connection, now));
        rest = later;
        first = false;
    }
    frames
}

async fn read_all(wire: Arc<Wire>, mut from: OwnedReadHalf, calls: mpsc::UnboundedSender<PluginCall>) {
    let mut streams: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut last_id = 0;
    loop {
        let mut header = [0; 8];
        let read = tokio::select! {
            () = wire.closed() => return,
            read = from.read_exact(&mut header) => read,
        };
        if read.is_err() {
            wire.close();
            return;
        }
        let connection = u32::from_be_bytes(header[..4].try_into().unwrap());
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        wire.longest_frame.fetch_max(length + header.len(), Ordering::SeqCst);
        if length > GO_BUFFER {
            wire.violation(format!("a mux frame of {length} bytes: read: cannot allocate memory"));
            return;
        }
        let mut payload = vec![0; length];
        if from.read_exact(&mut payload).await.is_err() {
            wire.close();
            return;
        }
        let stream = streams.entry(connection).or_default();
        stream.extend(payload);
        while let Some((id, kind, body)) = take_message(stream) {
            match (connection, kind) {
                (PLUGIN, 2) => {
                    if let Some(reply) = wire.pending.lock().unwrap().remove(&id) {
                        drop(reply.send(body));
                    }
                }
                (RUNTIME, 1) => {
                    if id % 2 == 0 || id <= last_id {
                        wire.violation(format!("stream id {id} after {last_id}"));
                        return;
                    }
                    last_id = id;
                    let request = Request::decode(body.as_slice()).unwrap();
                    let during_a_request = !wire.pending.lock().unwrap().is_empty();
                    let Request { method, payload, .. } = request;
                    drop(calls.send(PluginCall { stream: id, method, payload, during_a_request }));
                }
                other => wire.violation(format!("message of kind {other:?}")),
            }
        }
    }
}

fn take_message(stream: &mut Vec<u8>) -> Option<(u32, u8, Vec<u8>)> {
    let header: [u8; 10] = stream.get(..10)?.try_into().unwrap();
    let length = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
    let body = stream.get(10..10 + length)?.to_vec();
    stream.drain(..10 + length);
    Some((u32::from_be_bytes(header[4..8].try_into().unwrap()), header[8], body))
}
