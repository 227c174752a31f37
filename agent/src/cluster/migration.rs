//! Moves the node to another cgroup driver, where the profile says `cgroup.onMismatch: Migrate` and the node uses another.
//!
//! What comes next is decided in `trimtab_domain::migration`; here the facts are gathered and the step is made. The journal is
//! on the disk before each step, so that an agent that dies anywhere goes on where it was. Between the stop and the start of
//! the kubelet nobody would start a dead agent again: systemd starts runtime and kubelet by itself after a while then.

mod act;
mod drain;
mod facts;
pub mod leave;
mod preflight;
pub(super) mod progress;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use trimtab_domain::cluster::event::{Gravity, Happening};
use trimtab_domain::disruption::Turn;
use trimtab_domain::migration::drain::DrainRules;
use trimtab_domain::migration::{Decision, Facts, Journal, Limits, Outcome, Phase, Progress, decide};
use trimtab_domain::spec::cgroup::{CgroupDriver, MigrationSpec};

use self::facts::ApiFacts;
use super::clock::WallClock;
use super::disruption::Budget;
use super::events::About;
use super::standstill::LeftAlone;
use crate::adapters::api_server::ApiServer;
use crate::adapters::driver_files::{DriverFiles, Places};
use crate::adapters::migration_file::{MigrationFile, Written};
use crate::ports::runtime::{ContainerRuntime, Sandboxes};
use crate::ports::services::Services;
use crate::reconcile::backoff::spread;
use crate::reconcile::engine::SpecInForce;

/// The part of the engine whose pauses count here.
const PART: &str = "cgroup";

/// Between two looks at a node that is being moved.
const STEP: Duration = Duration::from_secs(1);
/// While something is waited for that takes a while: pods that leave, a node that gets ready.
const WAIT: Duration = Duration::from_secs(5);
/// Shortest and longest pause while other nodes have their turn; the longest is what thousands of nodes ask at.
const QUEUE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A node that is as wished, or whose preflight has failed, is looked at again after this time.
const IDLE: Duration = Duration::from_secs(300);
/// Beyond the time that a node may need without the API server, a place is kept for this long.
const LEASE_MARGIN: Duration = Duration::from_secs(300);

/// The agent's own pod, which must not be stopped before kubelet and runtime are back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnPod {
    /// The agent runs beside Kubernetes.
    None,
    /// It runs in a pod and was not told which.
    Unknown,
    /// This one.
    Named {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// The node's side of a migration.
#[derive(Clone)]
pub struct MigrationPorts {
    /// Files of kubelet and runtime.
    pub files: Arc<DriverFiles>,
    /// Their units.
    pub services: Arc<dyn Services>,
    /// The runtime.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Its sandboxes.
    pub sandboxes: Arc<dyn Sandboxes>,
    /// The journal.
    pub journal: MigrationFile,
    /// The agent's own pod.
    pub own: OwnPod,
    /// Namespace of the places of the budget.
    pub namespace: String,
}

/// The executor.
pub(super) struct Migration {
    api: ApiServer,
    node: String,
    ports: MigrationPorts,
    spec: watch::Receiver<Option<SpecInForce>>,
    alone: LeftAlone,
    progress: watch::Sender<Progress>,
    events: mpsc::Sender<(About, Happening)>,
    clock: WallClock,
    budget: Budget,
    written: Option<Written>,
    queued: u32,
    nodes: Option<(Instant, usize)>,
}

/// What the profile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    target: CgroupDriver,
    spec: MigrationSpec,
}

impl Wish {
    const fn limits(&self) -> Limits {
        Limits { drain: self.spec.drain_timeout_seconds, ready: self.spec.ready_timeout_seconds }
    }
}

const fn rules(spec: &MigrationSpec) -> DrainRules {
    DrainRules { delete_empty_dir_data: spec.delete_empty_dir_data, force: spec.force }
}

/// Longest time that a node goes on without the API server, and the margin.
fn lease_duration(spec: &MigrationSpec) -> Duration {
    Duration::from_secs(spec.ready_timeout_seconds.saturating_mul(3)) + LEASE_MARGIN
}

