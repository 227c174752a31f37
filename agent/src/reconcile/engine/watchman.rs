//! Watches over risky changes of one subsystem: tries before, tries after, and says what is to be taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};
use trimtab_domain::confirmation::trial::{Pending, Trials};
use trimtab_domain::confirmation::{Probe, Verdict, judge};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::confirm::{ConfirmSpec, Target};

use super::SpecInForce;
use crate::ports::reach::Reach;
use crate::reconcile::Error;
use crate::reconcile::confirm::{Confirmer, Wish};
use crate::reconcile::pass::Gate;

/// Pause before each round of tries; the first one, too, since some changes take effect a moment later.
const ROUND: Duration = Duration::from_secs(1);

/// What is known of the trials of one subsystem.
pub(super) struct Watchman {
    name: &'static str,
    is_risky: fn(&str) -> bool,
    confirmer: Confirmer,
    trials: Trials<Wish>,
    window: Option<Window>,
    /// The change has not been undone yet; this is done even while a person has paused the subsystem, who may be unable to
    /// reach the node because of it.
    owes: bool,
}

/// Tries that go on.
struct Window {
    verdict: oneshot::Receiver<Verdict>,
    _end: DropGuard,
}

impl Watchman {
    /// Goes on where the agent was before. Returns, too, why a change was taken back whose time ended meanwhile.
    pub(super) fn start(
        name: &'static str,
        is_risky: fn(&str) -> bool,
        confirmer: Confirmer,
    ) -> (Self, Option<String>) {
        let trials = confirmer.book.read(name);
        let mut watchman = Self { name, is_risky, confirmer, trials, window: None, owes: false };
        let over = watchman.trials.pending().filter(|pending| pending.is_over(unix_now())).map(|pending| {
            let waited = pending.elapsed(unix_now());
            format!(
                "nobody has confirmed it within {} s: the agent was away {waited} s after the change",
                pending.deadline
            )
        });
        if let Some(reason) = &over {
            watchman.take_back(reason.clone());
        }
        (watchman, over)
    }

    /// A pass under this profile begins.
    pub(super) fn take(&mut self, in_force: &SpecInForce) {
        let wish = Wish { spec: Arc::clone(&in_force.spec), text: in_force.text.clone() };
        let mut changed = self.trials.take(&wish, unix_now());
        if self.trials.pending().is_some() && !self.is_on_watch(&in_force.spec.confirm) {
            self.trials.confirm();
            changed = true;
        }
        if changed {
            (self.window, self.owes) = (None, false);
            self.write_down();
        }
    }

    fn is_on_watch(&self, confirm: &ConfirmSpec) -> bool {
        confirm.subsystems.contains(self.name)
    }

    /// Why the profile in force is not held, and what is held instead; `None`: it is held.
    pub(super) fn instead(&self) -> Option<(Instead, String)> {
        let reason = self.trials.refused()?.to_owned();
        Some((Instead { wish: self.trials.before.clone() }, reason))
    }

    /// True until a change that is taken back has been undone.
    pub(super) fn owes(&self) -> bool {
        self.owes
    }

    /// What was confirmed before is held.
    pub(super) fn undone(&mut self) {
        self.owes = false;
    }

    /// Begins to try again and again, if a change is on trial and nobody does yet.
    pub(super) fn watch_over(&mut self) {
        let Some(pending) = self.trials.pending().filter(|_| self.window.is_none()) else { return };
        let cancel = CancellationToken::new();
        let (told, verdict) = oneshot::channel();
        let trying = try_until(Arc::clone(&self.confirmer.reach), pending.clone(), self.targets(pending));
        let ended = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                verdict = trying => drop(told.send(verdict)),
            }
        });
        self.window = Some(Window { verdict, _end: cancel.drop_guard() });
    }

    /// The targets of a change on trial: those of the profile in force, and what the agent always tries.
    fn targets(&self, pending: &Pending) -> Vec<Target> {
        let newest = self.trials.newest.as_ref();
        let wanted = newest.map(|newest| wanted(&newest.wish.spec.confirm, &*self.confirmer.reach)).unwrap_or_default();
        wanted.into_iter().filter(|target| pending.reached_before.contains_key(&target.to_string())).collect()
    }

    /// When the change on trial is taken back at the latest.
    pub(super) fn on_trial_until(&self) -> Option<SystemTime> {
        let pending = self.trials.pending()?;
        Some(UNIX_EPOCH + Duration::from_secs(pending.since.saturating_add(pending.deadline)))
    }

    /// Waits for the verdict on the change on trial; for ever if there is none.
    pub(super) async fn verdict(&mut self) -> Verdict {
        let Some(window) = &mut self.window else { return std::future::pending().await };
        let verdict = (&mut window.verdict).await;
        self.window = None;
        // Only a runtime that ends drops the other side.
        verdict.unwrap_or(Verdict::Waiting { awaited: Vec::new() })
    }

    pub(super) fn confirm(&mut self) {
        self.trials.confirm();
        self.write_down();
    }

    pub(super) fn take_back(&mut self, reason: String) {
        self.trials.take_back(reason);
        self.owes = true;
        self.write_down();
    }

    fn write_down(&self) {
        if let Err(error) = self.confirmer.book.write(self.name, &self.trials) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            warn!(subsystem = self.name, cause, "{error}; a restart knows only what was before");
        }
    }
}

