//! Takes the start-up taint off this node once it is as its profile says, and never puts one on.
//!
//! The taint is the doing of whoever registers nodes. Its removal tests every taint that it takes away, so that one that
//! somebody else has changed or moved in between is read again and nothing of others is ever written.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};
use trimtab_domain::cluster::health::NodeHealth;
use trimtab_domain::cluster::startup::{STARTUP_TAINT, awaited};

use super::Views;
use super::conditions::warn_once;
use super::follow::Seen;
use super::pauses::Pauses;
use super::profiles::origin;
use crate::adapters::api_server::{ApiError, ApiServer, Form, NODES, Patch};
use crate::ports::nri_stats::NriLink;
use crate::reconcile::engine::SpecInForce;

/// A node that is still tainted after this time is spoken of in the log.
const LONG: Duration = Duration::from_secs(60);

/// How long the first registration with the container runtime is waited for, where it is there and does not take the agent
/// on: without it pods are pinned right after they start.
const REGISTERING: Duration = Duration::from_secs(30);

/// The remover of the taint.
pub(super) struct StartupTaint {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) views: Views,
    pub(super) health: watch::Receiver<NodeHealth>,
    /// The profile in force, and whether the container runtime asks the agent; absent: it never shall.
    pub(super) answering: (watch::Receiver<Option<SpecInForce>>, Option<watch::Receiver<NriLink>>),
    /// True if the profile may come from an object.
    pub(super) uses_objects: bool,
}

impl StartupTaint {
    /// Removes it once from every Node of this name, for ever.
    pub(super) async fn remove(mut self) {
        let (mut pauses, mut done) = (Pauses::default(), None);
        loop {
            let uid = self.views.node.borrow_and_update().of(&self.node).map(|own| own.uid.clone());
            if uid.is_none() || uid == done {
                if self.views.node.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if self.until_converged().await.is_none() {
                return;
            }
            match self.remove_once().await {
                Ok(removed) => {
                    if removed > 0 {
                        info!(taint = STARTUP_TAINT, "the node is as its profile says; its start-up taint is removed");
                    }
                    pauses.succeeded();
                    done = uid;
                }
                Err(error) => {
                    warn_once(&pauses, &error);
                    tokio::time::sleep(pauses.failed(&error)).await;
                }
            }
        }
    }

    /// Waits until pods find the node as it shall be; `None`: the agent ends.
    async fn until_converged(&mut self) -> Option<()> {
        let mut patience = std::pin::pin!(tokio::time::sleep(LONG));
        let (mut is_late, mut is_asked) = (false, false);
        loop {
            let awaited = match self.wanted_source() {
                Some(source) => awaited(&self.health.borrow_and_update(), source.as_deref()),
                None => Some("the API server has not told yet which profile is for this node".to_owned()),
            };
            let Some(awaited) = awaited else {
                if is_asked {
                    return Some(());
                }
                self.until_asked().await;
                // Meanwhile the node may have become unwell.
                is_asked = true;
                continue;
            };
            tokio::select! {
                () = &mut patience, if !is_late => {
                    is_late = true;
                    warn!(awaited, taint = STARTUP_TAINT, "a start-up taint would stay on this node");
                }
                changed = self.health.changed() => changed.ok()?,
                changed = self.views.choice.changed() => changed.ok()?,
                changed = self.views.profiles.changed() => changed.ok()?,
            }
        }
    }

    /// Waits until the container runtime asks the agent, or is known not to: a pod that came in between would start
    /// unpinned.
    async fn until_asked(&self) {
        let (spec, link) = &self.answering;
        let pins = spec.borrow().as_ref().is_some_and(SpecInForce::answers_runtime);
        let Some(mut link) = link.clone().filter(|_| pins) else { return };
        // Its sender lives as long as the agent; without it there is nothing to wait for.
        let tried = link.wait_for(|link| *link != NriLink::Untried);
        let _ = tokio::time::timeout(REGISTERING, tried).await;
    }

    /// Where the profile must be from; `Some(None)`: from anywhere. `None`: that is not decided yet.
    fn wanted_source(&mut self) -> Option<Option<String>> {
        if !self.uses_objects {
            return Some(None);
        }
        let (profiles, choice) = (self.views.profiles.borrow_and_update(), self.views.choice.borrow_and_update());
        match &*profiles {
            Seen::Unknown => None,
            Seen::NoKind => Some(None),
            // A choice that was made has a reason.
            Seen::All(_) if choice.why.is_empty() => None,
            Seen::All(_) => Some(choice.winner.as_deref().map(origin)),
        }
    }

    /// How many there were.
    async fn remove_once(&self) -> Result<usize, ApiError> {
        let path = NODES.object(&self.node);
        let node = self.api.read(&path, Form::Whole).await?.unwrap_or_default();
        let Some(change) = removal(&node) else { return Ok(0) };
        match self.api.patch(&path, Patch::Json, &change).await {
            Ok(_) => Ok(change.as_array().map_or(0, Vec::len) / 2),
            // A test has failed: somebody has changed the taints in between.
            Err(ApiError::Refused { code: 422, detail }) => Err(ApiError::Conflict { detail }),
            Err(error) => Err(error),
        }
    }
}

/// A JSON patch that takes the taint away in all its effects; `None`: it is not there.
pub(super) fn removal(node: &Value) -> Option<Value> {
    let taints = node.pointer("/spec/taints")?.as_array()?;
    let ours = taints.iter().enumerate().filter(|(_, taint)| taint.get("key").is_some_and(|key| key == STARTUP_TAINT));
    // The last one first, so that the places of the others stay.
    let operations: Vec<Value> = ours
        .rev()
        .flat_map(|(place, taint)| {
            let path = format!("/spec/taints/{place}");
            [json!({"op": "test", "path": path, "value": taint}), json!({"op": "remove", "path": path})]
        })
        .collect();
    (!operations.is_empty()).then(|| operations.into())
}
