//! Pauses that a profile asks for, where it is not the engine that heeds them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::{NodeSpec, PauseSpec};

use crate::reconcile::hold::{End, LONGEST_HOLD};

/// When a pause ends, and what that is now.
fn end(pause: &PauseSpec, now: SystemTime) -> (Option<SystemTime>, End) {
    let until = UNIX_EPOCH.checked_add(Duration::from_secs(pause.until));
    (until, until.map_or(End::TooFar, |until| End::of(until, now)))
}

/// Until when a profile wants the node left alone; `None`: it does not now.
pub(super) fn paused_until(spec: &NodeSpec, now: SystemTime) -> Option<SystemTime> {
    let (until, what) = end(spec.pause.as_ref()?, now);
    until.filter(|_| what == End::Ahead)
}

/// Says of a pause that it is too long, as long as the profile has it: it is judged once, like the pause itself.
#[derive(Debug, Default)]
pub(super) struct PauseJudge {
    seen: Option<PauseSpec>,
    finding: Option<Finding>,
}

impl PauseJudge {
    /// What is to be said of the profile in force.
    pub(super) fn look(&mut self, spec: &NodeSpec, now: SystemTime) -> Option<Finding> {
        if self.seen != spec.pause {
            self.seen.clone_from(&spec.pause);
            let too_far = spec.pause.as_ref().is_some_and(|pause| end(pause, now).1 == End::TooFar);
            self.finding = too_far.then(|| finding(&spec.name));
        }
        self.finding.clone()
    }
}

fn finding(name: &str) -> Finding {
    let hours = LONGEST_HOLD.as_secs() / 3600;
    Finding {
        severity: Severity::Warning,
        code: "pause-not-understood",
        object: "spec.pause.until".to_owned(),
        message: format!(
            "the pause of profile {name} pauses nothing: it ends more than {hours} h away, the longest pause"
        ),
        remedy: "write a nearer time; move it on while it lasts if it must last longer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(until: Option<u64>) -> NodeSpec {
        NodeSpec { pause: until.map(|until| PauseSpec { until, reason: String::new() }), ..NodeSpec::default() }
    }

    #[test]
    fn a_pause_is_a_time_that_is_near() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let rows = [(None, false), (Some(999_999), false), (Some(1_000_000), false), (Some(1_000_001), true)];
        for (until, expected) in rows.into_iter().chain([(Some(1_086_400), true), (Some(1_090_000), false)]) {
            assert_eq!(paused_until(&spec(until), now).is_some(), expected, "{until:?}");
        }
        assert_eq!(paused_until(&spec(Some(u64::MAX)), now), None);
    }

    #[test]
    fn one_that_is_too_long_is_said_to_be_until_it_is_mended() {
        let (mut judge, now) = (PauseJudge::default(), UNIX_EPOCH + Duration::from_secs(1_000_000));
        assert_eq!(judge.look(&spec(None), now), None);
        assert_eq!(judge.look(&spec(Some(1_000_600)), now), None);
        let far = spec(Some(1_200_000));
        let said = judge.look(&far, now);
        assert_eq!(said.as_ref().map(|finding| finding.code), Some("pause-not-understood"));
        let later = now + Duration::from_secs(190_000);
        assert_eq!(judge.look(&far, later), said, "it was not near when it was seen");
        assert_eq!(judge.look(&spec(Some(1_190_600)), later), None);
        assert_eq!(judge.look(&spec(Some(u64::MAX)), later).map(|finding| finding.code), Some("pause-not-understood"));
    }
}
