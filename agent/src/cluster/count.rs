//! The status of the profiles: one agent of the cluster counts all nodes, by turns, and none has to.
//!
//! Every agent sees the profiles' status in the watch that it has anyway. Only when that stays as it is for too long does an
//! agent ask for the Lease, after a time at random, so that a cluster without anybody who counts costs a few requests a
//! second and not thousands. While nobody counts, the status is old and says so; nothing else depends on it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info};
use trimtab_domain::cluster::staleness::{Mark, Patience, Staleness};
use trimtab_domain::cluster::tally::{CountedNode, NodeStanding, Tally, count};
use trimtab_domain::cluster::telling::Telling;

use super::clock::{Clock, written_now, written_now_micro};
use super::follow::Seen;
use super::lease::{Lease, Look};
use super::profiles::ProfileObject;
use crate::adapters::api_server::{ApiError, ApiServer, Form, NODE_PROFILES, NODE_STATES, escape};
use crate::reconcile::backoff::spread;

/// Name of the Lease, in the agent's own namespace.
const LEASE: &str = "trimtab-status";
/// Owner of the status.
const MANAGER: &str = "trimtab-status";
/// Pause between two counts.
const ROUND: Duration = Duration::from_secs(60);
/// Who has not renewed for so long does not count any more.
const LEASE_LENGTH: Duration = Duration::from_secs(180);
/// Shortest time between two writes of one status; every agent is told of each.
const PAUSE: Duration = Duration::from_secs(55);
/// What stays as it is is written again after this time, which shows that it is kept up.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// How long a status may stay as it is, at least; a random part of the second is added.
const PATIENCE: (Patience, Patience) = (
    Patience { outdated: Duration::from_secs(180), unchanged: Duration::from_secs(900) },
    Patience { outdated: Duration::from_secs(120), unchanged: Duration::from_secs(600) },
);
/// Pause after a try that has failed, or after somebody else was found counting; up to as long again.
const REST: Duration = Duration::from_secs(600);
/// The same if nothing changes by itself: the role does not permit it, the CRD is of another release.
const LONG_REST: Duration = Duration::from_secs(3600);
/// Counts that may fail one after the other before somebody else should try.
const MAX_FAILURES: u32 = 3;
/// Nodes of one page of the list.
const PAGE: u32 = 500;
/// Pages of one list; more is a server that leads in circles.
const MAX_PAGES: u32 = 200;

/// What was told of a profile's nodes last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldStatus {
    /// Generation that was counted for.
    pub observed_generation: i64,
    /// When.
    pub updated: String,
    /// The node of the agent that did.
    pub counted_by: String,
    /// Conditions by name: status, and since when.
    pub conditions: BTreeMap<String, (String, String)>,
}

impl ToldStatus {
    pub(super) fn of(object: &Value) -> Self {
        let status = object.get("status").unwrap_or(&Value::Null);
        let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default(),
            updated: text(status, "updated"),
            counted_by: text(status, "countedBy"),
            conditions: conditions
                .map(|c| (text(c, "type"), (text(c, "status"), text(c, "lastTransitionTime"))))
                .collect(),
        }
    }
}

/// Who may come to count.
pub(super) struct Counting {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) profiles: watch::Receiver<Seen<ProfileObject>>,
}

