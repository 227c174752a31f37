//! The one loop: when a subsystem is passed over, how soon again, and what is told of it.

mod judge;
mod obey;
mod standing;
mod watchman;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};
use trimtab_domain::plan::{Finding, Refusal, Severity};
use trimtab_domain::spec::NodeSpec;

use super::backoff::{Backoff, spread};
use super::board::Board;
use super::chronicle;
use super::confirm::Confirmer;
use super::drift::Drift;
use super::fight::Fights;
use super::history::History;
use super::hold::{HoldBook, LONGEST_HOLD};
use super::orders::{Done, Order, Switchboard};
use super::pass::{self, Outcome, Preview};
use super::report::{Fight, State, SubsystemReport, Trigger};
use super::{Class, Error, Subsystem};
use crate::ports::DriftEvents;

use self::judge::taken_back;
use self::standing::Standings;
use self::watchman::Watchman;

/// Shortest time between the starts of two passes that drift events ask for.
const DRIFT_GAP: Duration = Duration::from_millis(10);
/// Passes may follow one another without a rest for so long, beyond half of the time.
const BUSY_AT_ONCE: Duration = Duration::from_millis(500);
/// The gap grows to this while events keep coming although nothing has drifted.
const LONGEST_DRIFT_GAP: Duration = Duration::from_secs(1);

/// Further passes of a command that acts once, while the node changes under it.
const MORE_PASSES: u32 = 3;

/// The specification in force and its number.
#[derive(Debug, Clone)]
pub struct SpecInForce {
    /// Counts the good profiles since the agent started; from 1.
    pub generation: u64,
    /// What is asked of the node.
    pub spec: Arc<NodeSpec>,
    /// The document that it was read from; `None`: there is none.
    pub text: Option<Arc<str>>,
}

impl SpecInForce {
    /// True if the container runtime is to ask the agent before it creates a container.
    #[must_use]
    pub fn answers_runtime(&self) -> bool {
        self.spec.resource_managers.is_some()
    }
}

/// What every subsystem's loop shares.
#[derive(Clone)]
pub struct Context {
    /// The specification; `None` until a good profile is known, and then nothing is touched.
    pub spec: watch::Receiver<Option<SpecInForce>>,
    /// Where reports go.
    pub board: Arc<Board>,
    /// Where the kernel's events come from.
    pub drift: Arc<dyn DriftEvents>,
    /// Time between two passes when nothing happens.
    pub resync: Duration,
    /// Ends the loop after the step in hand.
    pub cancel: CancellationToken,
    /// Where people's orders come from.
    pub switchboard: Arc<Switchboard>,
    /// Where pauses are written down.
    pub holds: Arc<dyn HoldBook>,
    /// Where changes are noted.
    pub history: Arc<History>,
    /// Watches over risky changes; `None`: nobody does.
    pub confirmer: Option<Confirmer>,
}

/// A subsystem behind one type, so that the composition root can hold them in one list.
pub trait Held: Send + Sync {
    /// The subsystem's name.
    fn name(&self) -> &'static str;
    /// Holds it until the context is cancelled.
    fn run(self: Box<Self>, context: Context) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// Plans without a change.
    fn preview<'a>(&'a self, spec: &'a NodeSpec) -> Pin<Box<dyn Future<Output = Result<Preview, Error>> + Send + 'a>>;
    /// One pass, for commands that act once; a few more while the node changes meanwhile.
    fn settle<'a>(
        &'a self,
        spec: &'a NodeSpec,
        cancel: &'a CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
}

/// Wraps a subsystem for the composition root.
#[must_use]
pub fn held<S: Subsystem>(subsystem: S) -> Box<dyn Held> {
    Box::new(Holder(subsystem))
}

struct Holder<S>(S);

impl<S: Subsystem> Held for Holder<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn run(self: Box<Self>, context: Context) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Runner::new(self.0, context).run())
    }

    fn preview<'a>(&'a self, spec: &'a NodeSpec) -> Pin<Box<dyn Future<Output = Result<Preview, Error>> + Send + 'a>> {
        Box::pin(pass::preview(&self.0, S::desired(spec)))
    }

    fn settle<'a>(
        &'a self,
        spec: &'a NodeSpec,
        cancel: &'a CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        let settle = async move {
            let mut outcome = pass::run(&self.0, S::desired(spec), |_| false, cancel).await;
            for _ in 0..MORE_PASSES {
                if !outcome.again {
                    break;
                }
                let before = std::mem::take(&mut outcome.steps);
                outcome = pass::run(&self.0, S::desired(spec), |_| false, cancel).await;
                outcome.steps.splice(0..0, before);
            }
            outcome
        };
        Box::pin(settle.instrument(info_span!("pass", subsystem = S::NAME)))
    }
}

