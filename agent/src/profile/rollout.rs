//! Section `rollout`: how a change of this profile spreads over its nodes.

use trimtab_domain::rollout::{Rollout, RolloutStep};

use super::reader::{Cursor, Problems};

/// Most steps.
pub(super) const MAX_STEPS: usize = 20;
/// Longest soak in seconds: a week.
pub(super) const MAX_SOAK: u64 = 7 * 24 * 3600;

/// Fields:
/// - `steps`: `percent` of the nodes that have the change once the step has begun, growing from step to step, and
///   `soakSeconds` that these must stay well before the next one; after the last all follow; none: all at once;
/// - `maxUnhealthyPercent`: beyond it the change stops; absent: it never does.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<Rollout> {
    let section = section.object(&["maxUnhealthyPercent", "steps"], problems)?;
    let limit = section.field("maxUnhealthyPercent").and_then(|cursor| cursor.integer(0, 100, problems));
    let steps = section.field("steps").map(|list| read_steps(&list, problems)).unwrap_or_default();
    Some(Rollout { steps, max_unhealthy_percent: limit.and_then(|limit| u8::try_from(limit).ok()) })
}

fn read_steps(list: &Cursor<'_>, problems: &mut Problems) -> Vec<RolloutStep> {
    let items = list.list("a list of steps", problems).unwrap_or_default();
    if items.len() > MAX_STEPS {
        problems.refuse(list.problem("too many steps").allowed(format!("at most {MAX_STEPS}")));
    }
    let mut steps: Vec<RolloutStep> = Vec::new();
    for item in items.iter().take(MAX_STEPS) {
        let Some(step) = item.object(&["percent", "soakSeconds"], problems) else { continue };
        let percent = step.required("percent", "a whole number from 1 to 100", problems);
        let soak = step.required("soakSeconds", &format!("a whole number from 0 to {MAX_SOAK}"), problems);
        let Some(cursor) = percent else { continue };
        let percent = cursor.integer(1, 100, problems).and_then(|percent| u8::try_from(percent).ok());
        let soak = soak.and_then(|soak| soak.integer(0, MAX_SOAK, problems));
        let (Some(percent), Some(soak)) = (percent, soak) else { continue };
        if let Some(last) = steps.last().filter(|last| last.percent >= percent) {
            let allowed = format!("more than the {} of the step before", last.percent);
            problems.refuse(cursor.problem("a step that adds no node").allowed(allowed));
        }
        steps.push(RolloutStep { percent, soak });
    }
    steps
}
