//! The profiles of the cluster, and the one that is offered to the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};
use trimtab_domain::cluster::selection::{Candidate, Choice, Outcome, Reach, choose as choose_among};

use super::count::ToldStatus;
use super::follow::Seen;
use super::{OwnNode, Views};
use crate::adapters::profile_object::Offer;
use crate::profile::{self, API_VERSION, KIND};

/// A profile of the cluster, as far as it matters to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileObject {
    /// The document as a file would have it: name and `spec`, nothing that changes by itself.
    pub text: Arc<str>,
    /// Whom it is for, or why that cannot be read.
    pub reach: Result<Reach, String>,
    /// `metadata.generation`: counts the changes of `spec`.
    pub generation: i64,
    /// What was told of its nodes last.
    pub told: ToldStatus,
}

impl ProfileObject {
    pub(super) fn shape(mut object: Value) -> Option<(String, Self)> {
        let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        let told = ToldStatus::of(&object);
        let spec = object.get_mut("spec").map_or_else(|| json!({}), Value::take);
        // Alone, so that what is wrong elsewhere, its size too, does not hide whom it is for.
        let fields = ["nodeSelector", "weight"].into_iter().filter_map(|name| Some((name, spec.get(name)?.clone())));
        let narrow = document(&name, &fields.collect());
        let reach = profile::reach(&origin(&name), narrow.as_bytes()).map_err(|rejected| rejected.to_string());
        let text = document(&name, &spec).into();
        Some((name, Self { text, reach, generation, told }))
    }
}

/// The document as a file would have it.
fn document(name: &str, spec: &Value) -> String {
    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// How a profile of the cluster is called in messages.
pub(super) fn origin(name: &str) -> String {
    format!("nodeprofiles/{name}")
}

/// Chooses whenever the profiles or the labels of the node have changed, for ever.
pub(super) async fn choose(node: String, mut views: Views, choice: watch::Sender<Choice>, offer: watch::Sender<Offer>) {
    let mut known = KnownReaches::new();
    loop {
        let decided = {
            let own = views.node.borrow_and_update();
            let profiles = views.profiles.borrow_and_update();
            decide(own.of(&node), &profiles, &mut known)
        };
        if let Some((chosen, offered)) = decided {
            tell(chosen, offered, &choice, &offer);
        }
        let changed = tokio::select! {
            changed = views.node.changed() => changed,
            changed = views.profiles.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn tell(chosen: Choice, offered: Option<Offer>, choice: &watch::Sender<Choice>, offer: &watch::Sender<Offer>) {
    if *choice.borrow() == chosen && offered.as_ref().is_none_or(|offered| *offered == *offer.borrow()) {
        return;
    }
    if chosen.winner != choice.borrow().winner {
        info!(profile = chosen.winner, why = chosen.why, "profile of this node");
    }
    for verdict in chosen.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Unreadable) {
        warn!(profile = verdict.profile, "{}", verdict.why);
    }
    choice.send_replace(chosen);
    if let Some(offered) = offered {
        offer.send_if_modified(|known| {
            *known != offered && {
                *known = offered;
                true
            }
        });
    }
}

/// For whom each profile was when that could be read last: one that is spoilt by an edit still is its nodes', which say
/// what is wrong with it and hold what they held.
type KnownReaches = BTreeMap<String, Reach>;

/// `None` while not enough is known to decide anything: then what was decided before stays. An offer that is `None` leaves
/// the one before in force.
fn decide(
    own: Option<&OwnNode>,
    profiles: &Seen<ProfileObject>,
    known: &mut KnownReaches,
) -> Option<(Choice, Option<Offer>)> {
    let (own, Seen::All(profiles)) = (own?, profiles) else { return None };
    known.retain(|name, _| profiles.contains_key(name));
    for (name, profile) in profiles {
        if let Ok(reach) = &profile.reach {
            known.insert(name.clone(), reach.clone());
        }
    }
    let candidate = |(name, profile): (&'_ String, &'_ ProfileObject)| {
        let reach = known.get(name).ok_or_else(|| profile.reach.as_ref().err().cloned().unwrap_or_default());
        (name.clone(), reach.cloned())
    };
    let candidates: Vec<(String, Result<Reach, String>)> = profiles.iter().map(candidate).collect();
    let borrowed: Vec<Candidate<'_>> = candidates
        .iter()
        .map(|(name, reach)| Candidate { name, reach: reach.as_ref().map_err(String::as_str) })
        .collect();
    let choice = choose_among(&own.labels, &borrowed);
    let unreadable = choice.verdicts.iter().any(|verdict| verdict.outcome == Outcome::Unreadable);
    let offer = match choice.winner.as_ref().and_then(|name| Some((name, profiles.get(name)?))) {
        Some((name, profile)) => {
            Some(Offer::Object { origin: origin(name), text: Arc::clone(&profile.text), why: choice.why.clone() })
        }
        // One that cannot be read may be this node's: giving everything back would be worse than waiting.
        None if unreadable => None,
        None => Some(Offer::Nothing { why: choice.why.clone() }),
    };
    Some((choice, offer))
}
