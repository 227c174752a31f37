//! Answers a container runtime from memory: who gets which CPUs, decided while the runtime waits.
//!
//! The pass of the subsystem tells the desk what it found and decided ([`Desk::publish`]); between two passes the desk
//! decides alone, by the same managers, and wakes the pass, which reads back, records and repairs. Both see each other's
//! changes by one number, the *version*: what a pass decided is taken only if nobody has come or gone meanwhile.
//!
//! The lock is held for as long as one decision takes, never over a file, a socket or an await.

mod change;
pub(super) mod claim;
mod create;
mod foreign;
mod held;
mod live;
pub(super) mod standing;
mod state;
mod synchronize;
pub(super) mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};
use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::hint::NumaMask;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::roster::{ContainerState, Roster, Sandbox, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{ContainerId, Pod};

pub use self::foreign::ForeignPinner;
pub use self::held::HeldContainer;
use self::standing::Standing;
use self::state::State;
use self::tally::Decided;
use crate::ports::admission::{Admission, CpusetUpdate, Created, Lifecycle, Refused, RuntimePeer, UnsolicitedUpdates};
use crate::ports::admission_stats::AdmissionStats;
use crate::ports::runtime::RuntimeListing;

/// The desk. Shared by the subsystem and the session with the runtime.
#[derive(Debug, Default)]
pub struct Desk {
    state: Mutex<State>,
    wake: Arc<Notify>,
    informed: watch::Sender<bool>,
    /// How the runtime that asks is told what it has not asked for; absent: it is not.
    updates: OnceLock<Arc<dyn UnsolicitedUpdates>>,
}

/// What a pass sees of the desk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeskView {
    /// Moment at which this was so.
    pub version: u64,
    /// True while a runtime announces what it does.
    pub connected: bool,
    /// Who lives, as far as a runtime told.
    pub roster: Roster,
    /// What its handlers are.
    pub handlers: HandlerTypes,
    /// Who has what.
    pub places: Vec<Place>,
    /// Containers that were created with sets of ours and never had any others.
    pub born_pinned: BTreeSet<ContainerId>,
    /// CPUs that the runtime was last told of a container in the answer to a request.
    pub answered: BTreeMap<ContainerId, CpuSet>,
    /// Signs of somebody else who pins.
    pub foreign: ForeignPinner,
    /// Who is refused at the moment.
    pub held: Vec<HeldContainer>,
}

/// What a container has by a decision of the desk or of the pass before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its pod as it was admitted.
    pub pod: Arc<Pod>,
    /// Its name.
    pub container: String,
    /// CPUs of its own.
    pub cpus: Option<CpuSet>,
    /// NUMA nodes of its memory.
    pub nodes: Option<NumaMask>,
}

/// What a pass found and decided.
pub(super) struct Findings {
    /// By what the desk answers from now on.
    pub(super) standing: Standing,
    /// CPUs that are set for containers on the node.
    pub(super) running_on: BTreeMap<ContainerId, CpuSet>,
    /// What it decided about containers that had no place, granted or not.
    pub(super) decided: Vec<Decided>,
}

impl Desk {
    /// Wakes the pass; notified after each change that a pass has to look after.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Tells the runtime that asks also what it has not asked for, in this way. Said once.
    pub fn change_by(&self, updates: Arc<dyn UnsolicitedUpdates>) {
        // A second way would lead to the same runtime.
        let _ = self.updates.set(updates);
    }

    pub(super) fn updates(&self) -> Option<&Arc<dyn UnsolicitedUpdates>> {
        self.updates.get()
    }

    /// Containers that the runtime can be told to change over the session in which it asks; none where it might lock up.
    pub(super) fn changeable(&self) -> BTreeSet<ContainerId> {
        let state = self.lock();
        let is_safe = state.peer.as_ref().is_some_and(|peer| peer.safe_unsolicited_updates);
        if !is_safe || self.updates.get().is_none() {
            return BTreeSet::new();
        }
        let living = state.living.0.iter().filter(|(_, live)| !live.sandboxed);
        living.map(|(id, _)| id.clone()).collect()
    }

