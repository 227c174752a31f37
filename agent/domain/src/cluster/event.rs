//! Events: which are worth an object in the API server, and how often.
//!
//! What happens again is counted, not told again; what happens all the time is told so often and no more. Nothing is
//! ever waited for: an event that finds the purse empty is dropped and counted.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events that may be told at once, and the time in which one more may.
const PURSE: u32 = 25;
const REFILL: Duration = Duration::from_secs(60);
/// A repetition is written at most this often (`refreshTime` of client-go's recorder is as long).
const REPEAT_AFTER: Duration = Duration::from_secs(600);
/// After so long without a repetition an event is over; its object is about to be deleted (`--event-ttl`, 1 h).
const OVER_AFTER: Duration = Duration::from_secs(1800);
/// Different events that are remembered.
const MAX_KNOWN: usize = 256;
/// Longest note (`events.k8s.io/v1`, "maximal length ... 1kB").
const MAX_NOTE: usize = 1000;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Worth knowing.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Gravity {
    /// The word in the field `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happening {
    /// How much it matters.
    pub gravity: Gravity,
    /// Why, one word in upper camel case.
    pub reason: &'static str,
    /// What was done, one word in upper camel case.
    pub action: &'static str,
    /// What it is about within the node; events with the same reason and subject are one.
    pub subject: String,
    /// For a person.
    pub note: String,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Post {
    /// A new object. The number tells it from all others of this agent.
    Create {
        /// Its number.
        number: u64,
        /// What happened.
        happening: Happening,
    },
    /// The object of this number gets a count.
    Repeat {
        /// Its number.
        number: u64,
        /// How often it has happened.
        count: u32,
    },
}

#[derive(Debug, Clone)]
struct Known {
    number: u64,
    count: u32,
    last: Duration,
    written: Duration,
}

/// Decides what becomes of happenings.
#[derive(Debug, Clone)]
pub struct EventDesk {
    known: BTreeMap<(&'static str, String), Known>,
    made: u64,
    purse: u32,
    refilled: Duration,
    dropped: u64,
}

impl Default for EventDesk {
    fn default() -> Self {
        Self { known: BTreeMap::new(), made: 0, purse: PURSE, refilled: Duration::ZERO, dropped: 0 }
    }
}

impl EventDesk {
    /// Something has happened; `None`: there is nothing to be written of it now.
    pub fn take(&mut self, mut happening: Happening, now: Duration) -> Option<Post> {
        self.known.retain(|_, known| now.saturating_sub(known.last) < OVER_AFTER);
        let key = (happening.reason, happening.subject.clone());
        if let Some(known) = self.known.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            if now.saturating_sub(known.written) < REPEAT_AFTER {
                return None;
            }
            let post = Post::Repeat { number: known.number, count: known.count };
            known.written = now;
            return self.pay(now).then_some(post);
        }
        if self.known.len() >= MAX_KNOWN || !self.pay(now) {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.made += 1;
        let number = self.made;
        self.known.insert(key, Known { number, count: 1, last: now, written: now });
        happening.note = shorten(&happening.note);
        Some(Post::Create { number, happening })
    }

    /// The object of this number is not there: the next such happening makes a new one.
    pub fn lost(&mut self, number: u64) {
        self.known.retain(|_, known| known.number != number);
    }

    /// How many were dropped since the agent started.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn pay(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled).as_secs() / REFILL.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.refilled += REFILL.saturating_mul(earned);
        self.purse = self.purse.saturating_add(earned).min(PURSE);
        let pays = self.purse > 0;
        self.purse = self.purse.saturating_sub(1);
        pays
    }
}

fn shorten(note: &str) -> String {
    // It may hold what others have written, and `kubectl` prints it on a terminal.
    let note = note.replace(char::is_control, " ");
    if note.len() <= MAX_NOTE {
        return note;
    }
    let mut end = MAX_NOTE - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", note.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(subject: &str) -> Happening {
        let (gravity, reason, action) = (Gravity::Warning, "DriftRepaired", "Repair");
        Happening { gravity, reason, action, subject: subject.into(), note: format!("{subject}: 1 -> 2") }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_happens_again_is_counted_and_told_once_in_a_while() {
        let mut desk = EventDesk::default();
        assert!(matches!(desk.take(happening("k"), at(0)), Some(Post::Create { number: 1, .. })));
        for second in 1..600 {
            assert_eq!(desk.take(happening("k"), at(second)), None);
        }
        assert_eq!(desk.take(happening("k"), at(600)), Some(Post::Repeat { number: 1, count: 601 }));
        assert_eq!(desk.take(happening("k"), at(601)), None);
        let later = at(601 + 1800);
        assert!(
            matches!(desk.take(happening("k"), later), Some(Post::Create { number: 2, .. })),
            "the old one is over"
        );
        desk.lost(2);
        assert!(matches!(desk.take(happening("k"), later), Some(Post::Create { number: 3, .. })));
    }

    #[test]
    fn a_flood_is_cut_to_what_the_purse_allows() {
        let mut desk = EventDesk::default();
        let told = (0..3600).filter(|second| desk.take(happening(&second.to_string()), at(*second)).is_some()).count();
        let most = u64::from(PURSE) + 3600 / REFILL.as_secs();
        assert!(u64::try_from(told).is_ok_and(|told| told <= most), "{told}");
        assert_eq!(desk.dropped(), 3600 - u64::try_from(told).unwrap_or(0));
    }

    #[test]
    fn notes_fit_into_an_event_whatever_they_hold() {
        let mut long = happening("k");
        long.note = "ä".repeat(800);
        match EventDesk::default().take(long, at(0)) {
            Some(Post::Create { happening, .. }) => {
                assert!(happening.note.len() <= MAX_NOTE && happening.note.ends_with('…'))
            }
            other => panic!("{other:?}"),
        }
    }
}
