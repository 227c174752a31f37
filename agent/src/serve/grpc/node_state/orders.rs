//! Calls that the engine answers: the plan for everybody, and the few that change what the agent does for who may.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::Extensions;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trimtab_proto::node::v1alpha1 as wire;

use super::{Refused, report};
use crate::profile;
use crate::reconcile::history::{Change, ChangeKind, History};
use crate::reconcile::hold::{Hold, LONGEST_HOLD, SHORTEST_HOLD, Source, Stand};
use crate::reconcile::orders::{Done, Durability, Order, Rehearsal, Switchboard};
use crate::serve::grpc::{PeerLimiter, RateLimit};
use crate::serve::peer::Peer;

/// Plans that one caller may ask for: each reads the whole node.
const PLANS: RateLimit = RateLimit { per_second: 1, burst: 5 };

/// Orders that one caller may give.
const ORDERS: RateLimit = RateLimit { per_second: 1, burst: 10 };

/// Bytes of a reason that a caller gives.
const MAX_REASON_BYTES: usize = 256;

/// Bytes of a profile that a caller asks about.
const MAX_PROFILE_BYTES: usize = 60 * 1024;

/// The way to the engine, and how often it may be taken.
#[derive(Debug)]
pub(super) struct Orders {
    switchboard: Arc<Switchboard>,
    history: Arc<History>,
    plans: PeerLimiter,
    orders: PeerLimiter,
}

impl Orders {
    pub(super) fn new(switchboard: Arc<Switchboard>, history: Arc<History>) -> Self {
        let (plans, orders) = (PeerLimiter::new(Some(PLANS)), PeerLimiter::new(Some(ORDERS)));
        Self { switchboard, history, plans, orders }
    }

    pub(super) async fn plan(
        &self,
        caller: &Extensions,
        request: wire::PlanRequest,
    ) -> Result<wire::PlanResponse, Refused> {
        let wanted = self.switchboard.choose(&request.subsystems)?;
        if caller.get::<Peer>().is_some_and(|peer| !self.plans.admits(peer, Instant::now())) {
            return Err(Refused::TooOften { what: "plans" });
        }
        if !request.profile.is_empty() {
            return self.rehearse(wanted, &request.profile).await;
        }
        let mut asked = Vec::new();
        for subsystem in wanted {
            let (answer, told) = oneshot::channel();
            self.switchboard.send(subsystem, Order::Preview { answer })?;
            asked.push((subsystem, told));
        }
        Ok(wire::PlanResponse { plans: answers(asked).await?, profile_errors: Vec::new() })
    }

    /// What a profile that is not in force would change.
    async fn rehearse(&self, subsystems: Vec<&'static str>, text: &str) -> Result<wire::PlanResponse, Refused> {
        if text.len() > MAX_PROFILE_BYTES {
            let detail = format!("it has {} bytes, {MAX_PROFILE_BYTES} are allowed", text.len());
            return Err(Refused::Argument { field: "profile", detail });
        }
        let spec = match profile::parse("profile", text.as_bytes()) {
            Ok(profile) => profile.spec,
            Err(rejected) => {
                let profile_errors = rejected.diagnostics.iter().map(ToString::to_string).collect();
                return Ok(wire::PlanResponse { plans: Vec::new(), profile_errors });
            }
        };
        let (answer, told) = oneshot::channel();
        self.switchboard.rehearse(Rehearsal { spec, subsystems, answer })?;
        let plans = told.await.map_err(|_| Refused::Stopping)?;
        let plans = plans.into_iter().map(|(subsystem, done)| to_plan(subsystem, done)).collect();
        Ok(wire::PlanResponse { plans, profile_errors: Vec::new() })
    }

    pub(super) async fn resync(
        &self,
        caller: &Extensions,
        request: wire::ResyncRequest,
    ) -> Result<wire::ResyncResponse, Refused> {
        let by = self.admit(caller)?;
        let mut asked = Vec::new();
        for subsystem in self.switchboard.choose(&request.subsystems)? {
            let (answer, told) = oneshot::channel();
            self.switchboard.send(subsystem, Order::Resync { answer })?;
            self.note(subsystem, "resync", (&by, String::new()));
            asked.push((subsystem, told));
        }
        Ok(wire::ResyncResponse { outcomes: answers(asked).await? })
    }

    pub(super) async fn rollback(
        &self,
        caller: &Extensions,
        request: wire::RollbackRequest,
    ) -> Result<wire::RollbackResponse, Refused> {
        let by = self.admit(caller)?;
        let subsystem = self.switchboard.find(&request.subsystem)?;
        let until = deadline("pause", request.pause)?;
        let (source, reason) = (Source::Call, reason(request.reason)?);
        let hold = Hold { source, stand: Stand::GiveBack, until, by, reason };
        let (done, _) = self.hold(subsystem, "rollback", &hold).await?;
        Ok(wire::RollbackResponse { outcome: Some(to_plan(subsystem, done)), pause: Some(report::to_hold(&hold)) })
    }