    /// Ends when a first pass has told what runs; before that every container that is entitled to exclusive CPUs is
    /// refused, so a runtime should not be connected to earlier.
    pub async fn informed(&self) {
        // The sender lives as long as the desk.
        let _ = self.informed.subscribe().wait_for(|informed| *informed).await;
    }

    /// The counts of what is decided here and by the passes.
    #[must_use]
    pub fn admissions(&self) -> Arc<AdmissionStats> {
        Arc::clone(&self.lock().tally.stats)
    }

    /// Grows with every change of who lives and who has what.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Says that the agent itself is about to tell the runtime these CPUs for a container, so that they are not taken for
    /// somebody else's when they come back as a request.
    pub fn announce(&self, id: &ContainerId, cpus: &CpuSet) {
        /// Requests to one container that may be under way at once.
        const UNDER_WAY: usize = 8;
        let mut state = self.lock();
        if !state.living.0.contains_key(id) {
            return;
        }
        let sets = state.announced.entry(id.clone()).or_default();
        sets.retain(|set| set != cpus);
        sets.push(cpus.clone());
        if sets.len() > UNDER_WAY {
            sets.remove(0);
        }
    }

    /// Takes a listing of the runtime: the whole truth while nobody announces, else only what it has of further facts.
    pub fn listed(&self, listing: RuntimeListing) {
        let mut state = self.lock();
        if !listing.handlers.0.is_empty() {
            state.handlers = listing.handlers;
        }
        if state.peer.is_some() {
            state.roster.complete(&listing.sandboxes, &listing.containers);
            state.look_at_pods("");
            return;
        }
        let before = state.roster.clone();
        state.roster.refresh(listing.sandboxes, listing.containers);
        if state.roster != before {
            state.follow_roster();
            state.version += 1;
        }
        state.look_at_pods(&listing.runtime);
    }

    /// Nobody lists, and while nobody announces either, only the tree tells what is over: the kubelet makes the cgroup of
    /// a pod before its sandbox and removes it last.
    pub(super) fn unlisted(&self, tree: Option<&PodTree>) {
        let mut state = self.lock();
        let Some(tree) = tree.filter(|_| state.peer.is_none() && !state.roster.is_empty()) else { return };
        let before = state.roster.clone();
        state.roster.retain_pods(|uid| tree.pods.iter().any(|pod| pod.uid == *uid));
        if state.roster != before {
            state.follow_roster();
            state.version += 1;
        }
    }

    /// Containers that were known to live in sandboxes of the listing, and that it leaves out. None while a runtime
    /// announces what ends.
    pub(super) fn left_out_of(&self, listing: &RuntimeListing) -> Vec<SandboxContainer> {
        let state = self.lock();
        if state.peer.is_some() {
            return Vec::new();
        }
        let listed: BTreeSet<&ContainerId> = listing.containers.iter().map(|listed| &listed.id).collect();
        let homes: BTreeSet<&SandboxId> = listing.sandboxes.iter().map(|sandbox| &sandbox.id).collect();
        let lived = |known: &&SandboxContainer| known.state != ContainerState::Exited && homes.contains(&known.sandbox);
        let known = state.roster.containers().into_iter().filter(lived);
        known.filter(|known| !listed.contains(&known.id)).cloned().collect()
    }

    /// True if a runtime has made the container and has not started it yet, as far as it told: what it is told of the
    /// container now it may only remember.
    pub(super) fn is_starting(&self, id: &ContainerId) -> bool {
        self.lock().roster.container(id).is_some_and(|known| known.state == ContainerState::Created)
    }

    /// Who is refused at the moment.
    #[must_use]
    pub fn held(&self) -> Vec<HeldContainer> {
        self.lock().held.list()
    }

