//! Keeps the agent's conditions in the status of its Node, by server-side apply.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};
use trimtab_domain::cluster::condition::{Condition, conditions};
use trimtab_domain::cluster::health::NodeHealth;
use trimtab_domain::cluster::telling::Telling;
use trimtab_domain::migration::Progress;

use super::OwnNode;
use super::clock::{Clock, written_now};
use super::follow::Seen;
use super::pauses::Pauses;
use crate::adapters::api_server::{ApiError, ApiServer, FIELD_MANAGER, Form, NODES};
use crate::reconcile::backoff::spread;

/// Shortest time between two changes; grows while they flap.
const PAUSE: Duration = Duration::from_secs(10);
/// `lastHeartbeatTime` is renewed after this time, and up to a fifth more.
const HEARTBEAT: Duration = Duration::from_secs(600);
/// Before the first pass has ended there is nothing to tell, unless it takes longer than this.
const FIRST_PASS: Duration = Duration::from_secs(30);

/// What a condition says, and since when.
type Since = BTreeMap<String, (String, String)>;

/// The keeper of the conditions.
pub(super) struct Conditions {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) health: watch::Receiver<NodeHealth>,
    pub(super) progress: watch::Sender<Progress>,
}

impl Conditions {
    /// Keeps them for ever.
    pub(super) async fn keep(mut self) {
        let clock = Clock::start();
        let mut progress = self.progress.subscribe();
        let mut pauses = Pauses::default();
        let mut telling = Telling::new(PAUSE, HEARTBEAT + spread(HEARTBEAT / 5));
        let mut since: Option<(String, Since)> = None;
        // An agent that is replaced by a newer one is not a node that is not ready.
        drop(tokio::time::timeout(FIRST_PASS, self.health.wait_for(|health| health.ready)).await);
        loop {
            let uid = self.own.borrow_and_update().of(&self.node).map(|own| own.uid.clone());
            let mut wanted = conditions(&self.health.borrow_and_update());
            progress.borrow_and_update().adorn(&mut wanted);
            let Some(uid) = uid else {
                // Without a Node there is nobody to tell it of.
                if self.own.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if since.as_ref().is_some_and(|(known, _)| *known != uid) {
                telling.forget();
                since = None;
            }
            let due = telling.due_in(&wanted, clock.now());
            if !due.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(due) => {}
                    changed = self.health.changed() => if changed.is_err() { return },
                    changed = progress.changed() => if changed.is_err() { return },
                    changed = self.own.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let told = self.tell(&uid, &wanted, &mut since).await;
            match told {
                Ok(()) => {
                    pauses.succeeded();
                    telling.told(wanted, clock.now());
                }
                Err(error) => {
                    warn_once(&pauses, &error);
                    tokio::time::sleep(pauses.failed(&error)).await;
                }
            }
        }
    }

    async fn tell(&self, uid: &str, wanted: &[Condition], since: &mut Option<(String, Since)>) -> Result<(), ApiError> {
        let (_, since) = match since {
            Some(known) => known,
            // Once in the life of an agent, so that a restart does not look like a change.
            None => since.insert((uid.to_owned(), self.read_since().await?)),
        };
        let now = written_now();
        let mut entries = Vec::with_capacity(wanted.len());
        for condition in wanted {
            let (kind, status) = (condition.kind.as_str(), condition.status.as_str());
            let last = since.get(kind).filter(|(known, _)| known == status).map(|(_, time)| time.clone());
            let transition = last.unwrap_or_else(|| now.clone());
            entries.push(json!({
                "type": kind, "status": status, "reason": condition.reason, "message": condition.message,
                "lastHeartbeatTime": now, "lastTransitionTime": transition,
            }));
        }
        let object = json!({
            "apiVersion": NODES.api_version, "kind": NODES.kind,
            "metadata": {"name": self.node, "uid": uid}, "status": {"conditions": entries},
        });
        let path = format!("{}/status", NODES.object(&self.node));
        self.api.apply(&path, FIELD_MANAGER, &object).await?;
        *since = read_entries(&entries);
        Ok(())
    }

    async fn read_since(&self) -> Result<Since, ApiError> {
        let node = self.api.read(&NODES.object(&self.node), Form::Whole).await?.unwrap_or_default();
        let entries = node.pointer("/status/conditions").and_then(Value::as_array);
        Ok(read_entries(entries.map(Vec::as_slice).unwrap_or_default()))
    }
}

fn read_entries(entries: &[Value]) -> Since {
    let text = |entry: &Value, field: &str| Some(entry.get(field)?.as_str()?.to_owned());
    let read = |entry| Some((text(entry, "type")?, (text(entry, "status")?, text(entry, "lastTransitionTime")?)));
    entries.iter().filter_map(read).collect()
}

/// Says on the log what is wrong when it begins, and what follows only to those who look closer.
pub(super) fn warn_once(pauses: &Pauses, error: &ApiError) {
    if pauses.is_first() {
        warn!(%error, "the API server is not told of this node for now");
    } else {
        debug!(%error, "the API server is still not told");
    }
}
