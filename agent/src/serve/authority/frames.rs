//! HTTP/2 frames of a client: header blocks are gathered and rewritten, the rest passes (RFC 9113, section 4 and 6).

use super::Malformed;
use super::headers::HeaderRewriter;

/// How every client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags, stream.
const HEAD_BYTES: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE of the server, which keeps to the default.
pub(super) const MAX_FRAME_BYTES: usize = 16_384;

/// Encoded bytes of one header block; twice what the server accepts decoded, so that its own limit answers first.
const MAX_BLOCK_BYTES: usize = 32 * 1024;

/// Frames of one header block; bounds a flood of empty CONTINUATION frames.
const MAX_BLOCK_FRAMES: usize = 32;

/// Rewritten bytes that may wait for the server; one more header block can come on top.
const MAX_READY_BYTES: usize = 16 * 1024;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Where in the byte stream the client is.
#[derive(Debug)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// In the head of a frame.
    Head,
    /// In the payload of a frame that passes; so many bytes are still to come.
    Passing(usize),
    /// In the payload of a header frame.
    Gathering(Head),
}

/// Head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        Self { length, kind, flags, stream: [s0, s1, s2, s3] }
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A header block whose last frame has not come yet.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    frames: usize,
    /// END_STREAM of its HEADERS frame.
    end_stream: u8,
    stream: [u8; 4],
}

/// The client's half of one connection.
pub(super) struct FrameRewriter {
    place: Place,
    /// The head or payload that is being gathered.
    gathered: Vec<u8>,
    block: Option<Block>,
    headers: HeaderRewriter,
}

impl FrameRewriter {
    pub(super) fn new() -> Self {
        Self { place: Place::Preface(0), gathered: Vec::new(), block: None, headers: HeaderRewriter::new() }
    }

