//! What a pass is made for: the profile in force, what was confirmed before it, or nothing; and what becomes of a risky change.

use tokio::time::Instant;
use tracing::{error, info};
use trimtab_domain::confirmation::Verdict;
use trimtab_domain::spec::NodeSpec;

use super::watchman::{Before, not_confirmed};
use super::{Runner, SpecInForce};
use crate::reconcile::history::{Change, ChangeKind};
use crate::reconcile::hold::Stand;
use crate::reconcile::pass::{self, Failure, Outcome};
use crate::reconcile::{Class, Subsystem};

impl<S: Subsystem> Runner<S> {
    /// A pass under this profile begins; why a change is being taken back, if one is.
    pub(super) fn begin(&mut self, in_force: &SpecInForce) -> Option<String> {
        let watchman = self.watchman.as_mut()?;
        watchman.take(in_force);
        let (_, reason) = watchman.instead().filter(|_| watchman.owes())?;
        // What the agent itself takes back nobody else has changed.
        self.drift.forget();
        Some(format!("taken back: {reason}"))
    }

    /// The pass itself: of all its steps, or of none while a person has paused the subsystem.
    pub(super) async fn look_or_run(&mut self, in_force: &SpecInForce, started: Instant) -> Outcome {
        let nothing = NodeSpec::default();
        let Self { subsystem, context, standing, fights, watchman, .. } = self;
        let holds = |object: &str| fights.holds(object, started);
        let stand = standing.in_force().map(|hold| hold.stand);
        if stand == Some(Stand::GiveBack) {
            return pass::run(subsystem, S::desired(&nothing), holds, &context.cancel).await;
        }
        let (instead, owes) = match watchman {
            Some(watchman) => (watchman.instead(), watchman.owes()),
            None => (None, false),
        };
        let wish = instead.as_ref().map(|(instead, _)| instead.wish.as_ref().map_or(&nothing, |wish| &*wish.spec));
        let desired = S::desired(wish.unwrap_or(&in_force.spec));
        let mut outcome = match watchman {
            _ if stand == Some(Stand::Pause) && !owes => pass::look(subsystem, desired).await,
            _ if owes => pass::run(subsystem, desired, |_| false, &context.cancel).await,
            Some(watchman) if instead.is_none() => {
                let gate = Before { watchman, confirm: &in_force.spec.confirm };
                pass::run_gated(subsystem, desired, holds, gate, &context.cancel).await
            }
            _ => pass::run(subsystem, desired, holds, &context.cancel).await,
        };
        if let (Some(watchman), Some((instead, reason))) = (watchman, instead) {
            if outcome.failures.is_empty() && !context.cancel.is_cancelled() {
                watchman.undone();
            }
            outcome.findings.push(not_confirmed(S::NAME, &instead, &reason));
            let text = format!("the newest profile was taken back, {} is held: {reason}", instead.name());
            outcome.failures.push(Failure { class: Class::Terminal, text });
        }
        outcome
    }

    /// The verdict on a risky change has come; true if it is taken back now.
    pub(super) fn judge(&mut self, verdict: Verdict) -> bool {
        let Some(watchman) = &mut self.watchman else { return false };
        match verdict {
            Verdict::Confirmed => {
                info!(subsystem = S::NAME, "the risky change is confirmed: the node reaches what it reached before");
                watchman.confirm();
                self.report.totals.confirmed += 1;
                self.report.on_trial_until = None;
                self.context.board.publish(self.report.clone());
                false
            }
            Verdict::TakeBack { reason } => {
                error!(subsystem = S::NAME, reason, "a change is taken back");
                watchman.take_back(reason.clone());
                self.report.totals.taken_back += 1;
                self.context.history.note(taken_back(S::NAME, &reason));
                true
            }
            Verdict::Waiting { .. } => {
                watchman.watch_over();
                false
            }
        }
    }
}

/// A change that is taken back, for the history.
pub(super) fn taken_back(subsystem: &'static str, reason: &str) -> Change {
    Change { error: Some(reason.to_owned()), ..Change::new(subsystem, ChangeKind::Failed, "profile") }
}
