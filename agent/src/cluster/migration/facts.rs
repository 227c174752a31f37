//! What is known of node and cluster before each step.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;
use trimtab_domain::cgroup::Component;
use trimtab_domain::disruption::{Turn, has_room};
use trimtab_domain::migration::drain::{DrainPod, Fate};
use trimtab_domain::migration::{Direction, Facts};
use trimtab_domain::roster::Sandbox;
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::drain::pods_of;
use super::{Gathered, Migration, OwnPod, Places, Written, about, rules};
use crate::adapters::api_server::{ApiError, Form, NODES, PODS, escape};
use crate::ports::services::Activity;

/// Nodes are counted at most this often: a list of them is the largest answer that is asked for.
const COUNT: Duration = Duration::from_secs(15);
/// Nodes per page.
const PAGE: u32 = 500;

/// What the API server says.
pub(super) struct ApiFacts {
    pub(super) turn: Turn,
    pub(super) cordoned: bool,
    ready_since: Option<u64>,
    healthy: Option<bool>,
    /// Pods that a drain has to do with; absent: they were not asked for.
    pub(super) pods: Option<Vec<DrainPod>>,
}

/// What the node says.
struct NodeFacts {
    kubelet: Activity,
    kubelet_since: u64,
    runtime: Activity,
    /// What the running runtime says of the default handler; the outer `None`: it does not answer.
    runtime_says: Option<Option<CgroupDriver>>,
    sandboxes: Option<Vec<Sandbox>>,
}

impl Migration {
    /// The facts for the next step.
    ///
    /// # Errors
    /// What cannot be known of the node itself, for a person; of the cluster, not knowing is a fact.
    pub(super) async fn facts(&mut self, written: &Written) -> Result<Gathered, String> {
        let (places, target) = about(written);
        let files = self.ports.files.look(places, target).map_err(|error| error.to_string())?;
        let node = self.node_facts(places).await?;
        let journal = &written.journal;
        let edited = files.runtime == target && files.kubelet == target;
        let stopping = match journal.direction {
            Direction::Forward => journal.prepared && !edited,
            Direction::Back { .. } => !files.original,
        };
        // A unit in between runs if it is to be stopped, and does not if it is to be started.
        let runs = |activity| match activity {
            Activity::Active => true,
            Activity::Changing => stopping || !journal.prepared,
            Activity::Inactive | Activity::Absent => false,
        };
        // One that does not answer yet has not started yet, whatever its unit says.
        let answers = stopping || node.runtime_says.is_some();
        let (kubelet_runs, runtime_runs) = (runs(node.kubelet), runs(node.runtime) && answers);
        let api = if stopping || !(kubelet_runs && runtime_runs) { None } else { self.api_facts(written).await };
        let ready = api.as_ref().map(|api| api.ready_since.is_some_and(|heartbeat| heartbeat >= node.kubelet_since));
        let facts = Facts {
            holds_lease: api.as_ref().map(|api| matches!(api.turn, Turn::Holds(_))),
            cluster_is_healthy: api.as_ref().and_then(|api| api.healthy),
            cordoned: api.as_ref().map(|api| api.cordoned),
            to_evict: api.as_ref().and_then(|api| Some(left(api.pods.as_ref()?, written))),
            kubelet_runs,
            runtime_runs,
            sandboxes: node.sandboxes.as_ref().map(Vec::len),
            runtime_file: files.runtime,
            kubelet_file: files.kubelet,
            files_are_original: files.original,
            runtime_says: node.runtime_says.flatten(),
            node_is_ready: ready,
        };
        Ok(Gathered { facts, api, sandboxes: node.sandboxes.unwrap_or_default() })
    }

    /// Whether files and runtime use the target already.
    ///
    /// # Errors
    /// What cannot be known, for a person.
    pub(super) async fn is_as_wished(&self, places: &Places, target: CgroupDriver) -> Result<bool, String> {
        let files = self.ports.files.look(places, target).map_err(|error| error.to_string())?;
        let says = self.runtime_says(places).await.flatten();
        Ok(files.kubelet == target && files.runtime == target && says.is_none_or(|says| says == target))
    }

    async fn node_facts(&self, places: &Places) -> Result<NodeFacts, String> {
        let services = &self.ports.services;
        let kubelet = services.state(&places.kubelet_unit).await.map_err(|error| error.to_string())?;
        let runtime = services.state(&places.runtime_unit).await.map_err(|error| error.to_string())?;
        let asked = runtime.activity == Activity::Active;
        let runtime_says = if asked { self.runtime_says(places).await } else { None };
        let sandboxes = if asked { self.ports.sandboxes.ready().await.ok() } else { None };
        let others = sandboxes.map(|all| all.into_iter().filter(|one| !self.is_own(one)).collect());
        Ok(NodeFacts {
            kubelet: kubelet.activity,
            kubelet_since: kubelet.active_since_us / 1_000_000,
            runtime: runtime.activity,
            runtime_says,
            sandboxes: others,
        })
    }

