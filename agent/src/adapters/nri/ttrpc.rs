//! Messages of unary calls (ttrpc 1.2, PROTOCOL.md) inside one byte stream.

use prost::Message;
use trimtab_proto::ttrpc::{Request, Response, Status};

use super::mux::fill;

/// Length of the body, stream id (both big endian), type, flags.
const HEADER_BYTES: usize = 10;
/// Longest body, in either direction.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Memory taken for a body before any of it has come.
const FIRST_ALLOCATION: usize = 16 << 10;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// gRPC codes that are sent.
pub mod code {
    /// Refused, or failed for a reason that has no code of its own.
    pub const UNKNOWN: i32 = 2;
    /// The request cannot be read.
    pub const INVALID_ARGUMENT: i32 = 3;
    /// No answer in time.
    pub const DEADLINE_EXCEEDED: i32 = 4;
    /// The answer, or what was asked, is too large.
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    /// There is no such method.
    pub const UNIMPLEMENTED: i32 = 12;
    /// A defect of the agent.
    pub const INTERNAL: i32 = 13;
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody calls.
    Request,
    /// Somebody answers.
    Response,
    /// Data of a streaming call, or what a later version has.
    Other(u8),
}

/// One message; its body is not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The call that it belongs to: odd if the sender of the request is the client.
    pub stream: u32,
    /// What it is.
    pub kind: Kind,
    /// The encoded envelope.
    pub body: Vec<u8>,
}

/// A message longer than is allowed: the stream is not what was taken for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message of stream {stream} claims {length} bytes; no more than {MAX_BODY_BYTES} are allowed")]
pub struct OversizedMessage {
    /// The stream that the message names.
    pub stream: u32,
    /// The length that it claims.
    pub length: usize,
}

/// Takes the messages out of a byte stream. Holds one unfinished message at most.
#[derive(Debug, Default)]
pub struct MessageReader {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// The message whose body is coming, and how much of it is missing.
    open: Option<(RawMessage, usize)>,
}

impl MessageReader {
    /// The next whole message of `input`, which is shortened by what was read; `None` once all of it is.
    ///
    /// # Errors
    /// [`OversizedMessage`]; nothing that follows can be read.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<RawMessage>, OversizedMessage> {
        if self.open.is_none() {
            if !fill(&mut self.header, &mut self.header_bytes, input) {
                return Ok(None);
            }
            self.header_bytes = 0;
            self.open = Some(begin(self.header)?);
        }
        let Some((message, left)) = &mut self.open else { return Ok(None) };
        if let Some((bytes, rest)) = input.split_at_checked((*left).min(input.len())) {
            message.body.extend_from_slice(bytes);
            *left -= bytes.len();
            *input = rest;
        }
        let whole = *left == 0;
        Ok(if whole { self.open.take().map(|(message, _)| message) } else { None })
    }
}

fn begin(header: [u8; HEADER_BYTES]) -> Result<(RawMessage, usize), OversizedMessage> {
    let [a, b, c, d, e, f, g, h, kind, _flags] = header;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let stream = u32::from_be_bytes([e, f, g, h]);
    if length > MAX_BODY_BYTES {
        return Err(OversizedMessage { stream, length });
    }
    let kind = match kind {
        REQUEST => Kind::Request,
        RESPONSE => Kind::Response,
        other => Kind::Other(other),
    };
    Ok((RawMessage { stream, kind, body: Vec::with_capacity(length.min(FIRST_ALLOCATION)) }, length))
}

/// The bytes of a request.
#[must_use]
pub fn request(stream: u32, request: &Request) -> Vec<u8> {
    message(stream, REQUEST, request)
}

/// The bytes of an answer. An empty payload is a valid empty message.
#[must_use]
pub fn success(stream: u32, payload: Vec<u8>) -> Vec<u8> {
    message(stream, RESPONSE, &Response { status: None, payload })
}

/// The bytes of an answer that is an error.
#[must_use]
pub fn failure(stream: u32, status: Status) -> Vec<u8> {
    message(stream, RESPONSE, &Response { status: Some(status), payload: Vec::new() })
}

fn message(stream: u32, kind: u8, body: &impl Message) -> Vec<u8> {
    let length = body.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
    // Longer bodies are refused before they come here.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&body.encode_to_vec());
    bytes
}

#[cfg(test)]
mod tests;
