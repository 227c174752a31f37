//! One pass over one subsystem: observe, plan, apply stage by stage, observe and plan again.
//!
//! Nothing is decided here. What the second plan still wants, beyond the steps that failed, did not take effect; there
//! is no other verification.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use trimtab_domain::plan::{Finding, Plan, Refusal};

use super::report::{Measures, ObjectReport, StepReport};
use super::{Class, Error, Step, Subsystem, Watch};

/// What a pass found and did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The steps made or tried, in order.
    pub steps: Vec<StepReport>,
    /// The same steps, with what the history tells of them.
    pub made: Vec<MadeStep>,
    /// The steps that a paused subsystem would have made.
    pub withheld: Vec<MadeStep>,
    /// The objects of the steps that brought back what others had changed.
    pub repaired: Vec<String>,
    /// Objects that were left alone because of a fight.
    pub held: Vec<String>,
    /// Wishes not granted, of the last plan.
    pub refusals: Vec<Refusal>,
    /// Findings of the last plan.
    pub findings: Vec<Finding>,
    /// Objects as last observed.
    pub objects: Vec<ObjectReport>,
    /// Numbers for metrics, as last observed.
    pub measures: Measures,
    /// Where the kernel announces changes.
    pub watches: Vec<Watch>,
    /// Longest time to the next pass when nothing happens.
    pub resync: Option<Duration>,
    /// Why the agent must not count as ready.
    pub unready: Option<String>,
    /// More is wanted than the first plan knew: the node changed meanwhile (a container came), or a step turned out to
    /// be refused and those after it were not begun. No failure, but another pass is due.
    pub again: bool,
    /// Failures with their class; empty: the pass succeeded.
    pub failures: Vec<Failure>,
}

/// A step as the history tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeStep {
    /// Object, old and new value.
    pub text: String,
    /// The object; `None`: the agent's own book-keeping.
    pub object: Option<String>,
    /// Whether it brings back what had been ordered before.
    pub repair: bool,
    /// The chain of causes if it failed; `None`: it was done, or not tried.
    pub error: Option<String>,
}

impl MadeStep {
    fn of(step: &impl Step) -> Self {
        Self { text: step.to_string(), object: step.object().map(str::to_owned), repair: step.is_repair(), error: None }
    }
}

/// A failure of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When to try again.
    pub class: Class,
    /// The chain of causes.
    pub text: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { class: error.class, text: error.chain() }
    }
}

impl Outcome {
    /// The failures as one line, `None` if there was none.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let texts: Vec<&str> = self.failures.iter().map(|failure| failure.text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// The class of the pass as a whole: transient as soon as one failure is.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        if self.failures.iter().any(|failure| failure.class == Class::Transient) {
            Some(Class::Transient)
        } else {
            self.failures.first().map(|failure| failure.class)
        }
    }
}