struct Runner<S> {
    subsystem: S,
    context: Context,
    wake: Arc<Notify>,
    /// What else wakes the subsystem; never notified where it has no such thing.
    own_wake: Arc<Notify>,
    report: SubsystemReport,
    drift: Drift,
    fights: Fights,
    backoff: Backoff,
    drift_gap: Duration,
    /// Time spent in passes of late, beyond half of the time that went by.
    busy: Duration,
    /// When that was reckoned last.
    reckoned: Instant,
    /// The subsystem's own resync, as the last pass told it.
    resync: Option<Duration>,
    orders: mpsc::Receiver<Order>,
    /// Orders to stand still.
    standing: Standings,
    /// Watches over risky changes.
    watchman: Option<Watchman>,
    /// Who waits for the end of the next pass.
    asked: Vec<oneshot::Sender<Done>>,
}

impl<S: Subsystem> Runner<S> {
    fn new(subsystem: S, context: Context) -> Self {
        let wake = context.drift.subscribe(S::NAME);
        let own_wake = subsystem.wake().unwrap_or_default();
        let orders = context.switchboard.connect(S::NAME);
        let standing = Standings::of(context.holds.read(S::NAME));
        let mut report = SubsystemReport::pending(S::NAME);
        let watchman = context.confirmer.clone().map(|confirmer| {
            let (watchman, over) = Watchman::start(S::NAME, S::is_risky, confirmer);
            if let Some(reason) = over {
                report.totals.taken_back += 1;
                context.history.note(taken_back(S::NAME, &reason));
                error!(subsystem = S::NAME, reason, "a change is taken back");
            }
            watchman
        });
        Self {
            subsystem,
            orders,
            standing,
            watchman,
            asked: Vec::new(),
            context,
            wake,
            own_wake,
            report,
            drift: Drift::default(),
            fights: Fights::default(),
            backoff: Backoff::default(),
            drift_gap: DRIFT_GAP,
            busy: Duration::ZERO,
            reckoned: Instant::now(),
            resync: None,
        }
    }

    async fn run(mut self) {
        let mut trigger = Trigger::Start;
        while !self.context.cancel.is_cancelled() {
            let in_force = self.context.spec.borrow_and_update().clone();
            let Some(in_force) = in_force else { if self.wait_for_profile().await { continue } else { break } };
            // Before the first step under a profile that pauses the node.
            self.heed(&in_force.spec);
            let started = Instant::now();
            let retry = self.pass(trigger, &in_force).await;
            trigger = match self.next_trigger(started, retry, &in_force.spec).await {
                Some(trigger) => trigger,
                None => break,
            };
        }
        self.context.drift.watch(S::NAME, &[]);
        self.leave().await;
    }

    /// Gives back what must not outlive the agent.
    async fn leave(&self) {
        let in_force = self.context.spec.borrow().clone();
        if !in_force.is_some_and(|in_force| S::gives_back_on_exit(S::desired(&in_force.spec))) {
            return;
        }
        let nothing = NodeSpec::default();
        let outcome = pass::run(&self.subsystem, S::desired(&nothing), |_| false, &CancellationToken::new())
            .instrument(info_span!("pass", subsystem = S::NAME, trigger = "exit"))
            .await;
        if let Some(error) = outcome.error() {
            error!(subsystem = S::NAME, error, "not everything could be given back; trimtab rollback tries again");
        }
    }

