//! The steps: each is made once, and the next look shows whether it took effect.

use std::time::Duration;

use serde_json::json;
use tracing::{debug, info};
use trimtab_domain::cluster::event::Gravity;
use trimtab_domain::disruption::Turn;
use trimtab_domain::migration::{Action, Phase};

use super::drain::Round;
use super::{Gathered, Migration, STEP, WAIT, Written, rules};
use crate::adapters::api_server::{ApiError, NODES, Patch};

/// Grace of the containers of DaemonSets and static pods.
const GRACE: Duration = Duration::from_secs(30);
/// Until the next look, where the state in between must not last.
const AT_ONCE: Duration = Duration::from_millis(20);
/// Systemd starts the kubelet so long after the runtime, if it must do it by itself.
const APART: Duration = Duration::from_secs(15);
/// Says on the Node who has cordoned it.
const CORDONED: &str = "trimtab.dev/cordoned-for";

/// Why a step has no effect yet.
enum Trouble {
    /// It is tried again.
    Again(String),
    /// It never will have one: turn back.
    Never(String),
}

impl Migration {
    /// Makes a step; how long until the next look.
    pub(super) async fn act(&mut self, action: Action, written: Written, gathered: &Gathered) -> Duration {
        debug!(?action, "a step of the migration to another cgroup driver");
        self.tell(Phase::Moving, words(action).to_owned());
        let done = match action {
            Action::TakeLease => return self.take_turn(gathered).await,
            Action::Cordon => self.cordon(written.clone()).await,
            Action::Evict => return self.drain(written, gathered).await,
            Action::Uncordon => self.schedulable(json!({"unschedulable": null}), json!(null)).await,
            Action::GiveLeaseBack => self.budget.give_back().await.map_err(Trouble::from),
            _ => self.act_on_node(action, &written, gathered).await,
        };
        match done {
            // A node that systemd brings back between the two edits has two drivers, and may not start the next agent.
            Ok(()) if action == Action::EditRuntime => AT_ONCE,
            Ok(()) => STEP,
            Err(Trouble::Again(why)) => {
                self.tell(Phase::Stuck, format!("{}: {why}", words(action)));
                WAIT
            }
            Err(Trouble::Never(why)) => self.turn_back(written, format!("{}: {why}", words(action))),
        }
    }

    async fn act_on_node(&self, action: Action, written: &Written, gathered: &Gathered) -> Result<(), Trouble> {
        let (places, target) = super::about(written);
        let (services, files) = (&self.ports.services, &self.ports.files);
        let unit_trouble = |error: crate::ports::services::UnitError| Trouble::Again(error.to_string());
        match action {
            Action::StopKubelet => {
                self.leave_start_to_systemd(written).await?;
                info!(unit = places.kubelet_unit, "stopping the kubelet for another cgroup driver");
                services.stop(&places.kubelet_unit).await.map_err(unit_trouble)
            }
            Action::RemoveSandboxes => {
                for sandbox in &gathered.sandboxes {
                    let ended = self.ports.sandboxes.end(&sandbox.id, GRACE).await;
                    ended
                        .map_err(|error| Trouble::Again(format!("{}/{}: {error}", sandbox.namespace, sandbox.name)))?;
                }
                Ok(())
            }
            Action::StopRuntime => {
                self.leave_start_to_systemd(written).await?;
                services.stop(&places.runtime_unit).await.map_err(unit_trouble)
            }
            Action::EditRuntime => {
                files.edit_runtime(places, target).map_err(|error| Trouble::Never(error.to_string()))
            }
            Action::EditKubelet => {
                files.edit_kubelet(places, target).map_err(|error| Trouble::Never(error.to_string()))
            }
            Action::RestoreFiles => files.restore(places).map_err(|error| Trouble::Again(error.to_string())),
            Action::StartRuntime => {
                files.forget_unfinished(places).map_err(|error| Trouble::Again(error.to_string()))?;
                services.start(&places.runtime_unit).await.map_err(unit_trouble)
            }
            Action::StartKubelet => services.start(&places.kubelet_unit).await.map_err(unit_trouble),
            // Those are of the cluster.
            Action::TakeLease | Action::Cordon | Action::Evict | Action::Uncordon | Action::GiveLeaseBack => Ok(()),
        }
    }