impl Counting {
    /// Waits for its turn and counts, for ever.
    pub(super) async fn keep(mut self) {
        let lease = Lease { api: self.api.clone(), name: LEASE, holder: self.node.clone(), length: LEASE_LENGTH };
        loop {
            if self.until_stale().await.is_none() {
                return;
            }
            let error = match self.seize(&lease).await {
                Ok(Some(held)) => {
                    info!("this agent counts the nodes of every profile");
                    self.hold(&lease, held).await
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let rest = match &error {
                Some(ApiError::Forbidden { .. } | ApiError::Absent { .. } | ApiError::Garbled { .. }) => LONG_REST,
                _ => REST,
            };
            if let Some(error) = error {
                debug!(%error, "the nodes are not counted by this agent");
            }
            tokio::time::sleep(rest + spread(rest)).await;
        }
    }

    /// Waits until a status has stayed as it is for too long; `None`: the agent ends.
    async fn until_stale(&mut self) -> Option<()> {
        let (clock, mut staleness) = (Clock::start(), Staleness::default());
        let (least, more) = PATIENCE;
        let patience = Patience {
            outdated: least.outdated + spread(more.outdated),
            unchanged: least.unchanged + spread(more.unchanged),
        };
        loop {
            let was_own = {
                let profiles = self.profiles.borrow_and_update();
                staleness.look(marks(&profiles), clock.now());
                of_all(&profiles).any(|(_, profile)| profile.told.counted_by == self.node)
            };
            match staleness.due_in(patience, clock.now()) {
                // Whoever counted before a restart goes on.
                Some(due) if due.is_zero() || was_own => return Some(()),
                Some(due) => {
                    // What is late is that nothing changes.
                    if let Ok(changed) = tokio::time::timeout(due, self.profiles.changed()).await {
                        changed.ok()?;
                    }
                }
                None => self.profiles.changed().await.ok()?,
            }
        }
    }

    /// Takes the Lease if nobody renews it; `None`: somebody else counts.
    async fn seize(&self, lease: &Lease) -> Result<Option<Value>, ApiError> {
        let taken = match lease.look().await? {
            Look::Free(live) => lease.take(&live).await,
            Look::Held(renewal, _) => {
                // Long enough that a holder that lives has renewed, and that whoever waited first has counted.
                let wait = LEASE_LENGTH + spread(ROUND);
                let before = owned_marks(&self.profiles.borrow());
                tokio::time::sleep(wait).await;
                let is_unchanged = owned_marks(&self.profiles.borrow()) == before;
                match lease.look().await? {
                    Look::Free(live) if is_unchanged => lease.take(&live).await,
                    Look::Held(again, live) if is_unchanged && again == renewal => lease.take(&live).await,
                    Look::Free(_) | Look::Held(..) => return Ok(None),
                }
            }
        };
        match taken {
            Ok(held) => Ok(Some(held)),
            Err(ApiError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts until there is nothing to count for, the Lease is lost, or it fails again and again; why in the end.
    async fn hold(&self, lease: &Lease, mut held: Value) -> Option<ApiError> {
        let clock = Clock::start();
        let mut tellings = BTreeMap::new();
        let mut failures = 0;
        loop {
            let error = match self.round(&clock, &mut tellings).await {
                Ok(true) => None,
                Ok(false) => return None,
                Err(error) => Some(error),
            };
            failures = if error.is_some() { failures + 1 } else { 0 };
            match error {
                Some(error @ (ApiError::Forbidden { .. } | ApiError::Absent { .. } | ApiError::Garbled { .. })) => {
                    return Some(error);
                }
                Some(error) if failures >= MAX_FAILURES => return Some(error),
                _ => {}
            }
            tokio::time::sleep(ROUND).await;
            match lease.take(&held).await {
                Ok(renewed) => held = renewed,
                Err(ApiError::Away { .. } | ApiError::Throttled { .. } | ApiError::Failed { .. }) => failures += 1,
                Err(error) => return Some(error),
            }
        }
    }

    /// Counts once and writes what is due; false: there are no profiles.
    async fn round(&self, clock: &Clock, tellings: &mut Tellings) -> Result<bool, ApiError> {
        let generations: Vec<(String, i64)> =
            of_all(&self.profiles.borrow()).map(|(name, profile)| (name.clone(), profile.generation)).collect();
        if generations.is_empty() {
            return Ok(false);
        }
        let nodes = self.list().await?;
        let tallies = count(generations.iter().map(|(name, generation)| (name.as_str(), *generation)), nodes);
        tellings.retain(|name, _| tallies.contains_key(name));
        for (name, tally) in tallies {
            let telling = tellings.entry(name.clone()).or_insert_with(|| Telling::new(PAUSE, HEARTBEAT));
            if !telling.due_in(&tally, clock.now()).is_zero() {
                continue;
            }
            let told = self.profiles.borrow().of(&name).map(|profile| profile.told.clone()).unwrap_or_default();
            let path = format!("{}/status", NODE_PROFILES.object(&name));
            match self.api.apply(&path, MANAGER, &status(&name, &self.node, &tally, &told)).await {
                Ok(_) => telling.told(tally, clock.now()),
                // Deleted in between.
                Err(ApiError::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Every node, by the table that `kubectl get` asks for: a tenth of the objects themselves.
    async fn list(&self) -> Result<Vec<CountedNode>, ApiError> {
        let (mut nodes, mut next) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let from = if next.is_empty() { String::new() } else { format!("&continue={}", escape(&next)) };
            let query = format!("{}?limit={PAGE}&includeObject=None{from}", NODE_STATES.path());
            let page = self.api.list(&query, Form::Table).await?;
            nodes.extend(rows(&page)?);
            next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(nodes);
            }
        }
        Err(ApiError::Garbled { detail: format!("a list of more than {MAX_PAGES} pages") })
    }
}

type Tellings = BTreeMap<String, Telling<Tally>>;

fn of_all(profiles: &Seen<ProfileObject>) -> impl Iterator<Item = (&String, &ProfileObject)> {
    match profiles {
        Seen::All(profiles) => Some(profiles.iter()),
        Seen::Unknown | Seen::NoKind => None,
    }
    .into_iter()
    .flatten()
}

fn marks(profiles: &Seen<ProfileObject>) -> impl Iterator<Item = (&str, Mark)> {
    of_all(profiles).map(|(name, profile)| {
        let (observed, updated) = (profile.told.observed_generation, profile.told.updated.clone());
        (name.as_str(), Mark { generation: profile.generation, observed, updated })
    })
}

fn owned_marks(profiles: &Seen<ProfileObject>) -> Vec<(String, Mark)> {
    marks(profiles).map(|(name, mark)| (name.to_owned(), mark)).collect()
}

/// The rows of a page, by the columns of `NodeState`'s definition.
fn rows(page: &Value) -> Result<Vec<CountedNode>, ApiError> {
    let list = |of: &Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let columns = list(page, "columnDefinitions");
    let column = |name: &str| {
        let place = columns.iter().position(|column| column.get("name").is_some_and(|known| known == name));
        let detail = || format!("NodeState has no column {name}; apply the definitions of this release (trimtab crd)");
        place.ok_or_else(|| ApiError::Garbled { detail: detail() })
    };
    let (selected, held, generation) = (column("Selected")?, column("Profile")?, column("Generation")?);
    let (state, drifts) = (column("State")?, column("Drifts")?);
    let rows = list(page, "rows");
    let row = |row: &Value| {
        let cell = |place: usize| row.get("cells").and_then(|cells| cells.get(place)).unwrap_or(&Value::Null);
        let text = |place: usize| cell(place).as_str().unwrap_or_default().to_owned();
        let generation = cell(generation).as_i64().unwrap_or_default();
        let held = text(held);
        CountedNode {
            // Agents of before this column hold what is for them.
            selected: Some(text(selected)).filter(|name| !name.is_empty() || generation == 0).unwrap_or(held.clone()),
            held,
            generation,
            standing: NodeStanding::of_word(&text(state)),
            drifts: cell(drifts).as_u64().unwrap_or_default(),
        }
    };
    Ok(rows.iter().map(row).collect())
}

fn status(name: &str, node: &str, tally: &Tally, told: &ToldStatus) -> Value {
    let now = written_now();
    let conditions = tally.conditions().map(|condition| {
        let holds = if condition.holds { "True" } else { "False" };
        let since = told.conditions.get(condition.kind).filter(|(status, _)| status == holds);
        let since = since.map_or_else(|| now.clone(), |(_, time)| time.clone());
        json!({
            "type": condition.kind, "status": holds, "reason": condition.reason, "message": condition.message,
            "lastTransitionTime": since, "observedGeneration": tally.generation,
        })
    });
    json!({
        "apiVersion": NODE_PROFILES.api_version, "kind": NODE_PROFILES.kind, "metadata": {"name": name},
        "status": {
            "observedGeneration": tally.generation,
            "nodes": tally.nodes,
            "inSync": tally.in_sync,
            "failing": tally.failing,
            "refusing": tally.refusing,
            "drifted": tally.drifted,
            "outdated": tally.outdated,
            "countedBy": node,
            // Finer than a second, so that two counts are never the same to those who look on.
            "updated": written_now_micro(),
            "conditions": conditions,
        },
    })
}