    /// True once there may be a profile, false when the agent ends.
    async fn wait_for_profile(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return false,
                changed = self.context.spec.changed() => return changed.is_ok(),
                Some(order) = self.orders.recv() => {
                    self.obey(order, None).await;
                    // A pass without a profile makes no sense; who asked for one has been told.
                    self.asked.clear();
                }
            }
        }
    }

    /// Runs a pass and publishes its report; returns when to try again after a failure.
    async fn pass(&mut self, trigger: Trigger, in_force: &SpecInForce) -> Option<Duration> {
        let generation = in_force.generation;
        let same_wish = self.report.generation == generation && self.report.state != State::Pending;
        if !same_wish {
            self.drift.forget();
            self.fights.clear();
            self.backoff.succeeded();
        }
        if matches!(trigger, Trigger::Start | Trigger::Profile | Trigger::Resync | Trigger::Request) {
            self.subsystem.forget_rejections();
        }
        let purpose = self.begin(in_force);
        let all_held_before = same_wish && purpose.is_none() && self.report.last_error.is_none();
        let started = Instant::now();
        let span = info_span!("pass", subsystem = S::NAME, generation, trigger = trigger.as_str());
        let outcome = self.look_or_run(in_force, started).instrument(span).await;
        let now = Instant::now();
        let drifted = self.drift.see(&outcome, all_held_before, |object| self.fights.holds(object, started));
        drifted.healed.iter().for_each(|object| self.fights.repaired(object, now));
        self.report.totals.drift_found += drifted.found;
        self.report.totals.drift_healed += u64::try_from(drifted.healed.len()).unwrap_or(u64::MAX);
        self.fights.forget_quiet(now);
        let changed = outcome.steps.iter().any(|step| step.error.is_none());
        self.drift_gap =
            if !changed && trigger == Trigger::Drift { (self.drift_gap * 2).min(LONGEST_DRIFT_GAP) } else { DRIFT_GAP };
        if outcome.failures.is_empty() || !outcome.watches.is_empty() {
            self.context.drift.watch(S::NAME, &outcome.watches);
        }
        let retry = match outcome.class() {
            None if outcome.again => Some(self.backoff.failed()),
            None => {
                self.drift.all_held();
                self.backoff.succeeded();
                None
            }
            Some(Class::Transient) => Some(self.backoff.failed()),
            Some(Class::Terminal | Class::Refused) => None,
        };
        self.chronicle(
            &outcome,
            &chronicle::Pass {
                trigger,
                generation,
                drifted: &drifted.healed,
                purpose: purpose.as_deref(),
                writer: &|object| self.likely_writer(object),
            },
        );
        if let Some(watchman) = &mut self.watchman {
            watchman.watch_over();
        }
        self.answer_asked(&outcome);
        self.tell(trigger, generation, now.duration_since(started), outcome);
        retry
    }

    fn likely_writer(&self, object: &str) -> Option<String> {
        self.subsystem.seen_writer(object).or_else(|| S::likely_writer(object).map(str::to_owned))
    }

    fn chronicle(&self, outcome: &Outcome, pass: &chronicle::Pass<'_>) {
        for change in chronicle::changes(&self.report, outcome, pass) {
            self.context.history.note(change);
        }
    }

    fn answer_asked(&mut self, outcome: &Outcome) {
        for asked in self.asked.drain(..) {
            // Who asked may have gone away.
            let _told = asked.send(Done::from(outcome));
        }
    }

    fn tell(&mut self, trigger: Trigger, generation: u64, took: Duration, outcome: Outcome) {
        let now = SystemTime::now();
        let error = outcome.error();
        let observed = error.is_none() || !outcome.objects.is_empty();
        let report = &mut self.report;
        report.generation = generation;
        report.trigger = Some(trigger);
        report.last_pass = Some(now);
        report.last_duration = took;
        report.totals.passes += 1;
        report.totals.failed_passes += u64::from(error.is_some());
        let failed = outcome.steps.iter().filter(|step| step.error.is_some()).count();
        report.totals.steps_failed += u64::try_from(failed).unwrap_or(u64::MAX);
        report.totals.steps_done += u64::try_from(outcome.steps.len() - failed).unwrap_or(u64::MAX);
        if !outcome.steps.is_empty() {
            report.last_change = Some(now);
            report.steps = outcome.steps;
        }
        if observed {
            self.resync = outcome.resync;
            log_unready(S::NAME, report.unready.as_ref(), outcome.unready.as_ref());
            report.unready = outcome.unready;
            log_news(S::NAME, report, &outcome.refusals, &outcome.findings);
            report.refusals = outcome.refusals;
            report.findings = outcome.findings;
            report.objects = outcome.objects.into();
            report.measures = outcome.measures;
            report.withheld = outcome.withheld.into_iter().map(|step| step.text).collect();
        }
        report.on_trial_until = self.watchman.as_ref().and_then(Watchman::on_trial_until);
        report.hold = self.standing.in_force().cloned();
        if error.is_none() {
            report.last_success = Some(now);
        } else if report.last_error != error {
            warn!(subsystem = S::NAME, error, "the pass failed");
        }
        report.last_error = error;
        report.fights = in_force(&self.subsystem, &self.fights, now);
        report.state = match (&report.last_error, report.fights.is_empty()) {
            (Some(_), _) => State::Failing,
            (None, _) if report.hold.is_some() => State::Paused,
            (None, false) => State::Fighting,
            (None, true) => State::Converged,
        };
        let repaired: Vec<String> =
            outcome.repaired.iter().filter(|object| !outcome.held.contains(object)).cloned().collect();
        for change in chronicle::fights(S::NAME, &report.fights, &repaired) {
            self.context.history.note(change);
        }
        for fight in &report.fights {
            if !outcome.held.contains(&fight.object) && outcome.repaired.contains(&fight.object) {
                let writer = fight.likely_writer.as_deref().unwrap_or("unknown");
                warn!(subsystem = S::NAME, object = fight.object, writer, "another program keeps changing it back");
            }
        }
        self.context.board.publish(report.clone());
    }

    /// Waits for whatever asks for the next pass; `None` when the agent ends.
    async fn next_trigger(&mut self, started: Instant, retry: Option<Duration>, spec: &NodeSpec) -> Option<Trigger> {
        let now = Instant::now();
        self.busy = (self.busy + (now - started)).saturating_sub((now - self.reckoned) / 2);
        self.reckoned = now;
        let resync = match self.resync {
            // What a profile calls the longest time is not exceeded.
            Some(longest) => now + longest - longest / 5 + spread(longest / 5),
            None => now + self.context.resync - self.context.resync / 10 + spread(self.context.resync / 5),
        };
        let again = retry.map(|pause| now + pause).into_iter().chain(self.fights.next_end(now)).min();
        let deadline = again.map_or(resync, |again| again.min(resync));
        let on_time = if deadline < resync { Trigger::Retry } else { Trigger::Resync };
        let trigger = loop {
            // Far away without a pause.
            let watchman = &mut self.watchman;
            let judged = async {
                match watchman {
                    Some(watchman) => watchman.verdict().await,
                    None => std::future::pending().await,
                }
            };
            let pause_ends = self.standing.next_end().unwrap_or(deadline + LONGEST_HOLD);
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return None,
                changed = self.context.spec.changed() => match changed {
                    Ok(()) => return Some(Trigger::Profile),
                    Err(_) => return None,
                },
                Some(order) = self.orders.recv() => if self.obey(order, Some(spec)).await {
                    return Some(Trigger::Request);
                },
                verdict = judged => if self.judge(verdict) {
                    return Some(Trigger::Retry);
                },
                () = self.wake.notified() => break Trigger::Drift,
                () = self.own_wake.notified() => break Trigger::Workload,
                () = tokio::time::sleep_until(pause_ends) => {
                    self.end_pause();
                    return Some(Trigger::Request);
                }
                () = tokio::time::sleep_until(deadline) => break on_time,
            }
        };
        if matches!(trigger, Trigger::Drift | Trigger::Workload) {
            // Never spin: whoever writes, or makes containers, without a pause is met at a bounded rate, and passes that
            // take long leave as much time between them. The first of them follow at once, for what was read before a
            // change would else be healed a whole pass later.
            let rest =
                if self.busy > BUSY_AT_ONCE { (now - started).min(LONGEST_DRIFT_GAP) * 2 } else { Duration::ZERO };
            let gap = self.drift_gap.max(rest);
            tokio::select! {
                () = tokio::time::sleep_until(started + gap) => {}
                () = self.context.cancel.cancelled() => return None,
            }
        } else {
            self.drift_gap = DRIFT_GAP;
        }
        Some(trigger)
    }
}