    /// What a pass has to know.
    #[must_use]
    pub fn view(&self) -> DeskView {
        let state = self.lock();
        let places = match &state.standing {
            Standing::Holding(rules) => {
                let place = |held: trimtab_domain::placement::Assignment| {
                    let pod = Arc::clone(rules.managers.active().get(&held.pod)?);
                    Some(Place { pod, container: held.container, cpus: held.cpus, nodes: held.memory_nodes })
                };
                rules.managers.assignments().filter_map(place).collect()
            }
            Standing::Unknown | Standing::Silent => Vec::new(),
        };
        let born_pinned = state.living.0.iter().filter(|(_, live)| live.born_pinned).map(|(id, _)| id.clone());
        let answered = state.living.0.iter().filter_map(|(id, live)| Some((id.clone(), live.answered.clone()?)));
        DeskView {
            version: state.version,
            connected: state.peer.is_some(),
            roster: state.roster.clone(),
            handlers: state.handlers.clone(),
            places,
            born_pinned: born_pinned.collect(),
            answered: answered.collect(),
            foreign: state.foreign.clone(),
            held: state.held.list(),
        }
    }

    /// Takes what a pass decided on the view of this version; false if somebody has come or gone since, and then nothing
    /// is taken.
    pub(super) fn publish(&self, version: u64, findings: Findings) -> bool {
        let mut state = self.lock();
        if state.version != version {
            return false;
        }
        for (id, cpus) in &findings.running_on {
            if let Some(live) = state.living.0.get_mut(id) {
                live.cpus = Some(cpus.clone());
            }
        }
        state.seen = findings.running_on;
        state.tally_pass(&findings.decided, &findings.standing);
        let before = std::mem::replace(&mut state.standing, findings.standing);
        drop(state);
        // Freed without the lock.
        drop(before);
        self.informed.send_if_modified(|informed| !std::mem::replace(informed, true));
        true
    }

    /// Notes the settings in force. When a person changes them, the signs of somebody else who pins are forgotten: if he
    /// is still at work, he shows again.
    pub(super) fn follow_settings(&self, spec: Option<&ResourceManagersSpec>) {
        let mut state = self.lock();
        if state.settings.as_ref().is_some_and(|known| known.as_ref() != spec) {
            state.foreign = ForeignPinner::default();
            state.look_at_pods("");
        }
        state.settings = Some(spec.cloned());
    }

    /// True if these are the settings in force, or none have been yet.
    pub(super) fn stands_by(&self, spec: Option<&ResourceManagersSpec>) -> bool {
        self.lock().settings.as_ref().is_none_or(|known| known.as_ref() == spec)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Desk {
    fn connected(&self, peer: &RuntimePeer) {
        self.lock().peer = Some(peer.clone());
        self.wake.notify_one();
    }

    fn synchronize(&self, sandboxes: Vec<Sandbox>, containers: Vec<SandboxContainer>) -> Vec<CpusetUpdate> {
        let updates = self.lock().synchronize(sandboxes, containers);
        self.wake.notify_one();
        updates
    }

    fn create(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Result<Created, Refused> {
        let answer = self.lock().create(sandbox, container);
        self.wake.notify_one();
        answer
    }

    fn update(
        &self,
        sandbox: &Sandbox,
        container: &SandboxContainer,
        asked: &ToldResources,
    ) -> Result<Vec<CpusetUpdate>, Refused> {
        let mut state = self.lock();
        let before = state.version;
        let answer = state.update(sandbox, container, asked);
        // What the agent itself asked for needs no further look.
        if state.version != before {
            self.wake.notify_one();
        }
        answer
    }

    fn stop(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Vec<CpusetUpdate> {
        self.lock().stop(sandbox, &container.id);
        self.wake.notify_one();
        Vec::new()
    }

    fn event(&self, event: Lifecycle, sandbox: &Sandbox, container: Option<&SandboxContainer>) {
        let mut state = self.lock();
        match (event, container) {
            (Lifecycle::SandboxStarted | Lifecycle::SandboxUpdated, _) => state.roster.put_sandbox(sandbox.clone()),
            (Lifecycle::SandboxStopped, _) => state.stop_sandbox(sandbox),
            (Lifecycle::SandboxRemoved, _) => state.remove_sandbox(sandbox),
            (Lifecycle::ContainerStarted, Some(container)) => state.roster.put_container(container.clone()),
            (Lifecycle::ContainerRemoved, Some(container)) => state.remove_container(sandbox, container),
            (Lifecycle::ContainerStarted | Lifecycle::ContainerRemoved, None) => {}
        }
        drop(state);
        self.wake.notify_one();
    }

    fn disconnected(&self) {
        self.lock().peer = None;
        self.wake.notify_one();
    }
}
