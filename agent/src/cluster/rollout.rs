//! Whether this node may take a changed object now: its place in the order of the change, and how those fare that have it.
//!
//! Nobody coordinates. While the node waits, what is in force is offered on, so that a restart finds nothing else. What is
//! asked of the API server is one list by label when a step comes due, and a second one only if somebody is unwell.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};
use trimtab_domain::rollout::{Health, Rollout, Verdict, position, verdict};
use trimtab_domain::spec::{NodeSpec, PauseSpec};

use super::pauses::Pauses;
use super::profiles::ProfileObject;
use crate::adapters::api_server::{ApiError, ApiServer, Form, NODE_STATES, escape};
use crate::adapters::profile_object::Waiting;
use crate::profile;
use crate::reconcile::backoff::spread;
use crate::reconcile::hold::End;

/// Label of a `NodeState`: uid and generation of the object in force.
pub const IN_FORCE: &str = "trimtab.dev/profile-in-force";
/// Label of a `NodeState` of a node that is unwell.
pub const UNWELL: &str = "trimtab.dev/unwell";
/// Annotations of the kept document, by which a restarted agent knows what it holds.
pub(super) const UID: &str = "trimtab.dev/uid";
pub(super) const GENERATION: &str = "trimtab.dev/generation";

/// Nodes of one step ask within this time, not all in the same second.
const SPREAD: Duration = Duration::from_secs(60);
/// A change that has stopped is looked at again after this time, and up to as long again: somebody may have got well.
const STOPPED: Duration = Duration::from_secs(300);
/// States of one page.
const PAGE: u32 = 500;
/// Pages of one list.
const MAX_PAGES: u32 = 100;

/// The object that this node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its uid: another one is another object of the same name.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// The document.
    pub text: Arc<str>,
}

impl Taken {
    /// What a kept document says of itself; `None` for one that this release cannot read.
    #[must_use]
    pub fn of_kept(text: Arc<str>) -> Option<Self> {
        let spec = profile::parse("kept", text.as_bytes()).ok()?.spec;
        let document: Value = serde_json::from_str(&text).ok()?;
        let annotations = document.pointer("/metadata/annotations");
        let of = |key| annotations.and_then(|all| all.get(key)).and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            uid: of(UID).to_owned(),
            generation: of(GENERATION).parse().unwrap_or_default(),
            name: spec.name,
            text,
        })
    }

    pub(super) fn of(name: &str, object: &ProfileObject) -> Self {
        Self {
            name: name.to_owned(),
            uid: object.uid.clone(),
            generation: object.generation,
            text: Arc::clone(&object.text),
        }
    }

    /// Which generation of which object: the value of a label.
    #[must_use]
    pub fn change(&self) -> String {
        format!("{}.{}", self.uid, self.generation)
    }

    /// The same with the pause of another: that waits for no turn, and is kept on the disk with what is held.
    pub(super) fn with_pause_of(&self, other: &Self) -> Self {
        let read = |text: &str| serde_json::from_str::<Value>(text);
        let (Ok(mut document), Ok(other)) = (read(&self.text), read(&other.text)) else { return self.clone() };
        let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) else { return self.clone() };
        match other.pointer("/spec/pause") {
            Some(pause) => spec.insert("pause".to_owned(), pause.clone()),
            None => spec.remove("pause"),
        };
        Self { text: document.to_string().into(), ..self.clone() }
    }

    fn asks(&self) -> Option<Asks> {
        let mut spec = profile::parse(&self.name, self.text.as_bytes()).ok()?.spec;
        spec.confirm = NodeSpec::default().confirm;
        let (rollout, pause) = (std::mem::take(&mut spec.rollout), spec.pause.take());
        Some(Asks { spec, rollout, pause })
    }
}

/// What an object asks for.
struct Asks {
    /// Of the node itself; how it spreads, what must be reached meanwhile, and when nothing is done are no change.
    spec: NodeSpec,
    rollout: Rollout,
    pause: Option<PauseSpec>,
}

impl Asks {
    /// How long nothing is written yet.
    fn paused_for(&self) -> Duration {
        let until = self.pause.as_ref().and_then(|pause| UNIX_EPOCH.checked_add(Duration::from_secs(pause.until)));
        let now = SystemTime::now();
        let left = until.filter(|until| End::of(*until, now) == End::Ahead);
        left.and_then(|until| until.duration_since(now).ok()).unwrap_or_default()
    }

