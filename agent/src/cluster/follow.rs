//! One collection, listed once and then watched: what is there now, for everybody in this agent.
//!
//! Costs one list and one open watch, and one short request each time the watch ends. After a failure nothing of what was
//! seen is forgotten; a resource version that the server does not know any more leads to a new list, with growing pauses.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Pace;
use super::pauses::Pauses;
use crate::adapters::api_server::{ApiError, ApiServer, Collection, Form, WatchEvent, escape, version};
use crate::reconcile::backoff::spread;

/// Objects of one page of a list.
const PAGE: u32 = 50;
/// Pages of one list; more is a server that leads in circles.
const MAX_PAGES: u32 = 200;
/// A watch that has lived so long has been a success; one that has told something and then broke has not, or a server that
/// forgets its history all the time would be listed all the time.
const LIVED: Duration = Duration::from_secs(60);
/// The client's own end of a watch comes so long after the server's.
const GRACE: Duration = Duration::from_secs(60);
/// All watches of a server that restarts end at once; they are begun again within this time.
const REOPEN: Duration = Duration::from_secs(10);

/// What is followed.
#[derive(Debug, Clone)]
pub struct Following {
    /// The kind.
    pub collection: Collection,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only the object of this name.
    pub only: Option<String>,
    /// How much of each object.
    pub form: Form,
    /// How fast.
    pub pace: Pace,
}

/// What is known of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seen<T> {
    /// The API server has not answered yet.
    #[default]
    Unknown,
    /// It does not serve the kind: its CRD is not there.
    NoKind,
    /// The objects by name.
    All(BTreeMap<String, T>),
}

impl<T> Seen<T> {
    /// An object.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&T> {
        match self {
            Self::All(objects) => objects.get(name),
            Self::Unknown | Self::NoKind => None,
        }
    }
}

/// Makes an object into what is kept of it; `None` for one that cannot be used.
pub type Shape<T> = fn(Value) -> Option<(String, T)>;

/// Follows for ever. Whoever reads is told only if something that is kept has changed.
pub async fn follow<T: PartialEq>(api: ApiServer, what: Following, shape: Shape<T>, out: watch::Sender<Seen<T>>) {
    let mut pauses = Pauses::default();
    let mut healthy = true;
    tokio::time::sleep(spread(what.pace.start)).await;
    loop {
        let error = match list(&api, &what, shape).await {
            Ok((objects, from)) => {
                tell(&out, Seen::All(objects));
                if !healthy {
                    info!(kind = what.collection.kind, "the API server answers again");
                }
                healthy = true;
                watch_on(&api, &what, (shape, &out), &mut pauses, from).await
            }
            Err(error) => error,
        };
        if matches!(error, ApiError::Absent { .. }) {
            tell(&out, Seen::NoKind);
        }
        let pause = pauses.failed(&error);
        if matches!(error, ApiError::Gone { .. }) {
            debug!(kind = what.collection.kind, %error, ?pause, "listing again");
        } else if std::mem::take(&mut healthy) {
            warn!(kind = what.collection.kind, %error, "not followed for now; what is known goes on");
        }
        tokio::time::sleep(pause).await;
    }
}

fn tell<T: PartialEq>(out: &watch::Sender<Seen<T>>, now: Seen<T>) {
    out.send_if_modified(|seen| {
        let differs = *seen != now;
        if differs {
            *seen = now;
        }
        differs
    });
}

/// Everything there is, and the version that it is of.
async fn list<T>(
    api: &ApiServer,
    what: &Following,
    shape: Shape<T>,
) -> Result<(BTreeMap<String, T>, String), ApiError> {
    let mut objects = BTreeMap::new();
    let mut next = String::new();
    for _ in 0..MAX_PAGES {
        // Version 0: whatever the server has in its cache, which spares etcd; a continued list has its own version.
        let from =
            if next.is_empty() { "&resourceVersion=0".to_owned() } else { format!("&continue={}", escape(&next)) };
        let query = format!("{}?limit={PAGE}{from}{}", path(what), only(what));
        let mut page = api.list(&query, what.form).await?;
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            objects.extend(items.into_iter().filter_map(shape));
        }
        next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok((objects, version(&page)));
        }
    }
    Err(ApiError::Garbled { detail: format!("a list of more than {MAX_PAGES} pages") })
}

fn path(what: &Following) -> String {
    what.namespace.as_ref().map_or_else(|| what.collection.path(), |namespace| what.collection.of_namespace(namespace))
}

fn only(what: &Following) -> String {
    what.only.as_ref().map(|name| format!("&fieldSelector=metadata.name%3D{}", escape(name))).unwrap_or_default()
}

/// Watches, and begins again where a watch has ended, until the list is needed again or something is wrong.
async fn watch_on<T: PartialEq>(
    api: &ApiServer,
    what: &Following,
    (shape, out): (Shape<T>, &watch::Sender<Seen<T>>),
    pauses: &mut Pauses,
    mut from: String,
) -> ApiError {
    loop {
        let begun = Instant::now();
        let ended = watch_once(api, what, (shape, out), &mut from).await;
        if begun.elapsed() >= LIVED {
            pauses.succeeded();
        }
        match ended {
            Ok(()) if begun.elapsed() >= LIVED => tokio::time::sleep(spread(REOPEN)).await,
            Ok(()) => {
                let soon = ApiError::Away { detail: "the watch ended at once".to_owned() };
                tokio::time::sleep(pauses.failed(&soon)).await;
            }
            // Only these need a list; everything else can go on where it was.
            Err(error @ (ApiError::Gone { .. } | ApiError::Absent { .. } | ApiError::Garbled { .. })) => return error,
            // A server that goes away cuts all watches at once; they must not all come back at once.
            Err(_) if begun.elapsed() >= LIVED => tokio::time::sleep(spread(REOPEN)).await,
            Err(error) => {
                let pause = pauses.failed(&error);
                debug!(kind = what.collection.kind, %error, ?pause, "the watch is begun again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// One watch until its end.
async fn watch_once<T: PartialEq>(
    api: &ApiServer,
    what: &Following,
    (shape, out): (Shape<T>, &watch::Sender<Seen<T>>),
    from: &mut String,
) -> Result<(), ApiError> {
    let length = what.pace.watch + spread(what.pace.watch);
    let query = format!(
        "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}{}",
        path(what),
        escape(from),
        length.as_secs(),
        only(what)
    );
    let mut watch = api.watch(&query, what.form).await?;
    let end = Instant::now() + length + GRACE;
    loop {
        let event = match tokio::time::timeout_at(end, watch.next()).await {
            Ok(event) => event?,
            Err(_late) => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        match event {
            WatchEvent::Bookmark(version) => *from = version,
            WatchEvent::Is(object) => {
                *from = version(&object);
                if let Some((name, kept)) = shape(object) {
                    change(out, |objects| {
                        objects.get(&name) != Some(&kept) && {
                            objects.insert(name, kept);
                            true
                        }
                    });
                }
            }
            WatchEvent::Gone(object) => {
                *from = version(&object);
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                change(out, |objects| objects.remove(name).is_some());
            }
        }
    }
}

fn change<T>(out: &watch::Sender<Seen<T>>, change: impl FnOnce(&mut BTreeMap<String, T>) -> bool) {
    out.send_if_modified(|seen| match seen {
        Seen::All(objects) => change(objects),
        Seen::Unknown | Seen::NoKind => false,
    });
}
