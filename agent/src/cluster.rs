//! The agent at home in its cluster: which profile the API server has for this node, and what is told of the node.
//!
//! A guest, not a master: the node is held whether the API server answers or not. Everything here runs on a thread of its
//! own, reads the newest report as `serve` does, and hands the engine an [`Offer`] and the orders of a pause. What is decided is
//! decided in `trimtab_domain::cluster`.

mod clock;
mod conditions;
mod config_maps;
pub mod count;
pub mod crd;
pub mod disruption;
mod events;
mod extended;
pub mod farewell;
pub mod follow;
pub mod happenings;
pub mod health;
mod held;
mod lease;
pub mod migration;
mod pauses;
pub mod profiles;
mod rests;
pub mod rollout;
pub mod standstill;
mod startup_taint;
pub mod state;
mod topology;
mod wellness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;
use trimtab_domain::cluster::selection::Choice;
use trimtab_domain::migration::Progress;

use self::conditions::Conditions;
use self::config_maps::ConfigMaps;
use self::count::Counting;
use self::events::Events;
use self::extended::ExtendedResources;
use self::follow::{Following, Seen, follow};
use self::held::HeldPods;
use self::migration::{Migration, MigrationPorts, progress};
use self::profiles::{Chooser, ProfileObject};
use self::rests::Rests;
use self::rollout::{Gate, Taken};
use self::standstill::{LeftAlone, Standstill};
use self::startup_taint::StartupTaint;
use self::state::StateObject;
use self::topology::Topology;
use crate::adapters::api_server::{ApiServer, Form, NODE_PROFILES, NODES};
use crate::adapters::pod_failure::ApiPods;
use crate::adapters::profile_object::Offer;
use crate::ports::config_maps::ConfigMapFiles;
use crate::ports::nri_stats::NriLink;
use crate::reconcile::board::Board;
use crate::reconcile::engine::SpecInForce;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::orders::Switchboard;
use crate::reconcile::report::NodeReport;
use crate::subsystems::pinning::desk::Desk;

/// What is known of this node's own object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnNode {
    /// Its uid: another one is another node of the same name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Who owns fields of it, by server-side apply or otherwise.
    pub owners: BTreeSet<String>,
}

impl OwnNode {
    fn shape(mut object: Value) -> Option<(String, Self)> {
        let metadata = object.get_mut("metadata").map(Value::take)?;
        let name = metadata.get("name")?.as_str()?.to_owned();
        let texts = |field: &str| {
            let map = metadata.get(field).and_then(Value::as_object);
            let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            map.into_iter().flatten().filter_map(pair).collect()
        };
        let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let entries = metadata.get("managedFields").and_then(Value::as_array).into_iter().flatten();
        let owners = entries.filter_map(|entry| Some(entry.get("manager")?.as_str()?.to_owned())).collect();
        Some((name, Self { uid, labels: texts("labels"), annotations: texts("annotations"), owners }))
    }
}

/// How busy an agent may be at its start.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first request is made within this time, at random: a cluster that was switched on starts all at once.
    pub start: Duration,
    /// Watches are ended after this time, and up to as long again.
    pub watch: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { start: Duration::from_secs(10), watch: Duration::from_secs(1200) }
    }
}

/// The node, as far as the API server is told of it.
#[derive(Clone)]
pub struct NodeSide {
    /// What was found and done.
    pub reports: watch::Receiver<Arc<NodeReport>>,
    /// Where findings of this room go.
    pub board: Arc<Board>,
    /// Where a pause by an annotation is ordered.
    pub switchboard: Arc<Switchboard>,
    /// The profile in force.
    pub spec: watch::Receiver<Option<SpecInForce>>,
    /// Who is refused by pinning.
    pub desk: Arc<Desk>,
    /// Whether the container runtime asks the agent; absent: it never shall.
    pub link: Option<watch::Receiver<NriLink>>,
    /// Who holds which CPUs and memory.
    pub view: watch::Receiver<Arc<NodeView>>,
    /// True if the profile may come from an object.
    pub uses_objects: bool,
    /// How the node is moved to another cgroup driver; absent: it never is.
    pub migration: Option<MigrationPorts>,
    /// What that is doing.
    pub progress: watch::Sender<Progress>,
    /// Where ConfigMaps are laid down for the masquerade subsystem.
    pub config_maps: Arc<dyn ConfigMapFiles>,
}

/// What others of this room and of the roof follow.
#[derive(Debug, Clone)]
pub struct Views {
    /// This node's own object; nothing known: [`Seen::Unknown`], deleted or not made yet: an empty map.
    pub node: watch::Receiver<Seen<OwnNode>>,
    /// Every profile of the cluster.
    pub profiles: watch::Receiver<Seen<ProfileObject>>,
    /// What was decided of the profiles.
    pub choice: watch::Receiver<Choice>,
    /// The object that this node holds.
    pub taken: watch::Receiver<Option<Taken>>,
}

/// The room: what it has seen, and what it tells.
pub struct Cluster {
    node: String,
    pace: Pace,
    seen_node: watch::Sender<Seen<OwnNode>>,
    seen_profiles: watch::Sender<Seen<ProfileObject>>,
    choice: watch::Sender<Choice>,
    offer: watch::Sender<Offer>,
    taken: watch::Sender<Option<Taken>>,
}

