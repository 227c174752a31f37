//! Lets clients in whose `:authority` is not one: a stream that rewrites header blocks before the HTTP/2 server reads.
//!
//! gRPC clients that dial a unix socket by its bare path send the percent-encoded path as `:authority`; the server's
//! library refuses that and resets the stream before any service is asked. Most clients of the kubelet's query service
//! dial like that. The stream decodes each header block, puts `localhost` where the authority cannot be parsed, and
//! encodes the block again without the dynamic table, so that the table of the server's decoder stays empty and cannot
//! run out of step. Everything else passes byte for byte, and what the server writes is not looked at: its header
//! blocks are between its encoder and the client's decoder, and it never announces another table size than the
//! default of RFC 9113, 4096 bytes, which is what the decoder here holds the client to.

mod frames;
mod headers;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frames::FrameRewriter;

/// Read from the client at once. On the stack, so that an idle connection costs no buffer.
const READ_BYTES: usize = 4096;

/// Capacity that an idle connection may keep.
const KEPT_BYTES: usize = 4096;

/// The client does not speak HTTP/2, or goes beyond what one connection may cost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the connection does not begin as HTTP/2 does")]
    Preface,
    #[error("frame of type {kind} in the middle of a header block")]
    Interleaved { kind: u8 },
    #[error("CONTINUATION without a header block to continue")]
    NothingToContinue,
    #[error("a client cannot push (frame PUSH_PROMISE)")]
    Push,
    #[error("header frame of {bytes} bytes, above the limit of {limit}")]
    FrameTooLarge { bytes: usize, limit: usize },
    #[error("a header frame is shorter than its own padding and priority")]
    Padding,
    #[error("a header block of more than {bytes} bytes in {frames} frames")]
    BlockTooLarge { bytes: usize, frames: usize },
    #[error("headers of more than {bytes} bytes in {fields} fields")]
    ListTooLarge { bytes: usize, fields: usize },
    #[error("a header block ends in the middle of a field")]
    CutShort,
    #[error("a header block cannot be decoded: {detail}")]
    Compression { detail: String },
}

/// True if reading failed because of what the client sent.
pub(crate) fn is_malformed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Malformed>())
}

/// The server's side of a connection, with readable authorities.
pub(crate) struct AuthorityStream<S> {
    inner: S,
    rewriter: FrameRewriter,
    /// Read from the client and not yet rewritten, because what is ready was not yet taken.
    waiting: Vec<u8>,
    /// Rewritten and not yet taken by the server, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
    /// Told once everything before it was taken; the connection is of no use then.
    failed: Option<Malformed>,
}

impl<S> AuthorityStream<S> {
    /// A stream at the beginning of its connection.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, rewriter: FrameRewriter::new(), waiting: Vec::new(), ready: Vec::new(), taken: 0, failed: None }
    }

    /// Rewrites as much as may be ready at once and keeps the rest.
    fn rewrite(&mut self, bytes: &[u8]) {
        match self.rewriter.push(bytes, &mut self.ready) {
            Ok(rest) => self.waiting.extend_from_slice(rest),
            Err(malformed) => self.failed = Some(malformed),
        }
    }

    /// Hands out what is ready; false if nothing is.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
        buf.put_slice(now);
        self.taken += now.len();
        if later.is_empty() {
            self.ready.clear();
            self.ready.shrink_to(KEPT_BYTES);
            self.taken = 0;
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some(malformed) = &this.failed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, malformed.clone())));
            }
            if !this.waiting.is_empty() {
                let waiting = std::mem::take(&mut this.waiting);
                this.rewrite(&waiting);
                continue;
            }
            let mut space = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.rewrite(read.filled()),
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
