//! What watchers are told: the parts of the state, each encoded once per change and shared by all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use prost::Message;
use prost::bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use trimtab_proto::node::v1alpha1 as wire;

use super::placements::{self, Wanted};
use super::report::{self, Detail};
use super::stream::{Slot, WatchBody};
use super::{NodeReport, Refused};
use crate::reconcile::history::History;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::report::SubsystemReport;

/// Bounds of the watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Watches that may be open at once.
    pub watchers: usize,
    /// A watcher that takes nothing of what waits for it for this long is sent away.
    pub patience: Duration,
    /// Time without a change after which a watcher is told that the agent is still there.
    pub heartbeat: Duration,
    /// Changes that come closer together than this are told together.
    pub gap: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            watchers: 1_024,
            patience: Duration::from_secs(30),
            heartbeat: Duration::from_secs(30),
            gap: Duration::from_millis(50),
        }
    }
}

/// Bits of a version that count the changes of one run; the bits above are the second at which the agent started, so that
/// a version of an earlier run is smaller than each of this one. 53 bits in all: exact in a JSON number.
const COUNT_BITS: u32 = 20;

/// Field numbers of the parts in `WatchResponse`.
const NODE: u32 = 5;
const SUBSYSTEMS: u32 = 6;
const PLACEMENTS: u32 = 7;

/// The state as it was after one change.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) version: u64,
    /// Versions below are of another run.
    first: u64,
    /// Id of the newest change in the history.
    pub(super) newest_change: u64,
    /// Version at which that was noted.
    noted: u64,
    node: Arc<Part<Arc<NodeReport>>>,
    subsystems: Vec<Arc<Part<Arc<SubsystemReport>>>>,
    placements: Arc<Part<Arc<NodeView>>>,
}

/// A part of the state that changes as a whole.
#[derive(Debug)]
struct Part<T> {
    /// Version of its last change.
    since: u64,
    of: T,
    /// The field of the message, key and length included; made for the first watcher that wants it.
    encoded: OnceLock<Bytes>,
}

impl<T> Part<T> {
    fn new(since: u64, of: T) -> Arc<Self> {
        Arc::new(Self { since, of, encoded: OnceLock::new() })
    }

    fn encoded<M: Message>(&self, tag: u32, message: impl FnOnce(&T) -> M) -> Bytes {
        self.encoded.get_or_init(|| field(tag, &message(&self.of))).clone()
    }
}

fn field(tag: u32, message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    prost::encoding::message::encode(tag, message, &mut bytes);
    bytes.freeze()
}

/// What one watcher wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interest {
    node: bool,
    placements: bool,
    /// `None`: no subsystem; an empty list: all of them.
    subsystems: Option<Vec<String>>,
}

impl Interest {
    fn of(request: &wire::WatchRequest) -> Self {
        let parts: Vec<_> = request.parts().collect();
        let wants = |part| parts.is_empty() || parts.contains(&part);
        Self {
            node: wants(wire::WatchPart::Node),
            placements: wants(wire::WatchPart::Placements),
            subsystems: wants(wire::WatchPart::Subsystems).then(|| request.subsystems.clone()),
        }
    }

    fn includes(&self, subsystem: &str) -> bool {
        let names = self.subsystems.as_ref();
        names.is_some_and(|names| names.is_empty() || names.iter().any(|name| name == subsystem))
    }
}

impl Picture {
    fn first(report: &Arc<NodeReport>, view: &Arc<NodeView>, newest_change: u64) -> Self {
        let started = report.started.max(UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = started.as_secs().max(1) << COUNT_BITS;
        Self {
            version: first,
            first,
            newest_change,
            noted: first,
            node: Part::new(first, Arc::clone(report)),
            subsystems: report.subsystems.iter().map(|of| Part::new(first, Arc::clone(of))).collect(),
            placements: Part::new(first, Arc::clone(view)),
        }
    }

    /// The state after a change; `None` if nothing has changed that a watcher is told of.
    fn next(&self, report: &Arc<NodeReport>, view: &Arc<NodeView>, newest_change: u64) -> Option<Self> {
        let version = self.version + 1;
        let noted = if newest_change == self.newest_change { self.noted } else { version };
        let node = if report::to_node(&self.node.of) == report::to_node(report) {
            Arc::clone(&self.node)
        } else {
            Part::new(version, Arc::clone(report))
        };
        let known = |of: &Arc<SubsystemReport>| self.subsystems.iter().find(|part| Arc::ptr_eq(&part.of, of)).cloned();
        let subsystems = report.subsystems.iter();
        let subsystems = subsystems.map(|of| known(of).unwrap_or_else(|| Part::new(version, Arc::clone(of))));
        let placements = if Arc::ptr_eq(&self.placements.of, view) || *self.placements.of == **view {
            Arc::clone(&self.placements)
        } else {
            Part::new(version, Arc::clone(view))
        };
        let (first, subsystems) = (self.first, subsystems.collect());
        let next = Self { version, first, newest_change, noted, node, subsystems, placements };
        let changed = [noted, next.node.since, next.placements.since].contains(&version)
            || next.subsystems.iter().any(|part| part.since == version);
        changed.then_some(next)
    }

    /// True if what a reader knows is a state of this run.
    pub(super) fn knows(&self, version: u64) -> bool {
        (self.first..=self.version).contains(&version)
    }

    /// True if something was noted in the history since that version.
    pub(super) fn noted_since(&self, seen: u64) -> bool {
        self.noted > seen
    }

    /// The fields that have changed since that version; all of them for `None`.
    pub(super) fn changed_since(&self, seen: Option<u64>, interest: &Interest) -> Vec<Bytes> {
        let is_new = |since: u64| seen.is_none_or(|seen| since > seen);
        let mut fields = Vec::new();
        if interest.node && is_new(self.node.since) {
            fields.push(self.node.encoded(NODE, |report| report::to_node(report)));
        }
        let subsystems = self.subsystems.iter();
        for part in subsystems.filter(|part| is_new(part.since) && interest.includes(part.of.name)) {
            fields.push(part.encoded(SUBSYSTEMS, |of| report::to_subsystem(of, Detail::Full, None)));
        }
        if interest.placements && is_new(self.placements.since) {
            fields.push(self.placements.encoded(PLACEMENTS, |view| placements::to_wire(view, &Wanted::ALL)));
        }
        fields
    }
}

/// Who watches, and what they are told.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: WatchLimits,
    /// `None` after the end.
    pictures: Mutex<Option<watch::Sender<Arc<Picture>>>>,
    slots: Mutex<Slots>,
    history: Arc<History>,
}

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    open: BTreeMap<u64, Arc<Slot>>,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place back.
    pub(super) fn leave(&self, id: u64) {
        self.slots().open.remove(&id);
    }
}

