//! Keeps `extensions.migration` of the `NodeState`, in a name of its own.

use serde_json::{Value, json};
use tokio::sync::watch;
use trimtab_domain::migration::Progress;
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::super::OwnNode;
use super::super::conditions::warn_once;
use super::super::follow::Seen;
use super::super::pauses::Pauses;
use crate::adapters::api_server::{ApiServer, NODE_STATES};

/// Owner of the extension.
const MANAGER: &str = "trimtab-migration";

/// Keeps it for ever.
pub(in crate::cluster) async fn keep(
    (api, node): (ApiServer, String),
    mut own: watch::Receiver<Seen<OwnNode>>,
    mut progress: watch::Receiver<Progress>,
) {
    let mut pauses = Pauses::default();
    // A node that never was to be moved has nothing to tell.
    let mut told = Progress::default();
    loop {
        let now = progress.borrow_and_update().clone();
        let known = own.borrow_and_update().of(&node).is_some();
        if !known || told == now {
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return },
                changed = own.changed() => if changed.is_err() { return },
            }
            continue;
        }
        let object = json!({
            "apiVersion": NODE_STATES.api_version, "kind": NODE_STATES.kind,
            "metadata": {"name": node}, "extensions": extension(&now),
        });
        match api.apply(&NODE_STATES.object(&node), MANAGER, &object).await {
            Ok(_) => {
                pauses.succeeded();
                told = now;
            }
            Err(error) => {
                warn_once(&pauses, &error);
                tokio::time::sleep(pauses.failed(&error)).await;
            }
        }
    }
}

fn extension(progress: &Progress) -> Value {
    let target = progress.target.map(CgroupDriver::as_str);
    json!({"migration": {"phase": progress.phase.as_str(), "message": progress.message, "target": target}})
}
