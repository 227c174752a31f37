//! Orders to stand still that are in force for a subsystem: one of each source, and which of them counts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use trimtab_domain::spec::{NodeSpec, PauseSpec};

use crate::reconcile::hold::{End, Hold, LONGEST_HOLD, Source, Stand};

/// A hold in force.
struct Standing {
    hold: Hold,
    /// When it ends by the clock that does not jump.
    ends: Instant,
}

/// Those in force.
#[derive(Default)]
pub(super) struct Standings {
    by_source: BTreeMap<Source, Standing>,
    /// What the profile said last; what has been seen is not judged again, or a pause would begin anew.
    seen: Option<PauseSpec>,
}

/// What a profile changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heeded {
    /// Nothing.
    Same,
    /// It pauses the subsystem until then.
    Paused(SystemTime),
    /// It does not any more.
    Ended,
}

impl Standings {
    /// Those that were written down before a restart.
    pub(super) fn of(holds: Vec<Hold>) -> Self {
        let mut standings = Self::default();
        holds.into_iter().for_each(|hold| standings.begin(hold));
        standings
    }

    /// In force from now on, instead of an earlier one of the same source; not if its deadline has passed. A deadline
    /// further away than may be asked for is cut: the clock was set.
    pub(super) fn begin(&mut self, hold: Hold) {
        let left = hold.until.duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() {
            self.by_source.remove(&hold.source);
        } else {
            let ends = Instant::now() + left.min(LONGEST_HOLD);
            self.by_source.insert(hold.source, Standing { hold, ends });
        }
    }

    /// Ends the one of this source; false if there is none.
    pub(super) fn end(&mut self, source: Source) -> bool {
        self.by_source.remove(&source).is_some()
    }

    /// The one that counts: what is to be given back stays so, else the one that ends last.
    pub(super) fn in_force(&self) -> Option<&Hold> {
        let rank = |standing: &&Standing| (standing.hold.stand == Stand::GiveBack, standing.ends);
        self.by_source.values().max_by_key(rank).map(|standing| &standing.hold)
    }

    /// When the next of them ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.by_source.values().map(|standing| standing.ends).min()
    }

    /// Ends those whose deadline has come.
    pub(super) fn end_due(&mut self) -> Vec<Hold> {
        let now = Instant::now();
        let due = self.by_source.extract_if(.., |_, standing| standing.ends <= now);
        due.map(|(_, standing)| standing.hold).collect()
    }

    /// Does as the profile in force says.
    pub(super) fn heed(&mut self, spec: &NodeSpec) -> Heeded {
        if self.seen == spec.pause {
            return Heeded::Same;
        }
        self.seen.clone_from(&spec.pause);
        let ended = if self.end(Source::Profile) { Heeded::Ended } else { Heeded::Same };
        let Some(pause) = &spec.pause else { return ended };
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(pause.until));
        let Some(until) = until.filter(|until| End::of(*until, SystemTime::now()) == End::Ahead) else { return ended };
        let (source, stand, reason) = (Source::Profile, Stand::Pause, pause.reason.clone());
        self.begin(Hold { source, stand, until, by: format!("profile {}", spec.name), reason });
        Heeded::Paused(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(source: Source, stand: Stand, minutes: u64) -> Hold {
        let until = SystemTime::now() + Duration::from_secs(minutes * 60);
        Hold { source, stand, until, by: format!("{source:?}"), reason: String::new() }
    }

    fn counts(standings: &Standings) -> Option<Source> {
        standings.in_force().map(|hold| hold.source)
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_counts_and_each_ends_by_itself() {
        use Source::{Annotation, Call, Profile};
        let mut standings = Standings::of(vec![hold(Annotation, Stand::Pause, 20), hold(Profile, Stand::Pause, 30)]);
        assert_eq!(counts(&standings), Some(Profile));
        standings.begin(hold(Call, Stand::Pause, 10));
        assert_eq!(counts(&standings), Some(Profile));
        assert!(standings.end(Profile) && !standings.end(Profile));
        assert_eq!(counts(&standings), Some(Annotation), "the other was never gone");
        tokio::time::sleep_until(standings.next_end().unwrap()).await;
        assert_eq!(standings.end_due().iter().map(|hold| hold.source).collect::<Vec<_>>(), [Call]);
        assert_eq!(counts(&standings), Some(Annotation));
        tokio::time::sleep_until(standings.next_end().unwrap()).await;
        assert_eq!(standings.end_due().len(), 1);
        assert_eq!((counts(&standings), standings.next_end()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_stays_so_under_a_longer_pause() {
        let mut standings = Standings::of(vec![hold(Source::Annotation, Stand::Pause, 20)]);
        standings.begin(hold(Source::Call, Stand::GiveBack, 10));
        assert_eq!(standings.in_force().map(|hold| hold.stand), Some(Stand::GiveBack));
        tokio::time::sleep_until(standings.next_end().unwrap()).await;
        standings.end_due();
        assert_eq!(standings.in_force().map(|hold| hold.stand), Some(Stand::Pause));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_profile_is_judged_when_it_is_seen_and_never_again() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let spec = |until: Option<u64>| NodeSpec {
            pause: until.map(|until| PauseSpec { until, reason: String::new() }),
            ..NodeSpec::default()
        };
        let mut standings = Standings::default();
        assert_eq!(standings.heed(&spec(None)), Heeded::Same);
        for no_pause in [0, now - 1, now + 25 * 3600, u64::from(u32::MAX)] {
            assert_eq!(standings.heed(&spec(Some(no_pause))), Heeded::Same, "{no_pause}");
            assert_eq!(counts(&standings), None, "{no_pause}");
        }
        assert!(matches!(standings.heed(&spec(Some(now + 600))), Heeded::Paused(_)));
        assert_eq!(counts(&standings), Some(Source::Profile));
        tokio::time::sleep_until(standings.next_end().unwrap()).await;
        standings.end_due();
        assert_eq!(standings.heed(&spec(Some(now + 600))), Heeded::Same);
        assert_eq!(counts(&standings), None, "it has ended");
        assert!(matches!(standings.heed(&spec(Some(now + 1200))), Heeded::Paused(_)));
        assert_eq!(standings.heed(&spec(None)), Heeded::Ended);
        assert_eq!(counts(&standings), None);
    }
}
