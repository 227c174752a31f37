//! The agent in its cluster, against the double of the API server; time is paused, so minutes cost nothing.

mod authorities;
mod config_maps;
mod cost;
mod count;
mod crd;
mod disruption;
mod farewell;
mod faults;
mod held;
mod migration;
mod names;
mod profiles;
mod restart;
mod rights;
mod rollout;
mod standstill;
mod startup_taint;
mod telling;
mod tokens;
mod topology;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use trimtab::adapters::api_server::ApiServer;
use trimtab::adapters::config_map_files::StateFiles;
use trimtab::adapters::profile_object::Offer;
use trimtab::cluster::migration::MigrationPorts;
use trimtab::cluster::rollout::Taken;
use trimtab::cluster::{Cluster, NodeSide, Pace, Views};
use trimtab::ports::nri_stats::NriLink;
use trimtab::reconcile::board::Board;
use trimtab::reconcile::engine::SpecInForce;
use trimtab::reconcile::node_view::NodeView;
use trimtab::reconcile::orders::Switchboard;
use trimtab::reconcile::report::{ProfileReport, State, SubsystemReport};
use trimtab::subsystems::pinning::desk::Desk;
use trimtab_domain::migration::Progress;
use trimtab_domain::spec::NodeSpec;

use crate::engine::Bench;
use crate::support::api_server::{ApiServer as Double, Call};

/// Longest wait by the paused clock; what hangs for ever ends the test.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

const NODE: &str = "/api/v1/nodes/n1";

/// Path of a profile.
fn profile(name: &str) -> String {
    format!("/apis/trimtab.dev/v1alpha1/nodeprofiles/{name}")
}

/// A profile for nodes of a pool that asks for one sysctl.
fn for_pool(pool: &str, weight: u32, somaxconn: u32) -> Value {
    json!({"spec": {
        "nodeSelector": {"matchLabels": {"pool": pool}},
        "weight": weight,
        "sysctls": {"values": {"net.core.somaxconn": somaxconn}},
    }})
}

/// Names of the subsystems, as the agent has them.
const PARTS: [&str; 6] = ["sysctl", "kernel", "cgroup", "pinning", "allocatable", "masquerade"];

/// The node's own side: what the engine would publish.
struct Engine {
    board: Arc<Board>,
    switchboard: Arc<Switchboard>,
    spec: watch::Sender<Option<SpecInForce>>,
    desk: Arc<Desk>,
    /// Absent: the container runtime is never to ask.
    link: Option<watch::Sender<NriLink>>,
    view: watch::Sender<Arc<NodeView>>,
    migration: Option<MigrationPorts>,
    progress: watch::Sender<Progress>,
    state: tempfile::TempDir,
}

impl Engine {
    fn new(desk: Arc<Desk>) -> Self {
        Self {
            board: Arc::new(Board::new("n1".into(), &PARTS)),
            switchboard: Arc::new(Switchboard::new(&PARTS)),
            spec: watch::Sender::new(None),
            desk,
            link: None,
            view: watch::Sender::default(),
            migration: None,
            progress: watch::Sender::new(Progress::default()),
            state: tempfile::TempDir::new().unwrap(),
        }
    }

    /// The room beside an engine that runs.
    fn beside(bench: &Bench) -> Self {
        let (board, switchboard) = (Arc::clone(&bench.board), Arc::clone(&bench.switchboard));
        Self { board, switchboard, ..Self::new(Arc::default()) }
    }

    fn side(&self) -> NodeSide {
        NodeSide {
            board: Arc::clone(&self.board),
            switchboard: Arc::clone(&self.switchboard),
            reports: self.board.subscribe(),
            spec: self.spec.subscribe(),
            desk: Arc::clone(&self.desk),
            link: self.link.as_ref().map(watch::Sender::subscribe),
            view: self.view.subscribe(),
            uses_objects: true,
            migration: self.migration.clone(),
            progress: self.progress.clone(),
            config_maps: Arc::new(StateFiles::new(self.state.path())),
        }
    }

