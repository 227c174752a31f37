//! The profiles of the cluster, and the one that is offered to the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};
use trimtab_domain::cluster::selection::{Candidate, Choice, Outcome, Reach, choose as choose_among};

use super::count::ToldStatus;
use super::follow::Seen;
use super::rollout::{self, Admission, GENERATION, Gate, Taken, UID};
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
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`: counts the changes of `spec`.
    pub generation: i64,
    /// What was told of its nodes last.
    pub told: ToldStatus,
    /// When `spec` was changed last, in seconds since 1970; `None`: unknown.
    pub changed: Option<u64>,
}

impl ProfileObject {
    pub(super) fn shape(mut object: Value) -> Option<(String, Self)> {
        let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
        let told = ToldStatus::of(&object);
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let changed = rollout::changed(&object);
        let spec = object.get_mut("spec").map_or_else(|| json!({}), Value::take);
        // Alone, so that what is wrong elsewhere, its size too, does not hide whom it is for.
        let fields = ["nodeSelector", "weight"].into_iter().filter_map(|name| Some((name, spec.get(name)?.clone())));
        let narrow = document(&name, &json!({}), &fields.collect());
        let reach = profile::reach(&origin(&name), narrow.as_bytes()).map_err(|rejected| rejected.to_string());
        let which = json!({UID: uid, GENERATION: generation.to_string()});
        let text = document(&name, &which, &spec).into();
        Some((name, Self { text, reach, uid, generation, changed, told }))
    }
}

/// The document as a file would have it, with what tells an agent after a restart which one it is.
fn document(name: &str, annotations: &Value, spec: &Value) -> String {
    let metadata = json!({"name": name, "annotations": annotations});
    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}).to_string()
}

/// How a profile of the cluster is called in messages.
pub(super) fn origin(name: &str) -> String {
    format!("nodeprofiles/{name}")
}

/// Chooses the profile, and when it is taken.
pub(super) struct Chooser {
    pub(super) node: String,
    pub(super) views: Views,
    pub(super) choice: watch::Sender<Choice>,
    pub(super) offer: watch::Sender<Offer>,
    pub(super) taken: watch::Sender<Option<Taken>>,
    pub(super) gate: Gate,
}

/// Why it is decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The profiles have changed, or time has gone by.
    Profiles,
    /// The Node alone has.
    Node,
}

impl Chooser {
    /// Chooses whenever the profiles or the labels of the node have changed, or a change comes due, for ever.
    pub(super) async fn choose(mut self) {
        let mut known = KnownReaches::new();
        let (mut news, mut winner) = (News::Profiles, None);
        loop {
            let decided = {
                let own = self.views.node.borrow_and_update();
                let profiles = self.views.profiles.borrow_and_update();
                let held = self.taken.borrow();
                decide(own.of(&self.node), &profiles, held.as_ref(), &mut known)
            };
            let mut rest = None;
            if let Some((chosen, wanted)) = decided {
                // A person who moves a node to another profile means this node, now.
                let moved = news == News::Node && winner.is_some() && winner.as_ref() != Some(&chosen.winner);
                winner = Some(chosen.winner.clone());
                let (offered, again) = self.offered(&chosen, wanted, moved).await;
                rest = again;
                tell(chosen, offered, &self.choice, &self.offer);
            }
            let due = async {
                match rest {
                    Some(rest) => tokio::time::sleep(rest).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.views.profiles.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    news = News::Profiles;
                }
                changed = self.views.node.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    news = News::Node;
                }
                () = due => news = News::Profiles,
            }
        }
    }

    /// What is offered now, and when to look again. `None` leaves in force what is.
    async fn offered(&mut self, chosen: &Choice, wanted: Wanted, moved: bool) -> (Option<Offer>, Option<Duration>) {
        let (next, changed) = match wanted {
            Wanted::Unclear => return (None, None),
            Wanted::Nothing => {
                self.taken.send_replace(None);
                return (Some(Offer::Nothing { why: chosen.why.clone() }), None);
            }
            Wanted::Object { next, changed } => (next, changed),
        };
        let held = self.taken.borrow().clone();
        let admission = match &held {
            Some(held) if !moved => self.gate.admit(held, &next, changed).await,
            // A node that is new to the cluster has nothing to lose, and is wanted as the others will be.
            _ => Admission::Take,
        };
        let of = |taken: &Taken, waiting| Offer::Object {
            origin: origin(&taken.name),
            text: Arc::clone(&taken.text),
            why: chosen.why.clone(),
            waiting,
        };
        match (admission, held) {
            (Admission::Wait(waiting, rest), Some(held)) => {
                // Hands off means now, whenever the rest of the change comes to this node.
                let paused = held.with_pause_of(&next);
                let offer = of(&paused, Some(waiting));
                if paused != held {
                    self.taken.send_replace(Some(paused));
                }
                (Some(offer), Some(rest))
            }
            (_, held) => {
                let offer = of(&next, None);
                // One that cannot be read is refused by whoever takes it, and what was held stays.
                if held.as_ref() != Some(&next) && profile::parse(&next.name, next.text.as_bytes()).is_ok() {
                    self.taken.send_replace(Some(next));
                }
                (Some(offer), None)
            }
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

/// What is wanted of the node by the profiles alone.
#[derive(Debug)]
enum Wanted {
    /// Not known; what is in force stays.
    Unclear,
    /// No profile is for this node.
    Nothing,
    /// This one.
    Object {
        next: Taken,
        /// When the newest of the objects in question was changed.
        changed: Option<u64>,
    },
}

/// `None` while not enough is known to decide anything: then what was decided before stays.
fn decide(
    own: Option<&OwnNode>,
    profiles: &Seen<ProfileObject>,
    held: Option<&Taken>,
    known: &mut KnownReaches,
) -> Option<(Choice, Wanted)> {
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
    let wanted = match choice.winner.as_ref().and_then(|name| Some((name, profiles.get(name)?))) {
        Some((name, profile)) => {
            // A weight or a selector of the one that is held may have led to this one.
            let other = held.and_then(|held| profiles.get(&held.name)).and_then(|held| held.changed);
            Wanted::Object { next: Taken::of(name, profile), changed: profile.changed.max(other) }
        }
        // One that cannot be read may be this node's: giving everything back would be worse than waiting.
        None if unreadable => Wanted::Unclear,
        None => Wanted::Nothing,
    };
    Some((choice, wanted))
}
