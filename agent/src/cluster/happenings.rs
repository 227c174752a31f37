//! What has happened between two reports, as events.

use trimtab_domain::cluster::event::{Gravity, Happening};

use crate::reconcile::report::{NodeReport, State, SubsystemReport, Trigger};

/// Steps that one note names.
const NAMED: usize = 5;

/// Everything worth an event that is in the second report and was not in the first.
#[must_use]
pub fn between(before: &NodeReport, now: &NodeReport) -> Vec<Happening> {
    let mut happenings = of_profile(before, now);
    for part in &now.subsystems {
        let Some(known) = before.subsystems.iter().find(|known| known.name == part.name) else { continue };
        of_part(known, part, &mut happenings);
    }
    happenings
}

fn of_profile(before: &NodeReport, now: &NodeReport) -> Vec<Happening> {
    let (was, is) = (&before.profile, &now.profile);
    let mut happenings = Vec::new();
    if is.generation > was.generation {
        let name = if is.name.is_empty() { "no profile" } else { is.name.as_str() };
        happenings.push(Happening {
            gravity: Gravity::Normal,
            reason: "ProfileInForce",
            action: "Hold",
            subject: name.to_owned(),
            note: format!("{name} is in force, from {}", is.source),
        });
    }
    if is.errors != was.errors
        && let Some(first) = is.errors.first()
    {
        let more = if is.errors.len() > 1 { format!(" (and {} more)", is.errors.len() - 1) } else { String::new() };
        happenings.push(Happening {
            gravity: Gravity::Warning,
            reason: "ProfileRefused",
            action: "Validate",
            subject: first.clone(),
            note: format!("what was in force stays in force: {first}{more}"),
        });
    }
    happenings
}

fn of_part(before: &SubsystemReport, now: &SubsystemReport, happenings: &mut Vec<Happening>) {
    let mut push = |gravity, reason, action, subject: &str, note: String| {
        let subject = format!("{}/{subject}", now.name);
        happenings.push(Happening { gravity, reason, action, subject, note });
    };
    let done: Vec<&str> = now.steps.iter().filter(|step| step.error.is_none()).map(|step| step.step.as_str()).collect();
    if now.last_change != before.last_change && !done.is_empty() {
        // What comes and goes with every pod is in the log and the metrics; the API server is not told of each.
        match now.trigger {
            Some(Trigger::Drift | Trigger::Resync) if now.totals.drift_healed > before.totals.drift_healed => {
                push(Gravity::Warning, "DriftRepaired", "Repair", &objects(&done), named(&done));
            }
            Some(Trigger::Start | Trigger::Profile | Trigger::Request) => {
                push(Gravity::Normal, "Changed", "Apply", &objects(&done), named(&done));
            }
            _ => {}
        }
    }
    for refusal in now.refusals.iter().filter(|refusal| !before.refusals.contains(refusal)) {
        let note =
            format!("{}: {} is not granted ({}): {}", refusal.object, refusal.wish, refusal.cause, refusal.detail);
        push(Gravity::Warning, "Refused", "Refuse", &refusal.object, note);
    }
    for fight in &now.fights {
        if before.fights.iter().all(|known| known.object != fight.object || known.held_until < fight.held_until) {
            let writer = fight.likely_writer.as_ref().map(|writer| format!("; likely {writer}")).unwrap_or_default();
            let note =
                format!("{} was changed back {} times and is left alone for now{writer}", fight.object, fight.rewrites);
            push(Gravity::Warning, "Fight", "Yield", &fight.object, note);
        }
    }
    if now.state == State::Failing
        && now.last_error != before.last_error
        && let Some(error) = &now.last_error
    {
        push(Gravity::Warning, "PassFailed", "Retry", "pass", format!("{}: {error}", now.name));
    }
}

/// What the steps are about, so that the same repair counts as the same event; a step says its object first.
fn objects(steps: &[&str]) -> String {
    let object = |step: &&str| step.split(": ").next().unwrap_or_default().to_owned();
    let mut objects: Vec<String> = steps.iter().take(NAMED).map(object).collect();
    objects.sort();
    objects.join(",")
}

fn named(steps: &[&str]) -> String {
    let more = if steps.len() > NAMED { format!("; and {} more", steps.len() - NAMED) } else { String::new() };
    format!("{}{more}", steps.iter().take(NAMED).copied().collect::<Vec<_>>().join("; "))
}
