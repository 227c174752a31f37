//! Whether what a profile is told of its nodes is still kept up, as far as one agent can see who counts nothing itself.
//!
//! Judged by what changes, never by the times that are written there: clocks of nodes differ.

use std::collections::BTreeMap;
use std::time::Duration;

/// What can be seen of a profile's status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Generation of the profile.
    pub generation: i64,
    /// Generation that was counted for; 0: none was.
    pub observed: i64,
    /// Changes each time that somebody has counted.
    pub updated: String,
}

/// How long a status may stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// One that is of an older generation than its profile.
    pub outdated: Duration,
    /// One that is of the newest.
    pub unchanged: Duration,
}

/// What was seen of all profiles, and since when.
#[derive(Debug, Clone, Default)]
pub struct Staleness(BTreeMap<String, (Mark, Duration)>);

impl Staleness {
    /// Takes note of all profiles as they are now.
    pub fn look<'a>(&mut self, profiles: impl IntoIterator<Item = (&'a str, Mark)>, now: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for (name, mark) in profiles {
            let since = before.remove(name).filter(|(known, _)| *known == mark).map_or(now, |(_, since)| since);
            self.0.insert(name.to_owned(), (mark, since));
        }
    }

    /// After which time the first status will have stayed for too long; zero: one has. `None`: there are no profiles.
    #[must_use]
    pub fn due_in(&self, patience: Patience, now: Duration) -> Option<Duration> {
        let due = |(mark, since): &(Mark, Duration)| {
            let longest = if mark.observed == mark.generation { patience.unchanged } else { patience.outdated };
            (*since + longest).saturating_sub(now)
        };
        self.0.values().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn mark(generation: i64, observed: i64, updated: &str) -> Mark {
        Mark { generation, observed, updated: updated.to_owned() }
    }

    const PATIENCE: Patience = Patience { outdated: Duration::from_secs(180), unchanged: Duration::from_secs(900) };

    #[test]
    fn what_is_counted_again_in_time_is_never_stale() {
        let mut staleness = Staleness::default();
        assert_eq!(staleness.due_in(PATIENCE, seconds(0)), None, "no profiles, nothing to count");
        for (at, updated) in [(0, "a"), (300, "b"), (600, "c")] {
            staleness.look([("web", mark(2, 2, updated))], seconds(at));
            assert_eq!(staleness.due_in(PATIENCE, seconds(at + 299)), Some(seconds(601)));
        }
        staleness.look([("web", mark(2, 2, "c"))], seconds(1400));
        assert_eq!(staleness.due_in(PATIENCE, seconds(1400)), Some(seconds(100)), "looking is no change");
        assert_eq!(staleness.due_in(PATIENCE, seconds(1500)), Some(Duration::ZERO));
    }

    #[test]
    fn a_new_generation_is_waited_for_less_long_and_the_first_to_be_stale_counts() {
        let mut staleness = Staleness::default();
        staleness.look([("a", mark(1, 1, "x")), ("b", mark(1, 1, "x"))], seconds(0));
        staleness.look([("a", mark(1, 1, "x")), ("b", mark(2, 1, "x"))], seconds(100));
        assert_eq!(staleness.due_in(PATIENCE, seconds(100)), Some(seconds(180)));
        staleness.look([("a", mark(1, 1, "x"))], seconds(200));
        assert_eq!(staleness.due_in(PATIENCE, seconds(200)), Some(seconds(700)), "b is gone");
    }

    #[test]
    fn a_profile_that_nobody_has_counted_for_yet_is_outdated() {
        let mut staleness = Staleness::default();
        staleness.look([("new", mark(1, 0, ""))], seconds(5));
        assert_eq!(staleness.due_in(PATIENCE, seconds(5)), Some(seconds(180)));
    }
}
