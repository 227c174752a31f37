//! Takes back what the API server was told of this node, once the node itself has been given back.
//!
//! First it is looked at what there is, as data; then each is taken away by itself, so that one that fails leaves no other.

use std::fmt;

use serde_json::{Value, json};
use trimtab_domain::cluster::condition::ConditionType;
use trimtab_domain::cluster::startup::STARTUP_TAINT;

use super::extended;
use super::pauses::Pauses;
use super::startup_taint;
use crate::adapters::api_server::{
    ApiError, ApiServer, Collection, FIELD_MANAGER, Form, NODE_STATES, NODES, Patch, TOPOLOGIES,
};

/// How often it is tried; a roll-back must end.
const TRIES: u32 = 4;

/// Something that this agent has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// Conditions of the Node.
    Conditions,
    /// Extended resources in its capacity.
    Resources,
    /// The start-up taint, with the patch that takes it off.
    Taint(Value),
    /// The node's own object of a kind that only this agent writes.
    Object(Collection),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conditions => f.write_str("Node: conditions -> none"),
            Self::Resources => f.write_str("Node: extended resources -> none"),
            Self::Taint(_) => write!(f, "Node: taint {STARTUP_TAINT} -> none"),
            Self::Object(collection) => write!(f, "{} -> none", collection.kind),
        }
    }
}

/// What there is of this node.
///
/// # Errors
/// [`ApiError`]; what is not there, or of a kind that is not served, is no error.
pub async fn leftovers(api: &ApiServer, node: &str) -> Result<Vec<Leftover>, ApiError> {
    let mut found = Vec::new();
    if let Some(node) = api.read(&NODES.object(node), Form::Whole).await? {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let is_ours = |condition: &Value| {
            let kind = condition.get("type").and_then(Value::as_str);
            ConditionType::ALL.iter().any(|own| kind == Some(own.as_str()))
        };
        if conditions.is_some_and(|conditions| conditions.iter().any(is_ours)) {
            found.push(Leftover::Conditions);
        }
        if !extended::owned(&node).is_empty() {
            found.push(Leftover::Resources);
        }
        found.extend(startup_taint::removal(&node).map(Leftover::Taint));
    }
    for collection in [NODE_STATES, TOPOLOGIES] {
        let Some(object) = api.read(&collection.object(node), Form::Metadata).await? else { continue };
        // A state is ours, whoever has written a note on it; a topology that another exporter writes, too, is not.
        if collection == NODE_STATES || managers(&object).all(|manager| manager == FIELD_MANAGER) {
            found.push(Leftover::Object(collection));
        }
    }
    Ok(found)
}

fn managers(object: &Value) -> impl Iterator<Item = &str> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| entry.get("manager")?.as_str())
}

/// Takes one away.
///
/// # Errors
/// [`ApiError`]; what is gone already is no error.
pub async fn remove(api: &ApiServer, node: &str, leftover: &Leftover) -> Result<(), ApiError> {
    let removed = match leftover {
        Leftover::Conditions => remove_conditions(api, node).await,
        Leftover::Resources => extended::withdraw(api, node).await,
        Leftover::Taint(change) => api.patch(&NODES.object(node), Patch::Json, change).await.map(drop),
        Leftover::Object(collection) => api.delete(&collection.object(node)).await.map(drop),
    };
    match removed {
        Ok(()) | Err(ApiError::Absent { .. }) => Ok(()),
        Err(ApiError::Refused { code: 422, detail }) => Err(ApiError::Conflict { detail }),
        Err(error) => Err(error),
    }
}

/// By name. Applying nothing would remove what was applied before (KEP-555), and with the last of ours the whole list: a
/// kubelet owns those of its conditions only that it has changed since it registered.
async fn remove_conditions(api: &ApiServer, node: &str) -> Result<(), ApiError> {
    let ours = ConditionType::ALL.iter().map(|own| json!({"type": own.as_str(), "$patch": "delete"}));
    let change = json!({"status": {"conditions": ours.collect::<Vec<_>>()}});
    api.patch(&format!("{}/status", NODES.object(node)), Patch::Strategic, &change).await.map(drop)
}

/// Takes everything away, trying again where that may help; what was taken away, and what was in the way in the end.
pub async fn take_leave(api: &ApiServer, node: &str) -> (Vec<Leftover>, Option<ApiError>) {
    let (mut removed, mut pauses) = (Vec::new(), Pauses::default());
    for last in (0..TRIES).rev() {
        let error = match take_leave_once(api, node, &mut removed).await {
            Ok(()) => return (removed, None),
            Err(error) => error,
        };
        if last == 0 || matches!(error, ApiError::Forbidden { .. } | ApiError::Unauthorized { .. }) {
            return (removed, Some(error));
        }
        tokio::time::sleep(pauses.failed(&error)).await;
    }
    (removed, None)
}

async fn take_leave_once(api: &ApiServer, node: &str, removed: &mut Vec<Leftover>) -> Result<(), ApiError> {
    let mut failed = None;
    for leftover in leftovers(api, node).await? {
        match remove(api, node, &leftover).await {
            Ok(()) => removed.push(leftover),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}
