//! What people ask of a subsystem between two of its passes.

use std::time::SystemTime;

use tracing::{Instrument, info, info_span, warn};
use trimtab_domain::spec::NodeSpec;

use super::Runner;
use super::standing::Heeded;
use super::watchman::Watchman;
use crate::reconcile::Subsystem;
use crate::reconcile::history::{Change, ChangeKind};
use crate::reconcile::hold::{Hold, Source, Stand};
use crate::reconcile::orders::{Done, Durability, Order, Resumed};
use crate::reconcile::pass;

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
                let was_paused = self.standing.end(of);
                let still = self.standing.in_force().cloned();
                if was_paused {
                    self.write_down(of, None);
                    let by = still.as_ref().map(|hold| hold.by.as_str());
                    info!(subsystem = S::NAME, still_paused_by = by, "the pause was ended");
                }
                let _told = answer.send(Resumed { was_paused, still });
                was_paused
            }
        }
    }

    /// What a pass would do now, for the same wish as a pass.
    async fn preview(&self, spec: &NodeSpec) -> Done {
        let nothing = NodeSpec::default();
        let gives_back = self.standing.in_force().is_some_and(|hold| hold.stand == Stand::GiveBack);
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
        let durability = self.write_down(hold.source, Some(&hold));
        let (stand, by, reason) = (hold.stand.as_str(), &hold.by, &hold.reason);
        let until = humantime::format_rfc3339_seconds(hold.until).to_string();
        warn!(subsystem = S::NAME, stand, by, reason, until, "told to stand still");
        let (gives_back, given_by) = (hold.stand == Stand::GiveBack, hold.by.clone());
        self.standing.begin(hold);
        if !gives_back {
            return (Done::default(), durability);
        }
        let nothing = NodeSpec::default();
        let outcome = pass::run(&self.subsystem, S::desired(&nothing), |_| false, &self.context.cancel)
            .instrument(info_span!("pass", subsystem = S::NAME, trigger = "rollback"))
            .await;
        let reason = format!("roll-back asked for by {given_by}");
        for step in outcome.made.iter().filter(|step| step.object.is_some()) {
            let kind = if step.error.is_some() { ChangeKind::Failed } else { ChangeKind::Applied };
            self.context.history.note(Change {
                reason: reason.clone(),
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

    /// A deadline has come.
    pub(super) fn end_pause(&mut self) {
        for hold in self.standing.end_due() {
            if hold.source != Source::Profile {
                self.write_down(hold.source, None);
            }
            let still = self.standing.in_force().map(|hold| hold.by.as_str());
            info!(subsystem = S::NAME, by = hold.by, still_paused_by = still, "the deadline of the pause has come");
            self.context.history.note(Change {
                new: Some("resume".to_owned()),
                reason: format!("the deadline of the pause that {} asked for has come", hold.by),
                ..Change::new(S::NAME, ChangeKind::Call, "")
            });
        }
    }

    /// Stands still as long as the profile in force says. It is not written down: the profile is on the disk.
    pub(super) fn heed(&mut self, spec: &NodeSpec) {
        match self.standing.heed(spec) {
            Heeded::Same => {}
            Heeded::Paused(until) => {
                let until = humantime::format_rfc3339_seconds(until).to_string();
                warn!(subsystem = S::NAME, profile = spec.name, until, "the profile says to stand still");
            }
            Heeded::Ended => info!(subsystem = S::NAME, profile = spec.name, "the profile's pause is over"),
        }
    }

    fn write_down(&self, source: Source, hold: Option<&Hold>) -> Durability {
        match self.context.holds.write(S::NAME, source, hold) {
            Ok(()) => Durability::Durable,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(subsystem = S::NAME, cause, "{error}");
                Durability::Fleeting
            }
        }
    }
}