    /// When the change began to be made: it was written, and the pause that came with it was over.
    fn begun(&self, changed: Option<u64>) -> Option<u64> {
        changed.map(|changed| self.pause.as_ref().map_or(changed, |pause| changed.max(pause.until.min(unix_now()))))
    }
}

/// What the node does about a change.
#[derive(Debug)]
pub(super) enum Admission {
    /// It takes it.
    Take,
    /// It waits, and looks again after this time.
    Wait(Waiting, Duration),
}

/// A change that is not taken yet.
#[derive(Debug)]
struct Open {
    change: String,
    rollout: Rollout,
    /// When it was made, by a clock that is never set; as far as this agent has lived, else how long before. In the future
    /// while a pause that came with it lasts.
    seen: Instant,
    age: Duration,
    /// Not to be looked at again before.
    due: Instant,
    said: Option<Waiting>,
}

/// Decides for this node.
pub(super) struct Gate {
    node: String,
    api: ApiServer,
    pauses: Pauses,
    open: Option<Open>,
}

impl Gate {
    pub(super) fn new(node: String, api: ApiServer) -> Self {
        Self { node, api, pauses: Pauses::default(), open: None }
    }

    /// Whether this object may be taken now by a node that holds the other one. `changed`: when the newest of the objects in
    /// question was changed, in seconds since 1970, as far as that is known.
    pub(super) async fn admit(&mut self, held: &Taken, next: &Taken, changed: Option<u64>) -> Admission {
        if held.text == next.text {
            return self.take();
        }
        // What cannot be read is told by whoever takes it, and nothing changes. What asks for the same is no change.
        let (Some(before), Some(after)) = (held.asks(), next.asks()) else { return self.take() };
        if before.spec == after.spec || after.rollout.steps.is_empty() {
            return self.take();
        }
        let change = next.change();
        if self.open.as_ref().is_none_or(|open| open.change != change || open.rollout != after.rollout) {
            let begun = after.begun(changed);
            let age = begun.map_or(Duration::ZERO, |begun| Duration::from_secs(unix_now().saturating_sub(begun)));
            let (now, seen) = (Instant::now(), Instant::now() + after.paused_for());
            self.open = Some(Open { change, rollout: after.rollout, seen, age, due: now, said: None });
        }
        self.judge(next).await
    }

    fn take(&mut self) -> Admission {
        self.open = None;
        Admission::Take
    }

    async fn judge(&mut self, next: &Taken) -> Admission {
        let Some(open) = &self.open else { return Admission::Take };
        let now = Instant::now();
        let age = open.age + now.saturating_duration_since(open.seen);
        let paused_for = open.seen.saturating_duration_since(now);
        let place = position(&self.node, &open.change);
        let decide = |health| verdict(&open.rollout, place, health, 0, age.as_secs());
        let first = decide(Health::default());
        if first == Verdict::Now && open.due <= now && is_later_step(&open.rollout, place) {
            let verdict = match self.health(&open.change, open.rollout.max_unhealthy_percent).await {
                Ok(health) => decide(health),
                Err(error) => {
                    let pause = self.pauses.failed(&error);
                    return self.wait(next, &format!("how the others fare is not known: {error}"), (false, pause));
                }
            };
            self.pauses.succeeded();
            return match verdict {
                Verdict::Now | Verdict::NotBefore(_) => self.begin(next, place),
                Verdict::Stopped(why) => self.wait(next, &why, (true, STOPPED + spread(STOPPED))),
            };
        }
        match first {
            Verdict::Now if open.due <= now => self.begin(next, place),
            Verdict::NotBefore(at) => {
                let rest = paused_for + Duration::from_secs(at.saturating_sub(age.as_secs())) + spread(SPREAD);
                let why = format!("this node is {}.{:02} % along the order", place / 100, place % 100);
                self.wait(next, &why, (false, rest))
            }
            Verdict::Now | Verdict::Stopped(_) => {
                let unsaid = || Waiting { stopped: false, why: String::new() };
                Admission::Wait(open.said.clone().unwrap_or_else(unsaid), open.due.saturating_duration_since(now))
            }
        }
    }

