//! Keeps this node's `NodeResourceTopology`, so that a scheduler with that plug-in sends no pod that would be refused.
//!
//! Only where the profile asks for it and the kind is served. Numbers are those of the pinning subsystem: what it can give
//! out exclusively on each NUMA node, and what of that is free.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use trimtab_domain::cluster::telling::Telling;
use trimtab_domain::spec::ResourceManagersSpec;

use super::OwnNode;
use super::clock::Clock;
use super::conditions::warn_once;
use super::follow::Seen;
use super::pauses::Pauses;
use crate::adapters::api_server::{ApiServer, FIELD_MANAGER, NODES, TOPOLOGIES};
use crate::reconcile::backoff::spread;
use crate::reconcile::engine::SpecInForce;
use crate::reconcile::node_view::NodeView;

/// Shortest time between two changes; pods come in bursts, so it grows.
const PAUSE: Duration = Duration::from_secs(5);
/// Written again after this time although nothing has changed, and up to a fifth more.
const HEARTBEAT: Duration = Duration::from_secs(3600);

/// The keeper of the object.
pub(super) struct Topology {
    pub(super) api: ApiServer,
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) spec: watch::Receiver<Option<SpecInForce>>,
    pub(super) view: watch::Receiver<Arc<NodeView>>,
}

impl Topology {
    /// Keeps it for ever.
    pub(super) async fn keep(mut self) {
        let clock = Clock::start();
        let mut pauses = Pauses::default();
        let mut telling = Telling::new(PAUSE, HEARTBEAT + spread(HEARTBEAT / 5));
        loop {
            let (asked, wanted) = self.wanted();
            let due = wanted.as_ref().map_or(Duration::MAX, |wanted| telling.due_in(wanted, clock.now()));
            if !due.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(due) => {}
                    changed = self.spec.changed() => if changed.is_err() { return },
                    changed = self.own.changed() => if changed.is_err() { return },
                    // Where nobody asks for the object, nobody is woken for each pod.
                    changed = self.view.changed(), if asked => if changed.is_err() { return },
                }
                continue;
            }
            let Some(object) = wanted else { continue };
            match self.api.apply(&TOPOLOGIES.object(&self.node), FIELD_MANAGER, &object).await {
                Ok(_) => {
                    pauses.succeeded();
                    telling.told(object, clock.now());
                }
                Err(error) => {
                    warn_once(&pauses, &error);
                    tokio::time::sleep(pauses.failed(&error)).await;
                }
            }
        }
    }

    /// Whether the object is asked for, and it, once everything that is in it is known.
    fn wanted(&mut self) -> (bool, Option<Value>) {
        // All are looked at in any case: what was not would wake this task again at once.
        let uid = self.own.borrow_and_update().of(&self.node).map(|own| own.uid.clone());
        let view = Arc::clone(&self.view.borrow_and_update());
        let spec = self.spec.borrow_and_update().as_ref().map(|now| Arc::clone(&now.spec));
        let spec = spec.filter(|spec| spec.kubernetes.node_resource_topology);
        let managers = spec.as_ref().and_then(|spec| spec.resource_managers.as_ref());
        let known = uid.filter(|_| !view.machine.cpus.is_empty());
        (managers.is_some(), managers.zip(known).map(|(managers, uid)| self.object(&uid, managers, &view)))
    }

    fn object(&self, uid: &str, managers: &ResourceManagersSpec, view: &NodeView) -> Value {
        let owner = json!({"apiVersion": NODES.api_version, "kind": NODES.kind, "name": self.node, "uid": uid});
        json!({
            "apiVersion": TOPOLOGIES.api_version, "kind": TOPOLOGIES.kind,
            "metadata": {"name": self.node, "ownerReferences": [owner]},
            "topologyPolicies": [policy(managers)],
            "attributes": [
                {"name": "topologyManagerPolicy", "value": managers.topology_manager_policy},
                {"name": "topologyManagerScope", "value": managers.topology_manager_scope},
            ],
            "zones": zones(view),
        })
    }
}

/// The older field that says both policy and scope in one word.
fn policy(managers: &ResourceManagersSpec) -> String {
    let policy = match managers.topology_manager_policy.as_str() {
        "single-numa-node" => "SingleNUMANode",
        "restricted" => "Restricted",
        "best-effort" => "BestEffort",
        _ => return "None".to_owned(),
    };
    let scope = if managers.topology_manager_scope == "pod" { "PodLevel" } else { "ContainerLevel" };
    format!("{policy}{scope}")
}

fn zones(view: &NodeView) -> Vec<Value> {
    let zone = |node: &crate::reconcile::node_view::NumaNodeView| {
        let own: Vec<u32> =
            view.machine.cpus.iter().filter(|cpu| cpu.numa_node == node.id).map(|cpu| cpu.cpu).collect();
        let allocatable = own.iter().filter(|cpu| view.allocatable_cpus.contains(cpu)).count();
        let containers = view.pods.iter().flat_map(|pod| &pod.containers);
        let held = containers.flat_map(|container| &container.exclusive_cpus).filter(|cpu| own.contains(cpu)).count();
        let mut resources =
            vec![resource("cpu", [own.len(), allocatable, allocatable.saturating_sub(held)].map(count))];
        for memory in &node.memory {
            let Some(book) = &memory.book else { continue };
            let free = book.allocatable_bytes.saturating_sub(book.held_bytes);
            resources.push(resource(&memory.memory_type, [memory.total_bytes, book.allocatable_bytes, free]));
        }
        json!({"name": format!("node-{}", node.id), "type": "Node", "resources": resources})
    };
    view.machine.numa_nodes.iter().map(zone).collect()
}

fn resource(name: &str, [capacity, allocatable, available]: [u64; 3]) -> Value {
    json!({
        "name": name, "capacity": capacity.to_string(), "allocatable": allocatable.to_string(),
        "available": available.to_string(),
    })
}

fn count(many: usize) -> u64 {
    u64::try_from(many).unwrap_or(u64::MAX)
}
