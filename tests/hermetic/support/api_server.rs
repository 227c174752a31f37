//! A stateful API server in this process: generic objects over real HTTP/1.1, on request with TLS, with its faults, its log and its clock.
//!
//! Modelled because the agent depends on it: resource versions, list and watch with bookmarks and 410 Gone, optimistic
//! concurrency, server-side apply with owners of fields, the status subresource, JSON, merge and strategic patches, the
//! Eviction API with budgets, throttling, tokens, permissions. Not modelled: validation by schema, admission, finalizers,
//! garbage collection.

mod answer;
mod apply;
mod evict;
mod faults;
mod listen;
mod log;
mod patch;
mod path;
mod select;
mod status;
mod store;
mod table;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use self::faults::Fault;
pub(crate) use self::listen::{Identity, Listening};
pub(crate) use self::log::Call;
pub(crate) use self::path::Place;
use self::store::Store;

/// Says whether a call is permitted, as a role would.
type Permission = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// Says whether a bearer token is good.
type TokenJudge = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The server; clones are the same one.
#[derive(Clone)]
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
}

/// Does something before a call is answered, as somebody else who is faster.
type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    connections: Mutex<CancellationToken>,
}

struct State {
    store: Store,
    faults: Vec<Fault>,
    log: Vec<Call>,
    tokens: Option<TokenJudge>,
    permission: Option<Permission>,
    watches: watch::Watches,
}

impl ApiServer {
    /// An empty one that knows nodes, pods, events, leases, config maps, budgets and Trimtab's own kinds.
    pub(crate) fn new() -> Self {
        let state = State {
            store: Store::new(),
            faults: Vec::new(),
            log: Vec::new(),
            tokens: None,
            permission: None,
            watches: watch::Watches::default(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                hook: Mutex::new(None),
                connections: Mutex::new(CancellationToken::new()),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// The server as a service: what is asked of it passes no socket, so that paused time stays exact.
    pub(crate) fn service(&self) -> Router {
        let server = self.clone();
        Router::new().fallback(move |request| {
            let server = server.clone();
            async move { answer::answer(server, request).await }
        })
    }

    /// A client that reaches it without a socket.
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// Closes every connection, as a server does that restarts or a load balancer that loses its mind.
    pub(crate) fn cut_connections(&self) {
        std::mem::take(&mut *self.shared.connections.lock().unwrap()).cancel();
        self.cut_watches();
    }

    /// Ends every open watch in the middle of its stream.
    pub(crate) fn cut_watches(&self) {
        self.state().watches.cut();
    }

    /// Forgets the history: open watches get an event with 410, watches and pages from before do too.
    pub(crate) fn compact(&self) {
        let mut state = self.state();
        state.store.compact();
        let now = state.store.version();
        state.watches.expire(now);
    }

    /// Creates or replaces an object as some other client would; `path` is the object's own.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let place = Place::parse(path).unwrap();
        let mut state = self.state();
        let State { store, watches, .. } = &mut *state;
        let event = store.put(&place, object, "somebody").unwrap();
        watches.tell(&event);
    }

    /// Changes an object as some other client would.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.object(path).unwrap_or_else(|| panic!("no {path}"));
        change(&mut object);
        self.put(path, object);
    }

    /// Deletes an object as some other client would.
    pub(crate) fn remove(&self, path: &str) {
        let place = Place::parse(path).unwrap();
        let mut state = self.state();
        let State { store, watches, .. } = &mut *state;
        let event = store.remove(&place).unwrap_or_else(|| panic!("no {path}"));
        watches.tell(&event);
    }

    /// An object as it is now.
    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state().store.object(&Place::parse(path).unwrap()).cloned()
    }

    /// All objects of a collection, by name.
    pub(crate) fn objects(&self, path: &str) -> Vec<Value> {
        self.state().store.list(&Place::parse(path).unwrap()).into_iter().cloned().collect()
    }

    /// Removes a kind, as a cluster without that CRD.
    pub(crate) fn without_kind(&self, group: &str, plural: &str) {
        self.state().store.forget_kind(group, plural);
    }

    /// Adds a kind, as a cluster with another CRD.
    pub(crate) fn with_kind(&self, group: &str, version: &str, plural: &str, kind: &str) {
        self.state().store.add_kind(group, version, plural, kind);
    }

    /// Bearer tokens are judged so from now on.
    pub(crate) fn judge_tokens(&self, good: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.state().tokens = Some(Box::new(good));
    }

    /// Only these bearer tokens are let in from now on.
    pub(crate) fn accept_tokens(&self, tokens: &[&str]) {
        let good: BTreeSet<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.judge_tokens(move |token| good.contains(token));
    }

    /// Only calls that this permits are answered, all others with 403.
    pub(crate) fn permit(&self, permission: impl Fn(&Call) -> bool + Send + Sync + 'static) {
        self.state().permission = Some(Arc::new(permission));
    }

    /// Has this done before each call is answered; it may change objects.
    pub(crate) fn on_call(&self, hook: impl Fn(&Call) + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    /// Breaks something; faults are looked at in the order in which they were made, the first that fits strikes.
    pub(crate) fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// All is well again; what hangs goes on hanging.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Every call so far, refused ones too.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().log.clone()
    }

    /// Forgets the calls so far.
    pub(crate) fn forget_calls(&self) {
        self.state().log.clear();
    }

    /// How many calls of a verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`) there were for a
    /// resource (`nodes`, `nodes/status`).
    pub(crate) fn count(&self, verb: &str, resource: &str) -> usize {
        self.state().log.iter().filter(|call| call.verb == verb && call.resource == resource).count()
    }

    /// Open watches are told nothing any more and do not end, as behind a connection that somebody has forgotten.
    pub(crate) fn mute_watches(&self) {
        self.state().watches.mute();
    }

    /// How many watches are open.
    pub(crate) fn watchers(&self) -> usize {
        self.state().watches.count()
    }
}

/// The error that breaks a connection instead of an answer.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the double has cut the connection")
}