/// What a pass would do.
#[derive(Debug, Default)]
pub struct Preview {
    /// The steps as text, in order.
    pub steps: Vec<String>,
    /// Wishes not granted.
    pub refusals: Vec<Refusal>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// Observes and plans; changes nothing.
///
/// # Errors
/// The subsystem's own, when the node could not be read.
pub async fn preview<S: Subsystem>(subsystem: &S, desired: &S::Desired) -> Result<Preview, Error> {
    let observed = subsystem.look(desired).await?;
    let plan = S::plan(desired, &observed);
    let steps = plan.steps().map(ToString::to_string).collect();
    Ok(Preview { steps, refusals: plan.refusals, findings: plan.findings })
}

/// Observes and plans for a report; changes nothing, and tells what it would change.
pub async fn look<S: Subsystem>(subsystem: &S, desired: &S::Desired) -> Outcome {
    let mut outcome = Outcome::default();
    match subsystem.look(desired).await {
        Ok(observed) => {
            let plan = S::plan(desired, &observed);
            outcome.withheld = plan.steps().map(MadeStep::of).collect();
            conclude::<S>(&mut outcome, desired, &observed, plan);
        }
        Err(error) => outcome.failures.push(Failure::from(&error)),
    }
    outcome
}

/// Asked between the plan of a pass and its first step.
pub trait Gate: Send {
    /// Called with the objects that are about to be changed, if there are any.
    ///
    /// # Errors
    /// Why nothing must be changed now; the pass has then failed.
    fn open(&mut self, objects: Vec<String>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Lets everything through.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

impl Gate for OpenGate {
    async fn open(&mut self, _objects: Vec<String>) -> Result<(), Error> {
        Ok(())
    }
}

/// Runs one pass. `holds` tells which objects must be left alone; after `cancel` no further step is begun.
pub async fn run<S: Subsystem>(
    subsystem: &S,
    desired: &S::Desired,
    holds: impl Fn(&str) -> bool + Send + Sync,
    cancel: &CancellationToken,
) -> Outcome {
    run_gated(subsystem, desired, holds, OpenGate, cancel).await
}

/// Runs one pass whose steps are made only if the gate lets them through.
pub async fn run_gated<S: Subsystem>(
    subsystem: &S,
    desired: &S::Desired,
    holds: impl Fn(&str) -> bool + Send + Sync,
    mut gate: impl Gate,
    cancel: &CancellationToken,
) -> Outcome {
    let mut outcome = Outcome::default();
    let observed = match subsystem.observe(desired).await {
        Ok(observed) => observed,
        Err(error) => {
            outcome.failures.push(Failure::from(&error));
            return outcome;
        }
    };
    let plan = without_held(S::plan(desired, &observed), &holds, &mut outcome.held);
    if plan.is_empty() {
        conclude::<S>(&mut outcome, desired, &observed, plan);
        return outcome;
    }
    let objects = plan.steps().filter_map(|step| step.object().map(str::to_owned)).collect();
    if let Err(error) = gate.open(objects).await {
        outcome.failures.push(Failure::from(&error));
        conclude::<S>(&mut outcome, desired, &observed, plan);
        return outcome;
    }
    // A full node is some megabytes of observations: they need not be held twice.
    drop(observed);
    apply(subsystem, &plan, cancel, &mut outcome).await;
    drop(plan);
    match subsystem.observe(desired).await {
        Ok(observed) => {
            let rest = without_held(S::plan(desired, &observed), &holds, &mut Vec::new());
            if outcome.failures.is_empty() && !cancel.is_cancelled() {
                let made = outcome.steps.iter().filter(|step| step.error.is_none());
                let made: BTreeSet<&str> = made.map(|step| step.step.as_str()).collect();
                // Two entries of the agent's own book read alike and are about different things: another container came.
                let on_node = rest.steps().filter(|step| step.object().is_some()).map(ToString::to_string);
                let stayed: Vec<String> = on_node.filter(|step| made.contains(step.as_str())).collect();
                outcome.again = !rest.is_empty();
                if !stayed.is_empty() {
                    let text = format!("the node does not show what was written; still wanted: {}", stayed.join(", "));
                    outcome.failures.push(Failure { class: Class::Transient, text });
                }
            }
            conclude::<S>(&mut outcome, desired, &observed, rest);
        }
        Err(error) => outcome.failures.push(Failure::from(&error)),
    }
    outcome
}

/// Executes the plan.
async fn apply<S: Subsystem>(subsystem: &S, plan: &Plan<S::Step>, cancel: &CancellationToken, outcome: &mut Outcome) {
    for stage in &plan.stages {
        let mut whole = true;
        for chain in &stage.chains {
            for step in chain {
                if cancel.is_cancelled() {
                    return;
                }
                let text = step.to_string();
                match subsystem.apply(step).await {
                    Ok(()) => {
                        info!("{text}");
                        outcome.repaired.extend(step.object().filter(|_| step.is_repair()).map(str::to_owned));
                        outcome.made.push(MadeStep::of(step));
                        outcome.steps.push(StepReport { step: text, error: None });
                    }
                    Err(error) => {
                        warn!(error = error.chain(), "failed: {text}");
                        if error.class != Class::Refused {
                            outcome.failures.push(Failure::from(&error));
                        }
                        outcome.made.push(MadeStep { error: Some(error.chain()), ..MadeStep::of(step) });
                        outcome.steps.push(StepReport { step: text, error: Some(error.chain()) });
                        whole = false;
                        break;
                    }
                }
            }
        }
        if !whole {
            return;
        }
    }
}

/// Takes out of each chain the first step on a held object and everything after it.
fn without_held<T: Step>(mut plan: Plan<T>, holds: &impl Fn(&str) -> bool, held: &mut Vec<String>) -> Plan<T> {
    for stage in &mut plan.stages {
        for chain in &mut stage.chains {
            chain.iter_mut().filter(|step| step.object().is_none()).for_each(|step| step.leave_out(holds));
            if let Some(at) = chain.iter().position(|step| step.object().is_some_and(holds)) {
                held.extend(chain.iter().skip(at).filter_map(|step| step.object().map(str::to_owned)));
                chain.truncate(at);
            }
        }
        stage.chains.retain(|chain| !chain.is_empty());
    }
    plan.stages.retain(|stage| !stage.chains.is_empty());
    plan
}

fn conclude<S: Subsystem>(outcome: &mut Outcome, desired: &S::Desired, observed: &S::Observed, plan: Plan<S::Step>) {
    outcome.objects = S::objects(desired, observed);
    outcome.measures = S::measures(observed);
    outcome.watches = S::watches(desired, observed);
    outcome.resync = S::resync(desired, observed);
    outcome.unready = S::unready(desired, observed);
    outcome.refusals = plan.refusals;
    outcome.findings = plan.findings;
}