impl Cluster {
    /// A room for this node; the receiver tells the profile that the API server has for it, once it has answered.
    #[must_use]
    pub fn new(node: String, pace: Pace) -> (Self, watch::Receiver<Offer>) {
        let (offer, offered) = watch::channel(Offer::Unknown);
        let cluster = Self {
            node,
            pace,
            seen_node: watch::Sender::new(Seen::Unknown),
            seen_profiles: watch::Sender::new(Seen::Unknown),
            choice: watch::Sender::new(Choice::default()),
            offer,
            taken: watch::Sender::new(None),
        };
        (cluster, offered)
    }

    /// The same for a node that holds an object already: another one comes to it when its turn has come.
    #[must_use]
    pub fn holding(self, taken: Option<Taken>) -> Self {
        self.taken.send_replace(taken);
        self
    }

    /// What there is to follow.
    #[must_use]
    pub fn views(&self) -> Views {
        Views {
            node: self.seen_node.subscribe(),
            profiles: self.seen_profiles.subscribe(),
            choice: self.choice.subscribe(),
            taken: self.taken.subscribe(),
        }
    }

    /// Follows profiles and the own Node, and tells of this one, until cancelled. A fault in the agent that ends one of its
    /// tasks begins all of them anew: what was known stays known.
    pub async fn run(self, api: ApiServer, side: NodeSide, cancel: CancellationToken) {
        let mut rests = Rests::default();
        loop {
            let begun = Instant::now();
            let mut tasks = self.begin(&api, side.clone());
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = tasks.join_next() => ended,
            };
            // Their ends are in order only when the node has nothing more to tell.
            if side.reports.has_changed().is_err() || side.spec.has_changed().is_err() {
                return;
            }
            tasks.shutdown().await;
            api.stats().record_restart();
            let rest = rests.after(begun.elapsed());
            error!(?ended, ?rest, "a fault in the agent: the API server is spoken with anew after a rest");
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn begin(&self, api: &ApiServer, side: NodeSide) -> JoinSet<()> {
        let views = self.views();
        let mut tasks = JoinSet::new();
        let own = Following {
            collection: NODES,
            namespace: None,
            only: Some(self.node.clone()),
            form: Form::Metadata,
            pace: self.pace,
        };
        tasks.spawn(follow(api.clone(), own, OwnNode::shape, self.seen_node.clone()));
        let all =
            Following { collection: NODE_PROFILES, namespace: None, only: None, form: Form::Whole, pace: self.pace };
        tasks.spawn(follow(api.clone(), all, ProfileObject::shape, self.seen_profiles.clone()));
        tasks.spawn(Counting { api: api.clone(), node: self.node.clone(), profiles: views.profiles.clone() }.keep());
        let (spec, files) = (side.spec.clone(), Arc::clone(&side.config_maps));
        tasks.spawn(ConfigMaps { api: api.clone(), pace: self.pace, spec, files }.keep());
        let (node, gate) = (self.node.clone(), Gate::new(self.node.clone(), api.clone()));
        let (choice, offer, taken) = (self.choice.clone(), self.offer.clone(), self.taken.clone());
        tasks.spawn(Chooser { node, views: views.clone(), choice, offer, taken, gate }.choose());
        tell(&mut tasks, api, &self.node, &views, side);
        tasks
    }
}

/// Events that may wait to be told, beside those of reports.
const WAITING_EVENTS: usize = 16;

/// Begins everything that tells.
fn tell(tasks: &mut JoinSet<()>, api: &ApiServer, node: &str, views: &Views, side: NodeSide) {
    let NodeSide { reports, board, switchboard, spec, desk, link, view, uses_objects, migration, progress, .. } = side;
    let (api, node, own) = (|| api.clone(), || node.to_owned(), || views.node.clone());
    let (health, healths) = watch::channel(health::health(&reports.borrow()));
    tasks.spawn(health::follow(reports.clone(), health));
    let conditions =
        Conditions { api: api(), node: node(), own: own(), health: healths.clone(), progress: progress.clone() };
    tasks.spawn(conditions.keep());
    let (views, health) = (views.clone(), healths.clone());
    let answering = (spec.clone(), link);
    tasks.spawn(
        StartupTaint { api: api(), node: node(), views: views.clone(), health, answering, uses_objects }.remove(),
    );
    tasks.spawn(StateObject { api: api(), node: node(), views, health: healths }.keep());
    tasks.spawn(ExtendedResources { api: api(), node: node(), own: own(), spec: spec.clone() }.keep());
    tasks.spawn(Topology { api: api(), node: node(), own: own(), spec: spec.clone(), view }.keep());
    tasks.spawn(Standstill { node: node(), own: own(), switchboard, board }.keep());
    let (events, others) = mpsc::channel(WAITING_EVENTS);
    tasks.spawn(Events { api: api(), node: node(), own: own(), reports: reports.clone(), others }.tell());
    if let Some(ports) = migration {
        let alone = LeftAlone { node: node(), own: own(), reports: reports.clone() };
        tasks.spawn(progress::keep((api(), node()), own(), progress.subscribe()));
        tasks.spawn(Migration::new((api(), node()), ports, (spec.clone(), alone), progress, events.clone()).run());
    }
    let failure = Arc::new(ApiPods::new(api()));
    tasks.spawn(HeldPods { desk, failure, spec, reports, events }.fail());
}
