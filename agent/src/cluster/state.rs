//! Keeps this node's `NodeState`: the one object that only this agent writes, owned by the Node and gone with it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use trimtab_domain::cluster::health::{NodeHealth, PartHealth, Standing, Trouble};
use trimtab_domain::cluster::selection::{Choice, Outcome};
use trimtab_domain::cluster::telling::Telling;

use super::Views;
use super::clock::{Clock, written_now};
use super::conditions::warn_once;
use super::pauses::Pauses;
use super::rollout::{IN_FORCE, Taken, UNWELL};
use super::wellness::Wellness;
use crate::adapters::api_server::{ApiServer, FIELD_MANAGER, NODE_STATES, NODES};
use crate::adapters::profile_object::is_object;
use crate::reconcile::backoff::spread;

/// Shortest time between two changes; grows while they flap.
const PAUSE: Duration = Duration::from_secs(10);
/// Written again after this time although nothing has changed, and up to a fifth more.
const HEARTBEAT: Duration = Duration::from_secs(3600);
/// As for the conditions.
const FIRST_PASS: Duration = Duration::from_secs(30);
/// Troubles of one kind and profiles that are listed; the counts tell of the rest.
const LISTED: usize = 10;
/// Characters of a text.
const MAX_TEXT: usize = 300;

/// The keeper of the object.
pub(super) struct StateObject {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) views: Views,
    pub(super) health: watch::Receiver<NodeHealth>,
}

impl StateObject {
    /// Keeps it for ever.
    pub(super) async fn keep(mut self) {
        let clock = Clock::start();
        let mut pauses = Pauses::default();
        let mut telling = Telling::new(PAUSE, HEARTBEAT + spread(HEARTBEAT / 5));
        let mut wellness = Wellness::default();
        drop(tokio::time::timeout(FIRST_PASS, self.health.wait_for(|health| health.ready)).await);
        loop {
            let uid = self.views.node.borrow_and_update().of(&self.node).map(|own| own.uid.clone());
            let wanted = (uid, self.labels(&mut wellness), self.content());
            let due = if wanted.0.is_some() { telling.due_in(&wanted, clock.now()) } else { Duration::MAX };
            if !due.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(due) => {}
                    changed = self.health.changed() => if changed.is_err() { return },
                    changed = self.views.node.changed() => if changed.is_err() { return },
                    changed = self.views.choice.changed() => if changed.is_err() { return },
                    changed = self.views.taken.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let uid = wanted.0.clone().unwrap_or_default();
            let object = object(&self.node, &uid, &wanted.1, &wanted.2);
            match self.api.apply(&NODE_STATES.object(&self.node), FIELD_MANAGER, &object).await {
                Ok(_) => {
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

    fn content(&mut self) -> Value {
        let health = self.health.borrow_and_update();
        let choice = self.views.choice.borrow_and_update();
        let taken = self.views.taken.borrow_and_update();
        let by_object = taken.as_ref().filter(|taken| holds(&health, taken));
        content(&health, &choice, by_object.map_or(0, |taken| taken.generation))
    }

    /// By these labels others find the nodes that have a change, and those of them that are unwell.
    fn labels(&self, wellness: &mut Wellness) -> Value {
        let health = self.health.borrow();
        let taken = self.views.taken.borrow();
        let Some(taken) = taken.as_ref().filter(|taken| holds(&health, taken)) else { return json!({}) };
        let change = taken.change();
        let unwell = wellness.is_unwell(&change, &health);
        if unwell { json!({IN_FORCE: change, UNWELL: "true"}) } else { json!({IN_FORCE: change}) }
    }
}

fn object(node: &str, uid: &str, labels: &Value, content: &Value) -> Value {
    let owner = json!({"apiVersion": NODES.api_version, "kind": NODES.kind, "name": node, "uid": uid});
    let mut object = content.clone();
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), NODE_STATES.api_version.into());
        map.insert("kind".into(), NODE_STATES.kind.into());
        map.insert("metadata".into(), json!({"name": node, "labels": labels, "ownerReferences": [owner]}));
        map.insert("updated".into(), written_now().into());
    }
    object
}

/// Whether the node holds this object, and not a file of the same name.
fn holds(health: &NodeHealth, taken: &Taken) -> bool {
    taken.name == health.profile && is_object(&health.source)
}

/// What is told of the node; `generation` is that of the object that the profile is from.
#[must_use]
pub fn content(health: &NodeHealth, choice: &Choice, generation: i64) -> Value {
    let near = choice.verdicts.iter().filter(|verdict| verdict.outcome != Outcome::NotSelected);
    let verdicts: Vec<Value> = near
        .take(LISTED)
        .map(|v| json!({"profile": short(&v.profile), "outcome": v.outcome.as_str(), "why": short(&v.why)}))
        .collect();
    json!({
        "profile": {
            "name": short(&health.profile),
            "selected": choice.winner.as_deref().map(short).unwrap_or_default(),
            "source": short(&health.source),
            "generation": generation,
            "why": short(&choice.why),
            "waiting": short(health.waiting.as_deref().unwrap_or_default()),
            "errors": health.profile_errors.iter().take(LISTED).map(|error| short(error)).collect::<Vec<_>>(),
            "verdicts": verdicts,
        },
        "state": summary(health),
        "ready": health.ready,
        "refusals": health.parts.iter().map(|part| part.refusals.len()).sum::<usize>(),
        "drifts": health.parts.iter().map(|part| part.drifts).sum::<u64>(),
        "parts": health.parts.iter().map(part).collect::<Vec<_>>(),
        "agent": {"version": env!("CARGO_PKG_VERSION")},
    })
}

/// One word for the node: the worst that is true of a part.
#[must_use]
pub fn summary(health: &NodeHealth) -> &'static str {
    let any = |standing: Standing| health.parts.iter().any(|part| part.standing == standing);
    if !health.profile_errors.is_empty() || any(Standing::Failing) {
        "Failing"
    } else if any(Standing::Fighting) {
        "Fighting"
    } else if health.parts.iter().any(|part| !part.refusals.is_empty()) {
        "Refusing"
    } else if any(Standing::Paused) {
        "Paused"
    } else if !health.ready || any(Standing::Pending) {
        "Pending"
    } else {
        "InSync"
    }
}

fn part(part: &PartHealth) -> Value {
    let list = |troubles: &[Trouble]| -> Vec<Value> {
        let trouble = |t: &Trouble| json!({"object": short(&t.object), "code": t.code, "detail": short(&t.detail)});
        troubles.iter().take(LISTED).map(trouble).collect()
    };
    let state = match part.standing {
        Standing::Pending => "pending",
        Standing::Converged => "converged",
        Standing::Failing => "failing",
        Standing::Fighting => "fighting",
        Standing::Paused => "paused",
    };
    let mut told = json!({"name": part.name, "state": state});
    if let Some(map) = told.as_object_mut() {
        for (name, troubles) in [("refusals", &part.refusals), ("findings", &part.findings), ("fights", &part.fights)] {
            if !troubles.is_empty() {
                map.insert(name.into(), list(troubles).into());
            }
        }
        if let Some(error) = &part.error {
            map.insert("error".into(), short(error).into());
        }
    }
    told
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
