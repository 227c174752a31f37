//! Pods that leave the node: as a list shows them, and their eviction.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::{debug, info};
use trimtab_domain::migration::Outcome;
use trimtab_domain::migration::drain::{DrainPod, DrainRules, Fate};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::{Migration, OwnPod, Written};
use crate::adapters::api_server::{ApiError, Form, PODS};

/// Marks the image in the API server of a pod from a file (`kubelet/types/pod_update.go`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How a round of evictions went.
pub(super) enum Round {
    /// So many are left, for this reason.
    Left(String),
    /// This one must not be evicted.
    Forbidden(String),
}

/// Pods of a list.
pub(super) fn pods_of(list: &Value) -> Vec<DrainPod> {
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().map(shape).collect()
}

fn shape(pod: &Value) -> DrainPod {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |path: &str| pod.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_controller = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let owner = list("/metadata/ownerReferences").iter().find(is_controller);
    DrainPod {
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        uid: text("/metadata/uid"),
        mirror: pod.pointer("/metadata/annotations").and_then(|all| all.get(MIRROR)).is_some(),
        finished: matches!(text("/status/phase").as_str(), "Succeeded" | "Failed"),
        leaving: pod.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()),
        controller: owner.and_then(|owner| Some(owner.get("kind")?.as_str()?.to_owned())),
        empty_dir: list("/spec/volumes").iter().any(|volume| volume.get("emptyDir").is_some()),
    }
}

/// What forbids a drain before it has begun.
pub(super) fn forbidden(pods: &[DrainPod], rules: DrainRules) -> Option<String> {
    pods.iter().find_map(|pod| match pod.fate(rules) {
        Fate::Forbidden(why) => Some(format!("pod {}/{} cannot be evicted: {why}", pod.namespace, pod.name)),
        _ => None,
    })
}

impl Migration {
    /// Asks for the eviction of every pod that is to leave. A budget that lets none go is waited for.
    pub(super) async fn evict(&self, pods: &[DrainPod], rules: DrainRules) -> Round {
        if let Some(why) = forbidden(pods, rules) {
            return Round::Forbidden(why);
        }
        let mut held = None;
        let mut left = 0_usize;
        for pod in pods {
            match pod.fate(rules) {
                Fate::Stays | Fate::Forbidden(_) => continue,
                Fate::Leaves => left += 1,
                Fate::Evicted => {
                    left += 1;
                    if let Err(error) = self.evict_one(&pod.namespace, &pod.name, &pod.uid).await {
                        debug!(namespace = pod.namespace, pod = pod.name, %error, "a pod does not leave yet");
                        held.get_or_insert(format!("pod {}/{}: {error}", pod.namespace, pod.name));
                    }
                }
            }
        }
        let why = held.map(|held| format!("; {held}")).unwrap_or_default();
        Round::Left(format!("{left} pods are to leave the node{why}"))
    }

    async fn evict_one(&self, namespace: &str, name: &str, uid: &str) -> Result<(), ApiError> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let path = format!("{}/eviction", PODS.namespaced(namespace, name));
        match self.api.create(&path, &eviction).await {
            // Gone, or another one of the name, which the next list shows.
            Ok(_) | Err(ApiError::Absent { .. } | ApiError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last pod that still lives in a cgroup of the old driver is the agent's own: evicted once all is done, it is made
    /// anew. A kubelet does that by itself when it starts, unless the pod's cgroups were still there.
    pub(super) async fn replace_own_pod(&self, before: Option<&Written>, target: CgroupDriver) {
        let OwnPod::Named { namespace, name } = &self.ports.own else { return };
        let migrated = before.is_some_and(|written| written.journal.outcome == Some(Outcome::Migrated));
        if !migrated {
            return;
        }
        let Ok(listing) = self.ports.runtime.list().await else { return };
        let Some(own) = listing.sandboxes.iter().find(|sandbox| self.is_own(sandbox)) else { return };
        let is_systemd = own.cgroup_parent.ends_with(".slice");
        if own.cgroup_parent.is_empty() || is_systemd == (target == CgroupDriver::Systemd) {
            return;
        }
        let Ok(Some(pod)) = self.api.read(&PODS.namespaced(namespace, name), Form::Metadata).await else { return };
        let uid = pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        info!("the agent's own pod is the last in a cgroup of the other driver; it makes room for a new one");
        if let Err(error) = self.evict_one(namespace, name, uid).await {
            debug!(%error, "the agent's own pod stays for now");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
