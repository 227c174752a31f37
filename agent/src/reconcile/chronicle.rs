//! What a pass adds to the history; pure.

use std::collections::BTreeSet;

use trimtab_domain::plan::Refusal;

use super::history::{Change, ChangeKind};
use super::pass::{MadeStep, Outcome};
use super::report::{Fight, State, SubsystemReport, Trigger};

/// What is known of the pass besides its outcome.
pub(super) struct Pass<'a> {
    /// Why it was made.
    pub(super) trigger: Trigger,
    /// Generation of the profile that it was made for.
    pub(super) generation: u64,
    /// Objects of which it is known that others had changed them.
    pub(super) drifted: &'a BTreeSet<String>,
    /// What the pass is for, where that is more than its trigger says.
    pub(super) purpose: Option<&'a str>,
    /// Who is known to write an object besides the agent.
    pub(super) writer: &'a dyn Fn(&str) -> Option<String>,
}

/// The changes of a pass, in the order in which they were made. `before` is the report that was in force.
pub(super) fn changes(before: &SubsystemReport, outcome: &Outcome, pass: &Pass<'_>) -> Vec<Change> {
    let name = before.name;
    let steps = outcome.made.iter().filter_map(|step| of_step(before, step, pass));
    let news = |list: &[Refusal], of: &[Refusal]| -> Vec<Refusal> {
        list.iter().filter(|refusal| !of.iter().any(|other| same(other, refusal))).cloned().collect()
    };
    let observed = outcome.failures.is_empty() || !outcome.objects.is_empty();
    let (began, ended) = if observed {
        (news(&outcome.refusals, &before.refusals), news(&before.refusals, &outcome.refusals))
    } else {
        (Vec::new(), Vec::new())
    };
    let began = began.into_iter().map(|refusal| Change {
        new: Some(refusal.wish.clone()),
        reason: format!("{}: {}", refusal.cause.as_str(), refusal.detail),
        ..Change::new(name, ChangeKind::Refused, &refusal.object)
    });
    let ended = ended.into_iter().map(|refusal| Change {
        new: Some(refusal.wish.clone()),
        reason: format!("was {}", refusal.cause.as_str()),
        ..Change::new(name, ChangeKind::RefusalEnded, &refusal.object)
    });
    // What a new profile asks for and a pause withholds was never in force: nobody has changed it.
    let was_held = before.generation == pass.generation && before.state != State::Pending;
    let withheld = outcome.withheld.iter().filter(|_| was_held);
    let withheld = withheld.filter(|step| step.repair && !before.withheld.contains(&step.text));
    let withheld = withheld.filter_map(|step| {
        let (object, (found, held)) = (step.object.as_deref()?, values(step));
        Some(Change {
            // The step would lead back: what it finds is what the other program wrote.
            old: held,
            new: found,
            actor: (pass.writer)(object).unwrap_or_else(|| UNKNOWN.to_owned()),
            reason: "the subsystem is paused, so it is not set back".to_owned(),
            ..Change::new(name, ChangeKind::Drifted, object)
        })
    });
    steps.chain(began).chain(ended).chain(withheld).collect()
}

/// The fights that have begun or come back.
pub(super) fn fights(name: &str, fights: &[Fight], repaired: &[String]) -> Vec<Change> {
    let begun = fights.iter().filter(|fight| repaired.contains(&fight.object));
    let change = |fight: &Fight| Change {
        actor: fight.likely_writer.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        reason: format!(
            "changed back {} times; left alone until {}",
            fight.rewrites,
            humantime::format_rfc3339_seconds(fight.held_until)
        ),
        ..Change::new(name, ChangeKind::Fight, &fight.object)
    };
    begun.map(change).collect()
}

/// A step as a change of this kind.
pub(super) fn step(name: &str, kind: ChangeKind, step: &MadeStep) -> Change {
    let (old, new) = values(step);
    Change { old, new, ..Change::new(name, kind, step.object.as_deref().unwrap_or_default()) }
}

/// An actor that nobody knows.
const UNKNOWN: &str = "another program";

fn same(one: &Refusal, other: &Refusal) -> bool {
    (&one.object, one.cause, &one.wish) == (&other.object, other.cause, &other.wish)
}

/// `None` for the agent's own book-keeping, and for a failure that was told before.
fn of_step(before: &SubsystemReport, step: &MadeStep, pass: &Pass<'_>) -> Option<Change> {
    let (object, name) = (step.object.as_deref()?, before.name);
    if let Some(error) = &step.error {
        let told = before.steps.iter().any(|other| other.step == step.text && other.error.is_some());
        let error = Some(error.clone());
        return (!told).then(|| Change { error, reason: why(pass), ..self::step(name, ChangeKind::Failed, step) });
    }
    if step.repair && pass.drifted.contains(object) {
        let writer = (pass.writer)(object).unwrap_or_else(|| UNKNOWN.to_owned());
        let reason = format!("changed by {writer}; found by {}", pass.trigger.as_str());
        return Some(Change { reason, ..self::step(name, ChangeKind::Healed, step) });
    }
    Some(Change { reason: why(pass), ..self::step(name, ChangeKind::Applied, step) })
}

fn why(pass: &Pass<'_>) -> String {
    if let Some(purpose) = pass.purpose {
        return purpose.to_owned();
    }
    format!("profile generation {}, pass for {}", pass.generation, pass.trigger.as_str())
}

/// Old and new value of a step that says `object: old -> new`; another text is what is new.
fn values(step: &MadeStep) -> (Option<String>, Option<String>) {
    let object = step.object.as_deref().unwrap_or_default();
    let text = step.text.strip_prefix(object).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&step.text);
    match text.split_once(" -> ") {
        Some((old, new)) => (Some(old.to_owned()), Some(new.to_owned())),
        None => (None, Some(text.to_owned())),
    }
}
