//! Tells the API server of what happens on the node (`events.k8s.io/v1`), counted and bounded.
//!
//! An event is not worth a second try: what cannot be written is gone, and the next of its kind makes a new one.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::debug;
use trimtab_domain::cluster::event::{EventDesk, Happening, Post};

use super::OwnNode;
use super::clock::{Clock, written_now_micro};
use super::follow::Seen;
use super::happenings::between;
use crate::adapters::api_server::{ApiError, ApiServer, EVENTS, NODES, Patch};
use crate::reconcile::report::NodeReport;

/// Who reports; the API server takes a qualified name.
const CONTROLLER: &str = "trimtab.dev/agent";
/// Events of objects without a namespace are here.
const NAMESPACE: &str = "default";
/// Characters of the node's name in that of an event, which has room for 253.
const MAX_PREFIX: usize = 200;
/// Characters of `reportingInstance`.
const MAX_INSTANCE: usize = 128;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// This node.
    Node,
    /// A pod.
    Pod(AboutPod),
}

/// A pod that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AboutPod {
    /// Namespace of the pod.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Its uid.
    pub(super) uid: String,
}

/// The teller.
pub(super) struct Events {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) reports: watch::Receiver<Arc<NodeReport>>,
    /// What others of this room did and saw.
    pub(super) others: mpsc::Receiver<(About, Happening)>,
}

impl Events {
    /// Tells until the reports end.
    pub(super) async fn tell(mut self) {
        let clock = Clock::start();
        let mut desk = EventDesk::default();
        // Numbers begin anew with each agent; the moment of its start tells them apart.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut last = Arc::clone(&self.reports.borrow_and_update());
        loop {
            tokio::select! {
                changed = self.reports.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = Arc::clone(&self.reports.borrow_and_update());
                    for happening in between(&last, &now) {
                        self.post(&mut desk, &clock, start, (About::Node, happening)).await;
                    }
                    last = now;
                }
                Some(told) = self.others.recv() => {
                    self.post(&mut desk, &clock, start, told).await;
                }
            }
        }
    }

    async fn post(&self, desk: &mut EventDesk, clock: &Clock, start: u128, (about, happening): (About, Happening)) {
        let pod = match about {
            About::Node => None,
            About::Pod(pod) => Some(pod),
        };
        let Some(post) = desk.take(happening, clock.now()) else { return };
        let namespace = pod.as_ref().map_or(NAMESPACE, |pod| pod.namespace.as_str());
        let prefix: String = self.node.chars().take(MAX_PREFIX).collect();
        let name = |number: u64| format!("{}.{start:x}.{number}", prefix.trim_end_matches(['.', '-']));
        let (number, done) = match post {
            Post::Create { number, happening } => {
                let event = self.event(&name(number), namespace, pod.as_ref(), &happening);
                (number, self.api.create(&EVENTS.of_namespace(namespace), &event).await)
            }
            Post::Repeat { number, count } => {
                let change = json!({"series": {"count": count, "lastObservedTime": written_now_micro()}});
                let path = EVENTS.namespaced(namespace, &name(number));
                (number, self.api.patch(&path, Patch::Merge, &change).await)
            }
        };
        match done {
            Ok(_) => {}
            Err(error) => {
                desk.lost(number);
                debug!(%error, "an event is lost");
                if let ApiError::Throttled { after, .. } = error {
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    fn event(&self, name: &str, namespace: &str, pod: Option<&AboutPod>, happening: &Happening) -> Value {
        let own = self.own.borrow();
        let node_uid = own.of(&self.node).map(|own| own.uid.clone()).unwrap_or_default();
        let regarding = match pod {
            Some(pod) => json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            }),
            None => json!({"apiVersion": NODES.api_version, "kind": NODES.kind, "name": self.node, "uid": node_uid}),
        };
        json!({
            "apiVersion": EVENTS.api_version, "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": written_now_micro(),
            "reportingController": CONTROLLER,
            "reportingInstance": self.node.chars().take(MAX_INSTANCE).collect::<String>(),
            "action": happening.action,
            "reason": happening.reason,
            "regarding": regarding,
            "type": happening.gravity.as_str(),
            "note": happening.note,
        })
    }
}
