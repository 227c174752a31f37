//! When something is told again: soon after it has changed, seldom while it stays, and ever more seldom while it flaps.

use std::time::Duration;

/// What was told of one thing, and when it must be told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling<T> {
    told: Option<(T, Duration)>,
    /// Shortest time between two changes.
    pause: Duration,
    /// The same now, after changes that came soon after one another.
    grown: Duration,
    heartbeat: Duration,
}

impl<T: PartialEq> Telling<T> {
    /// Changes are told at most once every `pause`, which doubles with each that comes soon after another, up to half a
    /// `heartbeat`; what stays as it is once every `heartbeat`.
    #[must_use]
    pub const fn new(pause: Duration, heartbeat: Duration) -> Self {
        Self { told: None, pause, grown: pause, heartbeat }
    }

    /// How long it may wait to be told; zero: it is due.
    #[must_use]
    pub fn due_in(&self, wanted: &T, now: Duration) -> Duration {
        let Some((told, at)) = &self.told else { return Duration::ZERO };
        let wait = if told == wanted { self.heartbeat } else { self.grown };
        (*at + wait).saturating_sub(now)
    }

    /// Notes what was told.
    pub fn told(&mut self, what: T, now: Duration) {
        if let Some((before, at)) = &self.told {
            let soon = now.saturating_sub(*at) < self.grown * 4;
            self.grown = match (before == &what, soon) {
                (true, _) => self.grown,
                (false, true) => (self.grown * 2).min(self.heartbeat / 2),
                (false, false) => self.pause,
            };
        }
        self.told = Some((what, now));
    }

    /// What was told may be there no more: it is due at once.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// What was told last.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.told.as_ref().map(|(told, _)| told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn changes_are_told_after_a_pause_and_standstill_by_a_heartbeat() {
        let mut telling = Telling::new(seconds(10), seconds(600));
        assert_eq!(telling.due_in(&"a", seconds(5)), Duration::ZERO, "nothing was told yet");
        telling.told("a", seconds(5));
        assert_eq!(telling.due_in(&"a", seconds(5)), seconds(600));
        assert_eq!(telling.due_in(&"b", seconds(6)), seconds(9));
        assert_eq!(telling.due_in(&"b", seconds(15)), Duration::ZERO);
        assert_eq!(telling.due_in(&"a", seconds(605)), Duration::ZERO);
        telling.forget();
        assert_eq!(telling.due_in(&"a", seconds(6)), Duration::ZERO);
    }

    #[test]
    fn what_flaps_is_told_ever_more_seldom_and_soon_again_once_it_has_been_quiet() {
        let mut telling = Telling::new(seconds(10), seconds(600));
        let mut told = 0;
        for second in 0..3600 {
            let wanted = second % 2;
            if telling.due_in(&wanted, seconds(second)).is_zero() {
                telling.told(wanted, seconds(second));
                told += 1;
            }
        }
        assert!((10..=20).contains(&told), "{told} in an hour");
        let quiet = seconds(3600 + 2400);
        telling.told(2, quiet);
        assert_eq!(telling.due_in(&3, quiet), seconds(10));
    }
}