    fn hold(&self, generation: u64, spec: NodeSpec) {
        let profile = ProfileReport {
            name: spec.name.clone(),
            generation,
            source: format!("nodeprofiles/{}", spec.name),
            valid: true,
            errors: Vec::new(),
        };
        self.board.publish_profile(profile);
        self.spec.send_replace(Some(SpecInForce { generation, spec: Arc::new(spec), text: None }));
    }

    /// Every part has ended a pass, and all is well.
    fn converge(&self) {
        for name in PARTS {
            self.publish(name, |report| report.state = State::Converged);
        }
    }

    fn publish(&self, name: &'static str, change: impl FnOnce(&mut SubsystemReport)) {
        let now = self.board.subscribe().borrow().clone();
        let mut report = SubsystemReport::clone(now.subsystems.iter().find(|report| report.name == name).unwrap());
        change(&mut report);
        self.board.publish(report);
    }
}

/// A node with its agent's room.
struct Scene {
    engine: Engine,
    offers: watch::Receiver<Offer>,
    views: Views,
    _end: DropGuard,
}

impl Scene {
    /// A double with this node, and nothing else.
    fn server() -> Double {
        let server = Double::new();
        server.put(NODE, json!({"metadata": {"labels": {"pool": "web"}}}));
        server
    }

    fn new(server: &Double) -> Self {
        Self::with(server, Engine::new(Arc::default()))
    }

    fn with(server: &Double, engine: Engine) -> Self {
        Self::named(server, "n1", engine)
    }

    fn named(server: &Double, node: &str, engine: Engine) -> Self {
        Self::holding(server, node, engine, None)
    }

    fn over(api: ApiServer, node: &str, engine: Engine) -> Self {
        Self::over_holding(api, node, engine, None)
    }

    /// The agent of a node that holds an object already.
    fn holding(server: &Double, node: &str, engine: Engine, taken: Option<Taken>) -> Self {
        Self::over_holding(ApiServer::new(server.client()), node, engine, taken)
    }

    fn over_holding(api: ApiServer, node: &str, engine: Engine, taken: Option<Taken>) -> Self {
        let (cluster, offers) = Cluster::new(node.to_owned(), Pace::default());
        let cluster = cluster.holding(taken);
        let views = cluster.views();
        let cancel = CancellationToken::new();
        tokio::spawn(cluster.run(api, engine.side(), cancel.clone()));
        Self { engine, offers, views, _end: cancel.drop_guard() }
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Offer) -> bool) -> Offer {
        let seen = tokio::time::timeout(LIMIT, self.offers.wait_for(|offer| fits(offer))).await;
        let offer = seen.ok().and_then(Result::ok).map(|offer| offer.clone());
        offer.unwrap_or_else(|| panic!("not offered: {what}"))
    }

    async fn until_profile(&mut self, name: &str) -> Offer {
        let wanted = format!("nodeprofiles/{name}");
        self.until(name, |offer| matches!(offer, Offer::Object { origin, .. } if *origin == wanted)).await
    }

    async fn until_value(&mut self, somaxconn: u32) {
        let wanted = format!("\"net.core.somaxconn\":{somaxconn}");
        self.until(&wanted, |offer| matches!(offer, Offer::Object { text, .. } if text.contains(&wanted))).await;
    }

    async fn until_nothing(&mut self) -> Offer {
        self.until("nothing", |offer| matches!(offer, Offer::Nothing { .. })).await
    }
}

/// Lets this much paused time go by, with everything that happens in it.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lists and watches that were asked for.
fn reads(server: &Double) -> usize {
    server.calls().iter().filter(|call| call.verb == "list" || call.verb == "watch").count()
}

/// What one agent of the whole cluster does, and thousands of nodes do not more often.
fn is_of_the_one_who_counts(call: &Call) -> bool {
    match call.resource.as_str() {
        "leases" => call.verb != "get",
        "nodestates" => call.verb == "list",
        resource => resource == "nodeprofiles/status",
    }
}
