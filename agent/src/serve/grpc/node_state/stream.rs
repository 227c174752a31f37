//! One watch as a body of a response: what waits for a reader, in pieces, and what becomes of a slow one.
//!
//! HTTP asks a body for its next piece only when the reader has room for it, so a slow reader is told of the newest state
//! and never of each one between, and what it has not taken is at most one piece here and one on its way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::HeaderMap;
use http_body::{Body, Frame};
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::watch::{Interest, Kind, Picture, Shared, head};
use super::{Refused, status};

/// Bytes handed over at once. They are copied, so that a reader which stops reading pins nothing that is shared.
const PIECE_BYTES: usize = 16 * 1024;

/// What waits for one reader.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    fields: VecDeque<Bytes>,
    /// When the last piece was handed over, until the next is asked for.
    handed_over: Option<Instant>,
    evicted: bool,
}

impl Slot {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the reader has taken nothing for that long; what waits for it is dropped then.
    pub(super) fn evict_if_stalled(&self, now: Instant, patience: Duration) -> bool {
        let mut waiting = self.waiting();
        let stalled = waiting.handed_over.is_some_and(|since| now.saturating_duration_since(since) >= patience);
        if stalled {
            waiting.evicted = true;
            waiting.fields = VecDeque::new();
        }
        stalled
    }
}

impl Waiting {
    /// The next piece; `None` if nothing waits.
    fn piece(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(self.fields.iter().map(Bytes::len).sum::<usize>().min(PIECE_BYTES));
        while let Some(field) = self.fields.front_mut() {
            let room = PIECE_BYTES - piece.len();
            if field.len() > room {
                piece.put_slice(field.get(..room).unwrap_or_default());
                field.advance(room);
                break;
            }
            piece.put_slice(field);
            self.fields.pop_front();
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

/// The body.
pub(super) struct WatchBody {
    shared: Arc<Shared>,
    /// `None` after the end.
    pictures: Option<WatchStream<Arc<Picture>>>,
    id: u64,
    slot: Arc<Slot>,
    interest: Interest,
    /// Version that the reader will know once it has read what was handed over; `None`: nothing of this run.
    seen: Option<u64>,
    /// Id of the newest change that was noted then.
    newest_change: u64,
    resume: u64,
    heartbeat: Pin<Box<Sleep>>,
}

impl WatchBody {
    pub(super) fn new(
        (shared, pictures): (Arc<Shared>, watch::Receiver<Arc<Picture>>),
        (id, slot): (u64, Arc<Slot>),
        interest: Interest,
        resume: u64,
    ) -> Self {
        let heartbeat = Box::pin(tokio::time::sleep(shared.limits.heartbeat));
        let pictures = Some(WatchStream::new(pictures));
        Self { shared, pictures, id, slot, interest, seen: None, newest_change: 0, resume, heartbeat }
    }

    /// Puts a message of these fields into the slot and hands over its first piece.
    fn tell(&mut self, kind: Kind, fields: Vec<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.heartbeat.as_mut().reset(Instant::now() + self.shared.limits.heartbeat);
        let head = head(self.seen.unwrap_or(self.resume), self.newest_change, kind);
        let length = head.len() + fields.iter().map(Bytes::len).sum::<usize>();
        debug_assert!(u32::try_from(length).is_ok(), "the state of one node is far below 4 GiB");
        let mut first = BytesMut::with_capacity(5 + head.len());
        first.put_u8(0);
        first.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        first.put_slice(&head);
        let mut waiting = self.slot.waiting();
        waiting.fields.push_back(first.freeze());
        waiting.fields.extend(fields);
        waiting.handed_over = Some(Instant::now());
        Poll::Ready(waiting.piece().map(|piece| Ok(Frame::data(piece))))
    }

    /// Ends the stream with this status.
    fn end(&mut self, refused: &Refused) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.pictures = None;
        let mut trailers = HeaderMap::new();
        match status(refused).add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(status))),
        }
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.pictures.is_none() {
            return Poll::Ready(None);
        }
        {
            let mut waiting = self.slot.waiting();
            waiting.handed_over = None;
            if waiting.evicted {
                drop(waiting);
                let (patience, version) = (self.shared.limits.patience, self.seen.unwrap_or(self.resume));
                return self.end(&Refused::TooSlow { patience, version });
            }
            if let Some(piece) = waiting.piece() {
                waiting.handed_over = Some(Instant::now());
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        while let Some(pictures) = self.pictures.as_mut() {
            let picture = match Pin::new(pictures).poll_next(cx) {
                Poll::Ready(Some(picture)) => picture,
                Poll::Ready(None) => return self.end(&Refused::Stopping),
                Poll::Pending => break,
            };
            let known = self.seen.or(Some(self.resume).filter(|version| picture.knows(*version)));
            let fields = picture.changed_since(known, &self.interest);
            let kind = match known {
                None => Kind::Complete,
                Some(known) if fields.is_empty() && !picture.noted_since(known) => Kind::Bookmark,
                Some(_) => Kind::Changes,
            };
            let is_first = self.seen.replace(picture.version).is_none();
            self.newest_change = picture.newest_change;
            // Who resumes at the newest version is told so at once.
            if is_first || kind == Kind::Changes {
                return self.tell(kind, fields);
            }
        }
        if self.heartbeat.as_mut().poll(cx).is_ready() {
            return self.tell(Kind::Bookmark, Vec::new());
        }
        Poll::Pending
    }
}

impl Drop for WatchBody {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}
