//! What people ask of a subsystem between two of its passes.

use std::time::SystemTime;

use tokio::time::Instant;
use tracing::{Instrument, info, info_span, warn};
use trimtab_domain::spec::NodeSpec;

use super::Runner;
use super::watchman::Watchman;
use crate::reconcile::Subsystem;
use crate::reconcile::history::{Change, ChangeKind};
use crate::reconcile::hold::{Hold, LONGEST_HOLD, Stand};
use crate::reconcile::orders::{Done, Durability, Order};
use crate::reconcile::pass;

/// A hold in force.
pub(super) struct Standing {
    pub(super) hold: Hold,
    /// When it ends by the clock that does not jump.
    pub(super) ends: Instant,
}

impl Standing {
    /// `None` if the deadline has passed. A deadline further away than may be asked for is cut: the clock was set.
    pub(super) fn begin(hold: Hold) -> Option<Self> {
        let left = hold.until.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())?;
        Some(Self { hold, ends: Instant::now() + left.min(LONGEST_HOLD) })
    }
}

/// What is said where a pass is asked for and nothing is ordered yet.
const NO_PROFILE: &str = "no profile is in force, so nothing is held; give the agent a valid profile";

impl<S: Subsystem> Runner<S> {
    /// Does what is asked, as far as it is no pass; true if a pass is due now.
    pub(super) async fn obey(&mut self, order: Order, spec: Option<&NodeSpec>) -> bool {
        match order {
            Order::Resync { answer } => {
                if spec.is_none() {
                    let _told = answer.send(Done::failed(NO_PROFILE));
                    return false;
                }
                self.asked.push(answer);
                true
            }
            Order::Preview { answer } => {
                let done = match spec {
                    Some(spec) => self.preview(spec).await,
                    None => Done::failed(NO_PROFILE),
                };
                let _told = answer.send(done);
                false
            }
            Order::Hold { hold, answer } => {
                let told = self.stand_still(hold).await;
                let _told = answer.send(told);
                true
            }
            Order::Resume { of, answer } => {
                let stood = self.standing.take_if(|standing| of.is_none_or(|of| standing.hold.by == of)).is_some();
                if stood {
                    self.write_down(None);
                    info!(subsystem = S::NAME, "holding the node again: the pause was ended");
                }
                let _told = answer.send(stood);
                stood
            }
        }
    }

    /// What a pass would do now, for the same wish as a pass.
    async fn preview(&self, spec: &NodeSpec) -> Done {
        let nothing = NodeSpec::default();
        let gives_back = self.standing.as_ref().is_some_and(|standing| standing.hold.stand == Stand::GiveBack);
        let instead = self.watchman.as_ref().and_then(Watchman::instead).map(|(instead, _)| instead.wish);
        let spec = match &instead {
            Some(before) => before.as_ref().map_or(&nothing, |wish| &*wish.spec),
            None => spec,
        };
        let desired = S::desired(if gives_back { &nothing } else { spec });
        match pass::preview(&self.subsystem, desired).await {
            Ok(preview) => Done::from(preview),
            Err(error) => Done::failed(error.chain()),
        }
    }

    /// Stands still from now on; what is to be given back is given back at once.
    async fn stand_still(&mut self, hold: Hold) -> (Done, Durability) {
        let durability = self.write_down(Some(&hold));
        let (stand, by, reason) = (hold.stand.as_str(), &hold.by, &hold.reason);
        let until = humantime::format_rfc3339_seconds(hold.until).to_string();
        warn!(subsystem = S::NAME, stand, by, reason, until, "told to stand still");
        let gives_back = hold.stand == Stand::GiveBack;
        self.standing = Standing::begin(hold);
        if !gives_back {
            return (Done::default(), durability);
        }
        let nothing = NodeSpec::default();
        let outcome = pass::run(&self.subsystem, S::desired(&nothing), |_| false, &self.context.cancel)
            .instrument(info_span!("pass", subsystem = S::NAME, trigger = "rollback"))
            .await;
        let reason = self.standing.as_ref().map(|standing| format!("roll-back asked for by {}", standing.hold.by));
        for step in outcome.made.iter().filter(|step| step.object.is_some()) {
            let kind = if step.error.is_some() { ChangeKind::Failed } else { ChangeKind::Applied };
            self.context.history.note(Change {
                reason: reason.clone().unwrap_or_default(),
                error: step.error.clone(),
                ..crate::reconcile::chronicle::step(S::NAME, kind, step)
            });
        }
        self.count(&outcome);
        (Done::from(&outcome), durability)
    }

    fn count(&mut self, outcome: &pass::Outcome) {
        let failed = outcome.steps.iter().filter(|step| step.error.is_some()).count();
        let done = outcome.steps.len() - failed;
        self.report.totals.steps_failed += u64::try_from(failed).unwrap_or(u64::MAX);
        self.report.totals.steps_done += u64::try_from(done).unwrap_or(u64::MAX);
        if !outcome.steps.is_empty() {
            self.report.last_change = Some(SystemTime::now());
            self.report.steps.clone_from(&outcome.steps);
        }
    }

    /// The deadline has come.
    pub(super) fn end_pause(&mut self) {
        let Some(standing) = self.standing.take() else { return };
        self.write_down(None);
        info!(subsystem = S::NAME, "holding the node again: the deadline of the pause has come");
        self.context.history.note(Change {
            new: Some("resume".to_owned()),
            reason: format!("the deadline of the pause that {} asked for has come", standing.hold.by),
            ..Change::new(S::NAME, ChangeKind::Call, "")
        });
    }

    fn write_down(&self, hold: Option<&Hold>) -> Durability {
        match self.context.holds.write(S::NAME, hold) {
            Ok(()) => Durability::Durable,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(subsystem = S::NAME, cause, "{error}");
                Durability::Fleeting
            }
        }
    }
}
