//! Many byte streams over one: frames of a connection id, a length and a piece of that connection's stream.
//!
//! A frame is a slice of a stream, not a message: one message may span frames, one frame may hold several.

/// The runtime calls the plugin.
pub const PLUGIN_CONNECTION: u32 = 1;
/// The plugin calls the runtime.
pub const RUNTIME_CONNECTION: u32 = 2;

/// Connection id and length, big endian.
const HEADER_BYTES: usize = 8;
/// Longest frame that is sent, header included. The runtime reads a connection through a buffer of 4096 bytes and closes
/// everything when a queued frame is longer than what it reads into.
pub const MAX_FRAME_BYTES: usize = 4096;
const MAX_SENT_PAYLOAD: usize = MAX_FRAME_BYTES - HEADER_BYTES;
/// Longest payload that is accepted: the longest message with its header (NRI, `pkg/net/multiplex`).
pub const MAX_RECEIVED_PAYLOAD: usize = 10 + (4 << 20);

/// A piece of one connection's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The connection.
    pub connection: u32,
    /// What comes next on it; never empty.
    pub bytes: &'a [u8],
}

/// A frame that cannot be: the stream is not what was taken for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of connection {connection} claims {length} bytes; no more than {MAX_RECEIVED_PAYLOAD} are allowed")]
pub struct OversizedFrame {
    /// The connection that the frame names.
    pub connection: u32,
    /// The length that it claims.
    pub length: usize,
}

/// Takes a stream apart. Keeps nothing but an unfinished header: pieces are handed on as they come.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    connection: u32,
    payload_left: usize,
}

impl Demux {
    /// The next piece of `input`, which is shortened by what was read; `None` once all of it is.
    ///
    /// # Errors
    /// [`OversizedFrame`]; nothing that follows can be read.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, OversizedFrame> {
        loop {
            if self.payload_left > 0 {
                let Some((bytes, rest)) = input.split_at_checked(self.payload_left.min(input.len())) else {
                    return Ok(None);
                };
                *input = rest;
                self.payload_left -= bytes.len();
                let piece = Piece { connection: self.connection, bytes };
                return Ok((!bytes.is_empty()).then_some(piece));
            }
            if !fill(&mut self.header, &mut self.header_bytes, input) {
                return Ok(None);
            }
            self.header_bytes = 0;
            let [a, b, c, d, e, f, g, h] = self.header;
            self.connection = u32::from_be_bytes([a, b, c, d]);
            let length = usize::try_from(u32::from_be_bytes([e, f, g, h])).unwrap_or(usize::MAX);
            if length > MAX_RECEIVED_PAYLOAD {
                return Err(OversizedFrame { connection: self.connection, length });
            }
            self.payload_left = length;
        }
    }
}

/// Moves bytes from `input` to where `have` says; true once the header is whole.
pub(super) fn fill(header: &mut [u8], have: &mut usize, input: &mut &[u8]) -> bool {
    let wanted = header.get_mut(*have..).unwrap_or_default();
    if let Some((bytes, rest)) = input.split_at_checked(wanted.len().min(input.len())) {
        for (to, from) in wanted.iter_mut().zip(bytes) {
            *to = *from;
        }
        *have += bytes.len();
        *input = rest;
    }
    *have == header.len()
}

/// Appends the frames that carry a message.
pub fn write_frames(connection: u32, message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + (message.len() / MAX_SENT_PAYLOAD + 1) * HEADER_BYTES);
    for payload in message.chunks(MAX_SENT_PAYLOAD) {
        out.extend_from_slice(&connection.to_be_bytes());
        // A chunk is shorter than a frame.
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(payload);
    }
}

#[cfg(test)]
mod tests;