    /// The driver of the handler that pods get, if the runtime is new enough to say; the outer `None`: it does not answer.
    async fn runtime_says(&self, places: &Places) -> Option<Option<CgroupDriver>> {
        let told = self.ports.runtime.cgroup_drivers().await.ok()?;
        let of_default = told.iter().find(|one| match (&one.component, &places.handlers) {
            (Component::Containerd { default, .. }, Some(_)) => *default,
            (component, None) => *component == Component::CriO,
            _ => false,
        });
        Some(of_default.map(|one| one.driver))
    }

    pub(super) fn is_own(&self, sandbox: &Sandbox) -> bool {
        match &self.ports.own {
            OwnPod::Named { namespace, name } => sandbox.namespace == *namespace && sandbox.name == *name,
            OwnPod::None | OwnPod::Unknown => false,
        }
    }

    /// What the API server says; absent: it does not answer, and then it is not asked for the rest.
    async fn api_facts(&mut self, written: &Written) -> Option<ApiFacts> {
        match self.ask_api(written).await {
            Ok(facts) => Some(facts),
            Err(error) => {
                debug!(%error, "the API server does not help with the migration");
                None
            }
        }
    }

    async fn ask_api(&mut self, written: &Written) -> Result<ApiFacts, ApiError> {
        let most = written.wish.max_unavailable;
        let turn = self.budget.look(most).await?;
        let own = self.api.read(&NODES.object(&self.node), Form::Whole).await?.unwrap_or_default();
        let cordoned = own.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
        let preparing = !written.journal.prepared && written.journal.direction == Direction::Forward;
        let healthy = match turn {
            Turn::Holds(_) | Turn::MayTake(_) if preparing => Some(self.is_healthy(most).await?),
            _ => None,
        };
        let drains = preparing && cordoned && matches!(turn, Turn::Holds(_));
        let pods = if drains { Some(self.pods().await?) } else { None };
        Ok(ApiFacts { turn, cordoned, ready_since: ready_since(&own), healthy, pods })
    }

    /// The pods of this node, without the agent's own.
    pub(super) async fn pods(&self) -> Result<Vec<DrainPod>, ApiError> {
        let path = format!("{}?fieldSelector=spec.nodeName%3D{}", PODS.path(), escape(&self.node));
        let list = self.api.list(&path, Form::Whole).await?;
        let mut pods = pods_of(&list);
        if let OwnPod::Named { namespace, name } = &self.ports.own {
            pods.retain(|pod| pod.namespace != *namespace || pod.name != *name);
        }
        Ok(pods)
    }

    /// Whether so few other nodes are not ready that this one may go away, too.
    pub(super) async fn is_healthy(&mut self, most: u32) -> Result<bool, ApiError> {
        if let Some((at, count)) = self.nodes
            && at.elapsed() < COUNT
        {
            return Ok(has_room(count, most));
        }
        let (mut count, mut next) = (0, String::new());
        loop {
            let path = format!("{}?limit={PAGE}{next}", NODES.path());
            let list = self.api.list(&path, Form::Whole).await?;
            let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let others = items
                .iter()
                .filter(|node| node.pointer("/metadata/name").and_then(Value::as_str) != Some(self.node.as_str()));
            count += others.filter(|node| ready_since(node).is_none()).count();
            match list.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={}", escape(token)),
                None => break,
            }
        }
        self.nodes = Some((Instant::now(), count));
        Ok(has_room(count, most))
    }
}

/// Pods that are yet to leave; one that must not be evicted never does.
fn left(pods: &[DrainPod], written: &Written) -> usize {
    pods.iter().filter(|pod| pod.fate(rules(&written.wish)) != Fate::Stays).count()
}

/// The last heartbeat of a node that is ready, in seconds since 1970; absent: it is not ready. One without a time counts as
/// ready now.
fn ready_since(node: &Value) -> Option<u64> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array)?;
    let ready = conditions.iter().find(|one| one.get("type").and_then(Value::as_str) == Some("Ready"))?;
    if ready.get("status").and_then(Value::as_str) != Some("True") {
        return None;
    }
    let time = ready.get("lastHeartbeatTime").and_then(Value::as_str);
    let parsed = time.and_then(|time| humantime::parse_rfc3339(time).ok());
    parsed.map_or(Some(u64::MAX), |time| time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs()))
}