/// The fights that are not over, with who is likely on the other side.
fn in_force<S: Subsystem>(subsystem: &S, fights: &Fights, now: SystemTime) -> Vec<Fight> {
    let clock = Instant::now();
    let told = fights.in_force().map(|fight| Fight {
        likely_writer: subsystem
            .seen_writer(&fight.object)
            .or_else(|| S::likely_writer(&fight.object).map(str::to_owned)),
        held_until: now + fight.until.saturating_duration_since(clock),
        object: fight.object,
        rewrites: fight.rewrites,
    });
    told.collect()
}

/// Says loudly, and once, why the agent is not ready.
fn log_unready(subsystem: &'static str, before: Option<&String>, now: Option<&String>) {
    if let Some(why) = now.filter(|_| before != now) {
        error!(subsystem, "not ready: {why}");
    }
}

/// Logs refusals and findings once, when they appear.
fn log_news(subsystem: &'static str, before: &SubsystemReport, refusals: &[Refusal], findings: &[Finding]) {
    for refusal in refusals.iter().filter(|refusal| !before.refusals.contains(refusal)) {
        let (object, cause) = (&refusal.object, refusal.cause.as_str());
        warn!(subsystem, object, cause, wish = refusal.wish, "refused: {}", refusal.detail);
    }
    for finding in findings.iter().filter(|finding| !before.findings.contains(finding)) {
        let (object, code) = (&finding.object, finding.code);
        if finding.severity == Severity::Info {
            info!(subsystem, object, code, remedy = finding.remedy, "{}", finding.message);
        } else {
            warn!(subsystem, object, code, remedy = finding.remedy, "{}", finding.message);
        }
    }
}
