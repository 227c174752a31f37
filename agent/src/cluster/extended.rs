//! Extended resources of the profile in the Node's capacity.
//!
//! By server-side apply in a name of its own, so that the API server itself remembers which ones are ours: one that the
//! profile names no more is removed by applying without it, after any restart. The last ones are taken out by name: a map
//! that is applied no more takes all with it that nobody owns, and a kubelet does not own what it registered with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use trimtab_domain::cluster::telling::Telling;

use super::OwnNode;
use super::clock::Clock;
use super::conditions::warn_once;
use super::follow::Seen;
use super::pauses::Pauses;
use crate::adapters::api_server::{ApiError, ApiServer, Form, NODES, Patch};
use crate::reconcile::backoff::spread;
use crate::reconcile::engine::SpecInForce;

/// Owner of the fields.
pub(super) const MANAGER: &str = "trimtab-resources";
/// Shortest time between two changes.
const PAUSE: Duration = Duration::from_secs(5);
/// A kubelet that starts sets extended resources to zero; they are set again within this time.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// The keeper of the capacity.
pub(super) struct ExtendedResources {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) spec: watch::Receiver<Option<SpecInForce>>,
}

impl ExtendedResources {
    /// Keeps it for ever.
    pub(super) async fn keep(mut self) {
        let clock = Clock::start();
        let mut pauses = Pauses::default();
        let mut telling = Telling::new(PAUSE, HEARTBEAT + spread(HEARTBEAT / 5));
        loop {
            let own =
                self.own.borrow_and_update().of(&self.node).map(|own| (own.uid.clone(), own.owners.contains(MANAGER)));
            let resources =
                self.spec.borrow_and_update().as_ref().map(|now| now.spec.kubernetes.extended_resources.clone());
            let due = match (&own, &resources) {
                (Some((_, false)), Some(wanted)) if wanted.is_empty() => Duration::MAX,
                (Some((uid, _)), Some(wanted)) => telling.due_in(&(uid.clone(), wanted.clone()), clock.now()),
                _ => Duration::MAX,
            };
            if !due.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(due) => {}
                    changed = self.spec.changed() => if changed.is_err() { return },
                    changed = self.own.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let (Some((uid, _)), Some(wanted)) = (own, resources) else { continue };
            match self.tell(&uid, &wanted).await {
                Ok(()) => {
                    pauses.succeeded();
                    telling.told((uid, wanted), clock.now());
                }
                Err(error) => {
                    warn_once(&pauses, &error);
                    tokio::time::sleep(pauses.failed(&error)).await;
                }
            }
        }
    }

    async fn tell(&self, uid: &str, wanted: &BTreeMap<String, u64>) -> Result<(), ApiError> {
        if wanted.is_empty() {
            return withdraw(&self.api, &self.node).await;
        }
        let path = format!("{}/status", NODES.object(&self.node));
        self.api.apply(&path, MANAGER, &object(&self.node, uid, wanted)).await.map(drop)
    }
}

fn object(node: &str, uid: &str, wanted: &BTreeMap<String, u64>) -> Value {
    let capacity: Map<String, Value> =
        wanted.iter().map(|(name, count)| (name.clone(), count.to_string().into())).collect();
    json!({
        "apiVersion": NODES.api_version, "kind": NODES.kind,
        "metadata": {"name": node, "uid": uid}, "status": {"capacity": capacity},
    })
}

/// Names of those that the API server knows as ours.
pub(super) fn owned(node: &Value) -> Vec<&str> {
    let entries = node.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let ours = entries.filter(|entry| entry.get("manager").is_some_and(|manager| manager == MANAGER));
    let capacities = ours.filter_map(|entry| entry.pointer("/fieldsV1/f:status/f:capacity")?.as_object());
    capacities.flat_map(Map::keys).filter_map(|field| field.strip_prefix("f:")).collect()
}

/// Takes all of ours out of the capacity, and nothing else.
///
/// # Errors
/// [`ApiError`].
pub(super) async fn withdraw(api: &ApiServer, node: &str) -> Result<(), ApiError> {
    let path = NODES.object(node);
    let object = api.read(&path, Form::Whole).await?.unwrap_or_default();
    let capacity: Map<String, Value> = owned(&object).into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
    if capacity.is_empty() {
        return Ok(());
    }
    api.patch(&format!("{path}/status"), Patch::Merge, &json!({"status": {"capacity": capacity}})).await.map(drop)
}