    pub(super) async fn pause(
        &self,
        caller: &Extensions,
        request: wire::PauseRequest,
    ) -> Result<wire::PauseResponse, Refused> {
        let by = self.admit(caller)?;
        let subsystem = self.switchboard.find(&request.subsystem)?;
        let until = deadline("duration", request.duration)?;
        let (source, reason) = (Source::Call, reason(request.reason)?);
        let hold = Hold { source, stand: Stand::Pause, until, by, reason };
        let (_, durability) = self.hold(subsystem, "pause", &hold).await?;
        let durable = durability == Durability::Durable;
        Ok(wire::PauseResponse { pause: Some(report::to_hold(&hold)), durable })
    }

    pub(super) async fn resume(
        &self,
        caller: &Extensions,
        request: wire::ResumeRequest,
    ) -> Result<wire::ResumeResponse, Refused> {
        let by = self.admit(caller)?;
        let subsystem = self.switchboard.find(&request.subsystem)?;
        let (answer, told) = oneshot::channel();
        self.switchboard.send(subsystem, Order::Resume { of: Source::Call, answer })?;
        self.note(subsystem, "resume", (&by, String::new()));
        let told = told.await.map_err(|_| Refused::Stopping)?;
        Ok(wire::ResumeResponse { was_paused: told.was_paused, pause: told.still.as_ref().map(report::to_hold) })
    }

    async fn hold(
        &self,
        subsystem: &'static str,
        call: &'static str,
        hold: &Hold,
    ) -> Result<(Done, Durability), Refused> {
        let (answer, told) = oneshot::channel();
        self.switchboard.send(subsystem, Order::Hold { hold: hold.clone(), answer })?;
        let until = humantime::format_rfc3339_seconds(hold.until);
        let why = if hold.reason.is_empty() { String::new() } else { format!(": {}", hold.reason) };
        self.note(subsystem, call, (&hold.by, format!("until {until}{why}")));
        told.await.map_err(|_| Refused::Stopping)
    }

    /// Who calls, if they may change what the agent does and do not do it too often.
    fn admit(&self, caller: &Extensions) -> Result<String, Refused> {
        let peer = Peer::admin(caller)?;
        if !self.orders.admits(peer, Instant::now()) {
            return Err(Refused::TooOften { what: "orders" });
        }
        Ok(peer.identity.to_string())
    }

    fn note(&self, subsystem: &'static str, call: &str, (by, reason): (&str, String)) {
        tracing::info!(subsystem, call, by, reason, "a call changes what the agent does");
        self.history.note(Change {
            new: Some(call.to_owned()),
            actor: by.to_owned(),
            reason,
            ..Change::new(subsystem, ChangeKind::Call, "")
        });
    }
}

/// The answers of the subsystems that were asked, in that order.
async fn answers(asked: Vec<(&'static str, oneshot::Receiver<Done>)>) -> Result<Vec<wire::SubsystemPlan>, Refused> {
    let mut plans = Vec::new();
    for (subsystem, told) in asked {
        plans.push(to_plan(subsystem, told.await.map_err(|_| Refused::Stopping)?));
    }
    Ok(plans)
}

fn to_plan(subsystem: &str, done: Done) -> wire::SubsystemPlan {
    wire::SubsystemPlan {
        subsystem: subsystem.to_owned(),
        steps: done.steps.iter().map(report::to_step).collect(),
        refusals: done.refusals.iter().map(report::to_refusal).collect(),
        findings: done.findings.iter().map(report::to_finding).collect(),
        error: done.error,
    }
}

/// When a pause of that length ends.
fn deadline(field: &'static str, length: Option<trimtab_proto::Duration>) -> Result<SystemTime, Refused> {
    let wrong = |found: String| Refused::Argument {
        field,
        detail: format!("{found}; give a time between 1 second and 24 hours, after which the subsystem is held again"),
    };
    let length = length.ok_or_else(|| wrong("it is not given".to_owned()))?;
    let length = Duration::try_from(length).map_err(|_| wrong("it is negative".to_owned()))?;
    if !(SHORTEST_HOLD..=LONGEST_HOLD).contains(&length) {
        return Err(wrong(format!("it is {}", humantime::format_duration(length))));
    }
    Ok(SystemTime::now() + length)
}

fn reason(text: String) -> Result<String, Refused> {
    if text.len() > MAX_REASON_BYTES {
        let detail = format!("it has {} bytes, {MAX_REASON_BYTES} are allowed", text.len());
        return Err(Refused::Argument { field: "reason", detail });
    }
    Ok(text)
}