impl Watchers {
    /// Nobody watches yet.
    pub(crate) fn new(
        limits: WatchLimits,
        report: &watch::Receiver<Arc<NodeReport>>,
        view: &watch::Receiver<Arc<NodeView>>,
        history: Arc<History>,
    ) -> Self {
        let first = Picture::first(&report.borrow(), &view.borrow(), history.newest());
        let pictures = Mutex::new(Some(watch::Sender::new(Arc::new(first))));
        Self { shared: Arc::new(Shared { limits, pictures, slots: Mutex::default(), history }) }
    }

    /// A new watch.
    ///
    /// # Errors
    /// [`Refused`] if too many are open, or the agent is stopping.
    pub(super) fn watch(&self, request: &wire::WatchRequest) -> Result<Response<Body>, Refused> {
        let pictures = self.pictures().as_ref().map(watch::Sender::subscribe).ok_or(Refused::Stopping)?;
        let known: Vec<&str> = pictures.borrow().subsystems.iter().map(|part| part.of.name).collect();
        if let Some(name) = request.subsystems.iter().find(|name| !known.contains(&name.as_str())) {
            let detail = format!("there is no subsystem {name:?}; there are {}", known.join(", "));
            return Err(Refused::Argument { field: "subsystems", detail });
        }
        let (id, slot) = self.enter()?;
        let (state, interest) = ((Arc::clone(&self.shared), pictures), Interest::of(request));
        let body = WatchBody::new(state, (id, slot), interest, request.resume_version);
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }

    fn enter(&self) -> Result<(u64, Arc<Slot>), Refused> {
        let limit = self.shared.limits.watchers;
        let mut slots = self.shared.slots();
        if slots.open.len() >= limit {
            return Err(Refused::TooManyWatchers { limit });
        }
        slots.next += 1;
        let (id, slot) = (slots.next, Arc::<Slot>::default());
        slots.open.insert(id, Arc::clone(&slot));
        Ok((id, slot))
    }

    fn pictures(&self) -> MutexGuard<'_, Option<watch::Sender<Arc<Picture>>>> {
        self.shared.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the state until the agent stops, which ends every watch.
    pub(crate) async fn keep(
        self,
        mut report: watch::Receiver<Arc<NodeReport>>,
        mut view: watch::Receiver<Arc<NodeView>>,
        stop: CancellationToken,
    ) {
        let mut noted = self.shared.history.subscribe();
        let mut sweep = tokio::time::interval(self.shared.limits.patience / 4);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = report.changed() => if changed.is_err() { break },
                changed = view.changed() => if changed.is_err() { break },
                changed = noted.changed() => if changed.is_err() { break },
                _ = sweep.tick() => {
                    self.send_slow_away();
                    continue;
                }
            }
            let (report, view) = (report.borrow_and_update().clone(), view.borrow_and_update().clone());
            let newest = *noted.borrow_and_update();
            self.publish(&report, &view, newest);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.shared.limits.gap) => {}
            }
        }
        stop.cancelled().await;
        *self.pictures() = None;
    }

    fn publish(&self, report: &Arc<NodeReport>, view: &Arc<NodeView>, newest_change: u64) {
        if let Some(pictures) = self.pictures().as_ref() {
            let next = pictures.borrow().next(report, view, newest_change);
            if let Some(next) = next {
                pictures.send_replace(Arc::new(next));
            }
        }
    }

    fn send_slow_away(&self) {
        let now = Instant::now();
        let mut slots = self.shared.slots();
        let before = slots.open.len();
        slots.open.retain(|_, slot| !slot.evict_if_stalled(now, self.shared.limits.patience));
        let evicted = before - slots.open.len();
        if evicted > 0 {
            tracing::warn!(evicted, "watchers that took nothing for long were sent away");
        }
    }
}

/// The head of a message: all fields but the parts.
pub(super) fn head(version: u64, newest_change_id: u64, kind: Kind) -> Vec<u8> {
    let (complete, bookmark) = (kind == Kind::Complete, kind == Kind::Bookmark);
    wire::WatchResponse { version, complete, bookmark, newest_change_id, ..wire::WatchResponse::default() }
        .encode_to_vec()
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole state.
    Complete,
    /// What has changed.
    Changes,
    /// A sign of life.
    Bookmark,
}