    /// Without a kubelet nobody starts an agent that has died, so systemd is told to bring the node back before it goes.
    async fn leave_start_to_systemd(&self, written: &Written) -> Result<(), Trouble> {
        let places = &written.places;
        let after = Duration::from_secs(written.wish.ready_timeout_seconds) + GRACE;
        for (unit, after) in [(&places.runtime_unit, after), (&places.kubelet_unit, after + APART)] {
            let armed = self.ports.services.start_later(unit, after).await;
            armed.map_err(|error| Trouble::Again(error.to_string()))?;
        }
        Ok(())
    }

    fn turn_back(&mut self, mut written: Written, why: String) -> Duration {
        self.happened(Gravity::Warning, "MigrationTurnsBack", why.clone());
        written.journal.turn_back(why, self.clock.now());
        if self.keep(written) { STEP } else { WAIT }
    }

    async fn take_turn(&mut self, gathered: &Gathered) -> Duration {
        let taken = match gathered.api.as_ref().map(|api| api.turn) {
            Some(Turn::MayTake(number)) => self.budget.take(number).await,
            Some(Turn::Holds(_)) => Ok(true),
            Some(Turn::Waits) | None => Ok(false),
        };
        match taken {
            Ok(true) => {
                self.queued = 0;
                STEP
            }
            Ok(false) => {
                self.tell(Phase::Waiting, "other nodes have their turn".to_owned());
                self.queue()
            }
            Err(error) => {
                self.tell(Phase::Waiting, error.to_string());
                self.queue()
            }
        }
    }

    /// That it was us is on the disk before it is done: what a person has cordoned stays so.
    async fn cordon(&mut self, mut written: Written) -> Result<(), Trouble> {
        written.journal.cordoned = true;
        if !self.keep(written) {
            return Err(Trouble::Again("the journal cannot be written".to_owned()));
        }
        self.schedulable(json!({"unschedulable": true}), json!("cgroup-driver")).await
    }

    async fn schedulable(&self, spec: serde_json::Value, mark: serde_json::Value) -> Result<(), Trouble> {
        let change = json!({"metadata": {"annotations": {CORDONED: mark}}, "spec": spec});
        self.api.patch(&NODES.object(&self.node), Patch::Merge, &change).await.map(drop).map_err(Trouble::from)
    }

    async fn drain(&mut self, written: Written, gathered: &Gathered) -> Duration {
        let pods = gathered.api.as_ref().and_then(|api| api.pods.clone()).unwrap_or_default();
        match self.evict(&pods, rules(&written.wish)).await {
            Round::Left(words) => {
                self.tell(Phase::Moving, words);
                WAIT
            }
            Round::Forbidden(why) => self.turn_back(written, why),
        }
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Again(error.to_string())
    }
}

/// The step for a person.
const fn words(action: Action) -> &'static str {
    match action {
        Action::TakeLease => "taking a place of the disruption budget",
        Action::Cordon => "cordoning the node",
        Action::Evict => "draining the node",
        Action::StopKubelet => "stopping the kubelet",
        Action::RemoveSandboxes => "removing what the drain left",
        Action::StopRuntime => "stopping the container runtime",
        Action::EditRuntime => "changing the runtime's configuration",
        Action::EditKubelet => "changing the kubelet's configuration",
        Action::RestoreFiles => "putting the configuration back",
        Action::StartRuntime => "starting the container runtime",
        Action::StartKubelet => "starting the kubelet",
        Action::Uncordon => "uncordoning the node",
        Action::GiveLeaseBack => "giving the place of the disruption budget back",
    }
}
