//! Open watches: who is told of what, bookmarks, and how a watch ends.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::log::Call;
use super::path::Place;
use super::select::Selection;
use super::status::Refused;
use super::store::StoreEvent;
use super::{ApiServer, broken};

/// Pause between two bookmarks of the API server, about.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// `--min-request-timeout` of the API server.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// What a watch is sent.
type Line = Result<Bytes, io::Error>;

#[derive(Debug)]
struct Watcher {
    group: String,
    plural: String,
    selection: Selection,
    only_metadata: bool,
    out: mpsc::UnboundedSender<Line>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Watches {
    open: Vec<Watcher>,
    /// Those that are told nothing; kept, so that they do not end.
    muted: Vec<Watcher>,
}

impl Watches {
    pub(super) fn tell(&mut self, event: &StoreEvent) {
        self.open.retain(|watcher| watcher.tell(event));
    }

    /// Ends all with the event that tells a client to list again.
    pub(super) fn expire(&mut self, now: u64) {
        for watcher in self.open.drain(..) {
            let _gone = watcher.out.send(line("ERROR", &Refused::gone(0, now).object()));
        }
    }

    /// Ends all in the middle of their streams.
    pub(super) fn cut(&mut self) {
        for watcher in self.open.drain(..).chain(self.muted.drain(..)) {
            let _gone = watcher.out.send(Err(broken()));
        }
    }

    pub(super) fn count(&mut self) -> usize {
        self.open.retain(|watcher| !watcher.out.is_closed());
        self.open.len()
    }

    pub(super) fn mute(&mut self) {
        self.muted.append(&mut self.open);
    }

    fn is_muted(&self, out: &mpsc::UnboundedSender<Line>) -> bool {
        self.muted.iter().any(|watcher| watcher.out.same_channel(out))
    }
}

impl Watcher {
    /// False once nobody listens any more.
    fn tell(&self, event: &StoreEvent) -> bool {
        if event.group != self.group || event.plural != self.plural {
            return !self.out.is_closed();
        }
        let (before, now) = (self.selection.takes(&event.before), self.selection.takes(&event.object));
        let what = match (event.what, before, now) {
            (_, false, false) => return !self.out.is_closed(),
            ("DELETED", ..) | (_, true, false) => "DELETED",
            (_, false, true) => "ADDED",
            (what, true, true) => what,
        };
        let object = shape(&event.object, self.only_metadata);
        self.out.send(line(what, &object)).is_ok()
    }
}

/// True if only metadata was asked for.
pub(super) fn only_metadata(call: &Call) -> bool {
    call.accept.contains("as=PartialObjectMetadata")
}

/// An object in the form that was asked for.
pub(super) fn shape(object: &Value, only_metadata: bool) -> Value {
    if !only_metadata {
        return object.clone();
    }
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn line(what: &str, object: &Value) -> Line {
    let mut line = serde_json::to_vec(&json!({"type": what, "object": object})).unwrap();
    line.push(b'\n');
    Ok(line.into())
}

/// Begins a watch.
pub(super) fn watch(server: &ApiServer, call: &Call, place: &Place) -> Result<Response<Body>, Refused> {
    let mut state = server.state();
    let kind = state.store.kind(place).unwrap_or_default();
    let (out, lines) = mpsc::unbounded_channel();
    let watcher = Watcher {
        group: place.group.clone(),
        plural: place.plural.clone(),
        selection: Selection::of(call),
        only_metadata: only_metadata(call),
        out,
    };
    match call.parameter("resourceVersion") {
        "" | "0" => {
            for object in state.store.list(&Place { name: String::new(), ..place.clone() }) {
                if watcher.selection.takes(object) {
                    let _sent = watcher.out.send(line("ADDED", &shape(object, watcher.only_metadata)));
                }
            }
        }
        version => {
            let version = version.parse().map_err(|_| Refused::new(400, "BadRequest", "bad resourceVersion"))?;
            for event in state.store.since(version)? {
                watcher.tell(&event);
            }
        }
    }
    let wants_bookmarks = ["true", "1"].contains(&call.parameter("allowWatchBookmarks"));
    let timeout = call.parameter("timeoutSeconds").parse().map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let bookmark = json!({"apiVersion": place.api_version(), "kind": kind, "metadata": {"resourceVersion": ""}});
    let life = Life { server: server.clone(), bookmark, wants_bookmarks, timeout };
    tokio::spawn(life.live(watcher.out.clone()));
    state.watches.open.push(watcher);
    drop(state);
    let body = Body::from_stream(UnboundedReceiverStream::new(lines));
    Ok(Response::builder().header(header::CONTENT_TYPE, "application/json").body(body).unwrap())
}

struct Life {
    server: ApiServer,
    bookmark: Value,
    wants_bookmarks: bool,
    timeout: Duration,
}

impl Life {
    /// Sends bookmarks until the watch ends, and ends it in its time.
    async fn live(mut self, out: mpsc::UnboundedSender<Line>) {
        let mut bookmarks = tokio::time::interval(BOOKMARKS);
        bookmarks.tick().await;
        let end = tokio::time::sleep(self.timeout);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = out.closed() => return,
                () = &mut end => {
                    if self.server.state().watches.is_muted(&out) {
                        return;
                    }
                    break;
                }
                _ = bookmarks.tick(), if self.wants_bookmarks => {
                    if self.server.state().watches.is_muted(&out) {
                        continue;
                    }
                    let version = self.server.state().store.version().to_string();
                    self.bookmark["metadata"]["resourceVersion"] = version.into();
                    let _gone = out.send(line("BOOKMARK", &self.bookmark));
                }
            }
        }
        // The stream ends once its last sender is gone: the one that is told of events.
        self.server.state().watches.open.retain(|watcher| !watcher.out.same_channel(&out));
    }
}

/// A list or an object in the form that was asked for.
pub(super) fn shape_all(object: &Value, only_metadata: bool) -> Value {
    let Some(items) = object["items"].as_array().filter(|_| only_metadata) else {
        return if object["kind"] == "Status" { object.clone() } else { shape(object, only_metadata) };
    };
    let items: Vec<Value> = items.iter().map(|item| shape(item, true)).collect();
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": object["metadata"], "items": items,
    })
}
