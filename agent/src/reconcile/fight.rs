//! Recognises that another program keeps undoing a change, and decides how long to leave the object alone.
//!
//! An object that has been held and is found changed again is a *repair*. A few repairs within the window are ordinary
//! drift; more are a fight. A fight is not won by writing faster: the object is left alone for a pause that doubles
//! each time the other program comes back, and the report names the object and the likely writer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Repairs of one object within [`WINDOW`] that make a fight.
pub const REPAIRS: usize = 5;
/// Time within which repairs are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// First pause after a fight was recognised.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The repairs of every object that was lately changed by others.
#[derive(Debug, Default)]
pub struct Fights {
    objects: BTreeMap<String, History>,
}

#[derive(Debug, Default)]
struct History {
    repairs: VecDeque<Instant>,
    pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
    rewrites: u32,
}

/// A fight in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The object.
    pub object: String,
    /// Repairs counted since the fight began.
    pub rewrites: u32,
    /// The object is left alone until then.
    pub until: Instant,
}

impl Fights {
    /// Notes that the object was found changed and has been written again.
    pub fn repaired(&mut self, object: &str, now: Instant) {
        let history = self.objects.entry(object.to_owned()).or_default();
        history.repairs.push_back(now);
        while history.repairs.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
            history.repairs.pop_front();
        }
        let (length, rewrites) = match history.pause {
            // It came back after a pause: the next one is longer.
            Some(pause) => ((pause.length * 2).min(LONGEST_PAUSE), pause.rewrites.saturating_add(1)),
            None if history.repairs.len() >= REPAIRS => {
                (FIRST_PAUSE, u32::try_from(history.repairs.len()).unwrap_or(u32::MAX))
            }
            None => return,
        };
        history.pause = Some(Pause { length, until: now + length, rewrites });
    }

    /// True if the object must be left alone now.
    #[must_use]
    pub fn holds(&self, object: &str, now: Instant) -> bool {
        self.objects.get(object).and_then(|history| history.pause).is_some_and(|pause| now < pause.until)
    }

    /// Forgets objects that have been quiet: for a fight, as long again as its last pause after that pause has ended.
    pub fn forget_quiet(&mut self, now: Instant) {
        self.objects.retain(|_, history| match history.pause {
            Some(pause) => now < pause.until + pause.length.max(WINDOW),
            None => history.repairs.back().is_some_and(|last| now.duration_since(*last) <= WINDOW),
        });
    }

    /// The fights whose pause has not ended or was followed by no quiet time yet, by object.
    pub fn in_force(&self) -> impl Iterator<Item = Held> {
        self.objects.iter().filter_map(|(object, history)| {
            history.pause.map(|pause| Held { object: object.clone(), rewrites: pause.rewrites, until: pause.until })
        })
    }

    /// When the next pause ends, that is, when it is worth another pass.
    #[must_use]
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.objects.values().filter_map(|history| history.pause).map(|p| p.until).filter(|until| *until > now).min()
    }

    /// Forgets everything: the wish changed, so old repairs say nothing about the new one.
    pub fn clear(&mut self) {
        self.objects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_few_repairs_are_drift_and_more_are_a_fight() {
        let start = Instant::now();
        let mut fights = Fights::default();
        for second in 0..4 {
            fights.repaired("k", at(start, second));
        }
        assert!(!fights.holds("k", at(start, 4)));
        fights.repaired("k", at(start, 4));
        assert!(fights.holds("k", at(start, 5)));
        assert!(!fights.holds("other", at(start, 5)));
        assert!(!fights.holds("k", at(start, 35)), "after the pause it is tried once more");
    }

    #[test]
    fn slow_drift_is_never_a_fight() {
        let start = Instant::now();
        let mut fights = Fights::default();
        for minute in 0..50 {
            let now = at(start, minute * 20);
            fights.repaired("k", now);
            assert!(!fights.holds("k", now), "repair {minute}");
        }
    }

    #[test]
    fn the_pause_doubles_up_to_the_longest() {
        let start = Instant::now();
        let mut fights = Fights::default();
        let mut now = start;
        for _ in 0..REPAIRS {
            fights.repaired("k", now);
        }
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            let end = fights.next_end(now).map(|end| end - now);
            assert_eq!(end, Some(Duration::from_secs(expected)));
            now = at(now, expected);
            fights.repaired("k", now);
        }
    }

    #[test]
    fn a_quiet_object_is_forgotten() {
        let start = Instant::now();
        let mut fights = Fights::default();
        for _ in 0..REPAIRS {
            fights.repaired("k", start);
        }
        fights.forget_quiet(at(start, 60));
        assert_eq!(fights.in_force().count(), 1, "the pause is over, but not long enough");
        fights.forget_quiet(at(start, 91));
        assert_eq!(fights.in_force().count(), 0);
    }
}