    /// Rewrites until the input is used up or enough is ready, and returns what is left of the input.
    ///
    /// # Errors
    /// [`Malformed`]; what was sound before it is in `ready`.
    pub(super) fn push<'a>(&mut self, mut input: &'a [u8], ready: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
        while !input.is_empty() && ready.len() < MAX_READY_BYTES {
            input = match self.place {
                Place::Preface(seen) => self.preface(seen, input, ready)?,
                Place::Head => self.head(input, ready)?,
                Place::Passing(left) => self.pass(left, input, ready),
                Place::Gathering(head) => self.gather(head, input, ready)?,
            };
        }
        Ok(input)
    }

    fn preface<'a>(&mut self, seen: usize, input: &'a [u8], ready: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
        let expected = PREFACE.get(seen..).unwrap_or_default();
        let equal = input.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let (sound, rest) = input.split_at(equal);
        ready.extend_from_slice(sound);
        if equal < input.len().min(expected.len()) {
            return Err(Malformed::Preface);
        }
        self.place = if equal == expected.len() { Place::Head } else { Place::Preface(seen + equal) };
        Ok(rest)
    }

    fn head<'a>(&mut self, input: &'a [u8], ready: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
        let rest = self.fill(HEAD_BYTES, input);
        let Some(bytes) = self.gathered.first_chunk::<HEAD_BYTES>() else { return Ok(rest) };
        let head = Head::parse(bytes);
        self.admit(head)?;
        if matches!(head.kind, HEADERS | CONTINUATION) {
            self.gathered.clear();
            self.place = Place::Gathering(head);
            if head.length == 0 {
                self.end_frame(head, ready)?;
            }
        } else {
            ready.append(&mut self.gathered);
            self.place = if head.length == 0 { Place::Head } else { Place::Passing(head.length) };
        }
        Ok(rest)
    }

    /// # Errors
    /// [`Malformed`] if this frame may not come now, or is a header frame that is too large. Other frames that are
    /// too large pass: the server answers them with the error that RFC 9113 asks for.
    fn admit(&self, head: Head) -> Result<(), Malformed> {
        match (head.kind, &self.block) {
            (PUSH_PROMISE, _) => return Err(Malformed::Push),
            (CONTINUATION, None) => return Err(Malformed::NothingToContinue),
            (CONTINUATION, Some(block)) if block.stream == head.stream => {}
            (kind, Some(_)) => return Err(Malformed::Interleaved { kind }),
            (HEADERS, None) => {}
            (_, None) => return Ok(()),
        }
        if head.length > MAX_FRAME_BYTES {
            return Err(Malformed::FrameTooLarge { bytes: head.length, limit: MAX_FRAME_BYTES });
        }
        Ok(())
    }

    fn pass<'a>(&mut self, left: usize, input: &'a [u8], ready: &mut Vec<u8>) -> &'a [u8] {
        let (now, rest) = input.split_at(left.min(input.len()));
        ready.extend_from_slice(now);
        self.place = if now.len() == left { Place::Head } else { Place::Passing(left - now.len()) };
        rest
    }

    fn gather<'a>(&mut self, head: Head, input: &'a [u8], ready: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
        let rest = self.fill(head.length, input);
        if self.gathered.len() == head.length {
            self.end_frame(head, ready)?;
        }
        Ok(rest)
    }

    /// Gathers up to so many bytes.
    fn fill<'a>(&mut self, wanted: usize, input: &'a [u8]) -> &'a [u8] {
        let missing = wanted.saturating_sub(self.gathered.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        self.gathered.extend_from_slice(now);
        rest
    }

    /// A header frame is complete.
    fn end_frame(&mut self, head: Head, ready: &mut Vec<u8>) -> Result<(), Malformed> {
        let payload = std::mem::take(&mut self.gathered);
        let mut block = match self.block.take() {
            Some(block) => block,
            None => Block { bytes: Vec::new(), frames: 0, end_stream: head.flags & END_STREAM, stream: head.stream },
        };
        let fragment = if head.kind == HEADERS { strip(head, &payload)? } else { &payload };
        block.bytes.extend_from_slice(fragment);
        block.frames += 1;
        if block.bytes.len() > MAX_BLOCK_BYTES || block.frames > MAX_BLOCK_FRAMES {
            return Err(Malformed::BlockTooLarge { bytes: MAX_BLOCK_BYTES, frames: MAX_BLOCK_FRAMES });
        }
        if head.has(END_HEADERS) {
            let rewritten = self.headers.rewrite(&block.bytes)?;
            write_block(&block, &rewritten, ready);
        } else {
            self.block = Some(block);
        }
        self.place = Place::Head;
        Ok(())
    }
}

/// The fragment of a HEADERS frame without padding and priority (RFC 9113, section 6.2).
fn strip(head: Head, payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(PADDED) {
        let (length, after) = rest.split_first().ok_or(Malformed::Padding)?;
        padding = usize::from(*length);
        rest = after;
    }
    if head.has(PRIORITY) {
        rest = rest.get(5..).ok_or(Malformed::Padding)?;
    }
    let fragment = rest.len().checked_sub(padding).ok_or(Malformed::Padding)?;
    rest.get(..fragment).ok_or(Malformed::Padding)
}

/// Writes a block as one HEADERS frame and as many CONTINUATION frames as it takes.
fn write_block(block: &Block, bytes: &[u8], ready: &mut Vec<u8>) {
    let mut rest = bytes;
    let mut kind = HEADERS;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
        let mut flags = if kind == HEADERS { block.end_stream } else { 0 };
        if later.is_empty() {
            flags |= END_HEADERS;
        }
        // At most MAX_FRAME_BYTES, so that the upper byte of the four is zero.
        let length = u32::try_from(now.len()).unwrap_or_default().to_be_bytes();
        ready.extend_from_slice(length.get(1..).unwrap_or_default());
        ready.extend_from_slice(&[kind, flags]);
        ready.extend_from_slice(&block.stream);
        ready.extend_from_slice(now);
        if later.is_empty() {
            return;
        }
        rest = later;
        kind = CONTINUATION;
    }
}