impl Migration {
    /// An executor for this node; `progress` and `events` tell what it does.
    pub(super) fn new(
        (api, node): (ApiServer, String),
        ports: MigrationPorts,
        (spec, alone): (watch::Receiver<Option<SpecInForce>>, LeftAlone),
        progress: watch::Sender<Progress>,
        events: mpsc::Sender<(About, Happening)>,
    ) -> Self {
        let lasts = lease_duration(&MigrationSpec::default());
        let budget = Budget::new(api.clone(), ports.namespace.clone(), node.clone(), "cgroup-driver", lasts);
        let (clock, written, nodes) = (WallClock::start(), None, None);
        Self { api, node, ports, spec, alone, progress, events, clock, budget, written, queued: 0, nodes }
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        loop {
            match self.ports.journal.read() {
                Ok(written) => {
                    self.written = written;
                    break;
                }
                Err(error) => {
                    self.tell(Phase::Refused, error.to_string());
                    tokio::time::sleep(IDLE).await;
                }
            }
        }
        if let Some(written) = self.written.as_ref().filter(|written| written.journal.outcome.is_none()) {
            info!(target = %written.journal.target, "a migration to another cgroup driver goes on");
        }
        loop {
            let pause = self.turn().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.spec.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One look and one step; how long until the next.
    async fn turn(&mut self) -> Duration {
        let spec = self.spec.borrow_and_update().clone();
        let known = spec.is_some();
        let wish = spec.as_ref().and_then(|now| {
            let cgroup = &now.spec.cgroup;
            Some(Wish { target: cgroup.driver?, spec: cgroup.migration.clone()? })
        });
        // One that has begun goes on: what is half done is no state to be left in.
        let alone = spec.and_then(|now| self.alone.why(PART, &now.spec));
        match self.written.clone() {
            Some(written) if written.journal.outcome.is_none() => {
                // Before a profile is known the wish of the beginning counts.
                let still = !known || wish.as_ref().is_some_and(|wish| wish.target == written.journal.target);
                self.go_on(written, still).await
            }
            before => match wish {
                Some(wish) => self.begin(before, wish, alone).await,
                None => {
                    self.tell(Phase::Idle, String::new());
                    IDLE
                }
            },
        }
    }

    /// Begins, if the node uses another driver, may be moved, and it is its turn.
    async fn begin(&mut self, before: Option<Written>, wish: Wish, alone: Option<String>) -> Duration {
        if let Some(written) = &before
            && written.wish == wish.spec
            && written.journal.target == wish.target
            && let Some(Outcome::TurnedBack { reason }) = &written.journal.outcome
        {
            self.tell(Phase::TurnedBack, format!("{reason}; change cgroup.migration of the profile to try again"));
            return IDLE;
        }
        let places = match self.ports.files.find(&wish.spec) {
            Ok(places) => places,
            Err(error) => return self.refuse(error.to_string()),
        };
        match self.is_as_wished(&places, wish.target).await {
            Ok(true) => {
                self.replace_own_pod(before.as_ref(), wish.target).await;
                self.tell(Phase::Idle, String::new());
                return IDLE + spread(IDLE / 5);
            }
            Ok(false) => {}
            Err(why) => return self.refuse(why),
        }
        if let Some(why) = alone {
            self.tell(Phase::Waiting, why);
            return WAIT;
        }
        self.budget.set_duration(lease_duration(&wish.spec));
        match self.may_begin(&wish).await {
            Ok(true) => {}
            Ok(false) => {
                self.tell(Phase::Waiting, "other nodes have their turn, or are not ready".to_owned());
                return self.queue();
            }
            Err(error) => {
                self.tell(Phase::Waiting, error.to_string());
                return self.queue();
            }
        }
        if let Err(why) = self.preflight(&places, &wish).await {
            return self.refuse(why);
        }
        if let Err(error) = self.ports.files.forget_copies(&places) {
            return self.refuse(error.to_string());
        }
        self.queued = 0;
        let journal = Journal::begin(wish.target, self.clock.now());
        self.happened(Gravity::Normal, "MigrationBegun", format!("the node is to be moved to {}", wish.target));
        if self.keep(Written { journal, places, wish: wish.spec }) { STEP } else { IDLE }
    }

    /// Whether it is this node's turn, and enough others are well.
    async fn may_begin(&mut self, wish: &Wish) -> Result<bool, crate::adapters::api_server::ApiError> {
        Ok(match self.budget.look(wish.spec.max_unavailable).await? {
            Turn::Waits => false,
            Turn::Holds(_) | Turn::MayTake(_) => self.is_healthy(wish.spec.max_unavailable).await?,
        })
    }

    /// One step of a migration that has begun.
    async fn go_on(&mut self, mut written: Written, still_wished: bool) -> Duration {
        let now = self.clock.now();
        if !still_wished {
            written.journal.turn_back("the profile does not ask for it any more".to_owned(), now);
        }
        self.budget.set_duration(lease_duration(&written.wish));
        let facts = match self.facts(&written).await {
            Ok(facts) => facts,
            Err(why) => {
                self.tell(Phase::Stuck, why);
                return WAIT;
            }
        };
        written.journal.note(&facts.facts, now);
        let wish = Wish { target: written.journal.target, spec: written.wish.clone() };
        let decision = decide(&written.journal, &facts.facts, wish.limits(), now);
        if let Decision::TurnBack(reason) = &decision {
            warn!(reason, "the migration to another cgroup driver turns back");
            self.happened(Gravity::Warning, "MigrationTurnsBack", reason.clone());
            written.journal.turn_back(reason.clone(), now);
        }
        if let Decision::End(outcome) = &decision {
            written.journal.outcome = Some(outcome.clone());
        }
        // The disk first: whatever is done next is done again after a crash, not forgotten.
        if !self.keep(written.clone()) {
            return WAIT;
        }
        match decision {
            Decision::Do(action) => self.act(action, written, &facts).await,
            Decision::Wait(why) => {
                self.tell(Phase::Moving, why.to_owned());
                WAIT
            }
            Decision::TurnBack(_) => STEP,
            Decision::End(outcome) => {
                self.ended(&written, &outcome).await;
                STEP
            }
        }
    }

    /// Keeps the journal; false if the disk refuses, and then nothing may be done.
    fn keep(&mut self, written: Written) -> bool {
        if self.written.as_ref() == Some(&written) {
            return true;
        }
        match self.ports.journal.write(&written) {
            Ok(()) => {
                self.written = Some(written);
                true
            }
            Err(error) => {
                self.tell(Phase::Stuck, error.to_string());
                false
            }
        }
    }

    async fn ended(&mut self, written: &Written, outcome: &Outcome) {
        for unit in [&written.places.runtime_unit, &written.places.kubelet_unit] {
            // One that strikes finds the unit running, and does nothing.
            let _left = self.ports.services.forget_start(unit).await;
        }
        match outcome {
            Outcome::Migrated => {
                info!(target = %written.journal.target, "the node has been moved to another cgroup driver");
                self.happened(Gravity::Normal, "Migrated", format!("the node uses {} now", written.journal.target));
            }
            Outcome::TurnedBack { reason } => {
                warn!(reason, "the node is as before its migration to another cgroup driver");
                self.happened(Gravity::Warning, "MigrationTurnedBack", format!("the node is as before: {reason}"));
            }
        }
    }

    fn queue(&mut self) -> Duration {
        let pause = QUEUE.0.saturating_mul(1 << self.queued.min(8)).min(QUEUE.1);
        self.queued = self.queued.saturating_add(1);
        pause / 2 + spread(pause / 2)
    }

    fn refuse(&self, why: String) -> Duration {
        if self.tell(Phase::Refused, why.clone()) {
            warn!(why, "the node uses another cgroup driver than the profile says, and is not moved");
            self.happened(Gravity::Warning, "MigrationRefused", why);
        }
        IDLE
    }

    /// Tells what is going on; true if that is news.
    fn tell(&self, phase: Phase, message: String) -> bool {
        let journal = self.written.as_ref().map(|written| &written.journal);
        let target = journal.map(|journal| journal.target);
        let now = Progress { phase, message, target };
        self.progress.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        })
    }

    fn happened(&self, gravity: Gravity, reason: &'static str, note: String) {
        let happening = Happening { gravity, reason, action: "Migrate", subject: "cgroup driver".to_owned(), note };
        // A full channel is a flood of events, and those are dropped.
        let _full = self.events.try_send((About::Node, happening));
    }
}

/// The facts, and what the steps need of what was read for them.
struct Gathered {
    facts: Facts,
    api: Option<ApiFacts>,
    sandboxes: Vec<trimtab_domain::roster::Sandbox>,
}

/// Places and target of a migration.
const fn about(written: &Written) -> (&Places, CgroupDriver) {
    (&written.places, written.journal.target)
}