/// What is held instead of the profile in force.
pub(super) struct Instead {
    /// `None`: nothing, all is given back.
    pub(super) wish: Option<Wish>,
}

impl Instead {
    /// How it is called.
    pub(super) fn name(&self) -> String {
        let name = self.wish.as_ref().map(|wish| wish.spec.name.as_str()).filter(|name| !name.is_empty());
        name.map_or_else(|| "the node's own values".to_owned(), |name| format!("what profile {name} asked for before"))
    }
}

/// What a person should know while a profile is not held.
pub(super) fn not_confirmed(subsystem: &str, instead: &Instead, reason: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code: "change-not-confirmed",
        object: subsystem.to_owned(),
        message: format!("the newest profile was taken back, {} is held: {reason}", instead.name()),
        remedy: "change the profile; it is tried again as soon as it asks for something else".to_owned(),
    }
}

fn wanted(confirm: &ConfirmSpec, reach: &dyn Reach) -> Vec<Target> {
    let mut targets = reach.always();
    targets.extend(confirm.probes.iter().cloned());
    targets.sort();
    targets.dedup();
    targets
}

/// Tries before the steps of a pass.
pub(super) struct Before<'a> {
    pub(super) watchman: &'a mut Watchman,
    pub(super) confirm: &'a ConfirmSpec,
}

impl Gate for Before<'_> {
    async fn open(&mut self, mut objects: Vec<String>) -> Result<(), Error> {
        let Self { watchman, confirm } = self;
        objects.retain(|object| (watchman.is_risky)(object));
        if objects.is_empty() || !watchman.is_on_watch(confirm) || !watchman.trials.is_news(&objects) {
            return Ok(());
        }
        let targets = wanted(confirm, &*watchman.confirmer.reach);
        let answers = watchman.confirmer.reach.try_all(&targets).await;
        let reached_before: BTreeMap<String, bool> = targets.iter().map(ToString::to_string).zip(answers).collect();
        let known = watchman.trials.clone();
        let deadline = confirm.deadline.as_secs();
        watchman.trials.begin(&objects, Pending { since: unix_now(), deadline, reached_before });
        if let Err(error) = watchman.confirmer.book.write(watchman.name, &watchman.trials) {
            watchman.trials = known;
            return Err(Error::transient("a change that may cut the node off is not made", error));
        }
        // The whole time is counted from the newest change.
        watchman.window = None;
        if watchman.trials.pending().is_some() {
            info!(subsystem = watchman.name, objects = objects.len(), deadline, "a risky change is on trial");
        }
        Ok(())
    }
}

/// Tries again and again until there is a verdict.
async fn try_until(reach: Arc<dyn Reach>, pending: Pending, targets: Vec<Target>) -> Verdict {
    let begun = Instant::now();
    let already = pending.elapsed(unix_now());
    let probe = |target: &Target| {
        let target = target.to_string();
        let before = pending.reached_before.get(&target).copied().unwrap_or(false);
        Probe { target, before, after: None }
    };
    let mut probes: Vec<Probe> = targets.iter().map(probe).collect();
    loop {
        tokio::time::sleep(ROUND).await;
        let open: Vec<usize> = probes
            .iter()
            .enumerate()
            .filter(|(_, probe)| probe.before && probe.after != Some(true))
            .map(|(place, _)| place)
            .collect();
        let tried: Vec<Target> = open.iter().filter_map(|place| targets.get(*place).cloned()).collect();
        let answers = reach.try_all(&tried).await;
        for (place, answer) in open.into_iter().zip(answers) {
            if let Some(probe) = probes.get_mut(place) {
                probe.after = Some(answer);
            }
        }
        let elapsed = already.saturating_add(begun.elapsed().as_secs());
        match judge(&probes, elapsed, pending.deadline) {
            Verdict::Waiting { .. } => {}
            verdict => return verdict,
        }
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