    fn begin(&mut self, next: &Taken, place: u16) -> Admission {
        info!(profile = next.name, generation = next.generation, place, "the change has come to this node");
        self.take()
    }

    fn wait(&mut self, next: &Taken, why: &str, (stopped, rest): (bool, Duration)) -> Admission {
        let why = format!("generation {} of {} waits: {why}", next.generation, next.name);
        let waiting = Waiting { stopped, why };
        if let Some(open) = &mut self.open {
            open.due = Instant::now() + rest;
            if open.said.as_ref() != Some(&waiting) {
                if stopped {
                    warn!("{}", waiting.why);
                } else {
                    info!("{}", waiting.why);
                }
                open.said = Some(waiting.clone());
            }
        }
        Admission::Wait(waiting, rest)
    }

    /// How those fare that have the change. Who is well is counted only if somebody is not.
    async fn health(&self, change: &str, limit: Option<u8>) -> Result<Health, ApiError> {
        if limit.is_none() {
            return Ok(Health::default());
        }
        let of_change = format!("{IN_FORCE}={change}");
        let unwell = self.count(&format!("{of_change},{UNWELL}=true")).await?;
        let updated = if unwell == 0 { 0 } else { self.count(&of_change).await? };
        Ok(Health { updated, unwell })
    }

    async fn count(&self, selector: &str) -> Result<usize, ApiError> {
        let (mut count, mut next) = (0, String::new());
        for _ in 0..MAX_PAGES {
            let from = if next.is_empty() {
                // From the server's cache, which spares etcd.
                "resourceVersion=0".to_owned()
            } else {
                format!("continue={}", escape(&next))
            };
            let query = format!("{}?labelSelector={}&limit={PAGE}&{from}", NODE_STATES.path(), escape(selector));
            let list = self.api.list(&query, Form::Metadata).await?;
            count += list.get("items").and_then(Value::as_array).map_or(0, Vec::len);
            next = list.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                break;
            }
        }
        Ok(count)
    }
}

/// Others have the change before this node, which can be asked.
fn is_later_step(rollout: &Rollout, place: u16) -> bool {
    let first = rollout.steps.first().map_or(100, |step| step.percent);
    u32::from(place) >= u32::from(first) * 100
}

/// When `spec` of an object was changed last, in seconds since 1970, by its managed fields (KEP-555); `None`: unknown.
pub(super) fn changed(object: &Value) -> Option<u64> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let of_spec = entries.filter(|entry| entry.pointer("/fieldsV1/f:spec").is_some());
    of_spec.filter_map(|entry| seconds(entry.get("time")?.as_str()?)).max()
}

fn seconds(time: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(time).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_moment_of_a_change_is_that_of_the_newest_writer_of_the_spec() {
        let entry = |fields: &str, time: &str| json!({"manager": "m", "time": time, "fieldsV1": {fields: {}}});
        let rows = [
            (json!([]), None),
            (json!([{"manager": "m"}]), None),
            (json!([entry("f:status", "2026-01-02T00:00:00Z")]), None),
            (json!([entry("f:spec", "no time")]), None),
            (json!([entry("f:spec", "1970-01-01T00:01:00Z"), entry("f:spec", "1970-01-01T00:00:01Z")]), Some(60)),
            (json!([entry("f:spec", "1970-01-01T00:01:00Z"), entry("f:status", "1970-01-01T00:10:00Z")]), Some(60)),
        ];
        for (fields, expected) in rows {
            let object = json!({"metadata": {"managedFields": fields}});
            assert_eq!(changed(&object), expected, "{object}");
        }
    }

    #[test]
    fn a_kept_document_says_which_generation_it_is() {
        let text = |annotations: Value| -> Arc<str> {
            let metadata = json!({"name": "web", "annotations": annotations});
            json!({"apiVersion": profile::API_VERSION, "kind": profile::KIND, "metadata": metadata, "spec": {}})
                .to_string()
                .into()
        };
        let kept = Taken::of_kept(text(json!({UID: "u-1", GENERATION: "7"})));
        assert_eq!(kept.map(|kept| (kept.change(), kept.name)), Some(("u-1.7".to_owned(), "web".to_owned())));
        let older = Taken::of_kept(text(json!({})));
        assert_eq!(older.map(|kept| kept.generation), Some(0), "kept by an earlier release");
        assert_eq!(Taken::of_kept("rubbish".into()), None);
    }
}
