//! What was changed, by whom and why: the last changes, bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Changes that are kept.
pub const MAX_CHANGES: usize = 1_000;

/// Bytes of the texts of all changes that are kept.
pub const MAX_BYTES: usize = 512 * 1024;

/// Bytes of one text of a change; longer ones are cut.
const MAX_TEXT: usize = 1_024;

/// What kind of change it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The agent wrote what the profile asks for.
    Applied,
    /// Somebody else had changed what is held, and the agent has set it back.
    Healed,
    /// Somebody else has changed what is held, and the agent leaves it.
    Drifted,
    /// A step failed.
    Failed,
    /// A wish is not granted.
    Refused,
    /// A refusal has ended.
    RefusalEnded,
    /// Another program keeps changing an object back.
    Fight,
    /// A profile came into force.
    Profile,
    /// A profile was rejected.
    ProfileRejected,
    /// A container got CPUs or memory of its own, or others than before.
    Placed,
    /// A container gave them back.
    GivenBack,
    /// Somebody made a call that changes what the agent does.
    Call,
    /// The agent started.
    Started,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Applied,
        Self::Healed,
        Self::Drifted,
        Self::Failed,
        Self::Refused,
        Self::RefusalEnded,
        Self::Fight,
        Self::Profile,
        Self::ProfileRejected,
        Self::Placed,
        Self::GivenBack,
        Self::Call,
        Self::Started,
    ];

    /// The word in tables and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Healed => "healed",
            Self::Drifted => "drifted",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::RefusalEnded => "refusal-ended",
            Self::Fight => "fight",
            Self::Profile => "profile",
            Self::ProfileRejected => "profile-rejected",
            Self::Placed => "placed",
            Self::GivenBack => "given-back",
            Self::Call => "call",
            Self::Started => "started",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Who changes what the profile asks for.
pub const AGENT: &str = "trimtab";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The subsystem; empty: the agent as a whole.
    pub subsystem: String,
    /// What kind of change it was.
    pub kind: ChangeKind,
    /// The object on the node; empty: none in particular.
    pub object: String,
    /// Value before; `None`: not known, or absent.
    pub old: Option<String>,
    /// Value after; `None`: not known, or absent.
    pub new: Option<String>,
    /// Who or what made it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What went wrong; `None`: nothing.
    pub error: Option<String>,
}

impl Change {
    /// A change that the agent made by itself.
    pub fn new(subsystem: impl Into<String>, kind: ChangeKind, object: impl Into<String>) -> Self {
        Self {
            subsystem: subsystem.into(),
            kind,
            object: object.into(),
            old: None,
            new: None,
            actor: AGENT.to_owned(),
            reason: String::new(),
            error: None,
        }
    }

    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let always = [&mut self.subsystem, &mut self.object, &mut self.actor, &mut self.reason];
        always.into_iter().chain([&mut self.old, &mut self.new, &mut self.error].into_iter().flatten())
    }
}

/// A change with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows by one with each change.
    pub id: u64,
    /// When it was noted.
    pub time: SystemTime,
    /// What it was.
    pub change: Change,
}

/// The last changes. Whoever notes one never waits for who reads.
#[derive(Debug)]
pub struct History {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// With the bytes of the texts.
    entries: VecDeque<(Arc<Entry>, usize)>,
    bytes: usize,
    newest: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { ring: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

impl History {
    /// A history that goes on from one that was kept, oldest first; entries that are not in ascending order are left out.
    #[must_use]
    pub fn going_on(kept: impl IntoIterator<Item = Entry>) -> Self {
        let history = Self::default();
        {
            let mut ring = history.ring();
            for entry in kept.into_iter().filter(|entry| entry.id < u64::MAX) {
                if entry.id > ring.newest {
                    ring.push(entry);
                }
            }
            history.newest.send_replace(ring.newest);
        }
        history
    }

    /// Notes a change.
    pub fn note(&self, change: Change) {
        self.note_at(change, SystemTime::now());
    }

    /// Notes a change of that time, in whole milliseconds: what is kept over a restart has no finer time.
    pub fn note_at(&self, change: Change, time: SystemTime) {
        let finer = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1_000_000;
        let time = time.checked_sub(Duration::from_nanos(finer.into())).unwrap_or(time);
        let mut ring = self.ring();
        let id = ring.newest.saturating_add(1);
        ring.push(Entry { id, time, change });
        self.newest.send_replace(id);
    }

    /// Everything that is kept, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.ring().entries.iter().map(|(entry, _)| Arc::clone(entry)).collect()
    }

    /// Id of the newest change; 0: none yet.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.ring().newest
    }

    /// Follows the id of the newest change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, mut entry: Entry) {
        let mut bytes = 0;
        for text in entry.change.texts() {
            cut(text);
            bytes += text.len();
        }
        self.newest = entry.id;
        self.bytes += bytes;
        self.entries.push_back((Arc::new(entry), bytes));
        while self.entries.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
        }
    }
}

/// Cuts a text that is too long, between two characters.
fn cut(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = text.floor_char_boundary(MAX_TEXT - "…".len());
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(object: &str) -> Change {
        Change::new("sysctl", ChangeKind::Applied, object)
    }

    #[test]
    fn the_oldest_changes_are_forgotten_by_number_and_by_bytes() {
        let history = History::default();
        for number in 0..MAX_CHANGES + 5 {
            history.note(change(&number.to_string()));
        }
        let entries = history.entries();
        assert_eq!((entries.len(), entries[0].id, history.newest()), (MAX_CHANGES, 6, 1_005));
        for _ in 0..MAX_CHANGES {
            let mut long = change(&"ö".repeat(5_000));
            long.old = Some("x".repeat(5_000));
            history.note(long);
        }
        let entries = history.entries();
        assert!(entries.len() < MAX_CHANGES, "{}", entries.len());
        let bytes: usize =
            entries.iter().map(|entry| entry.change.object.len() + entry.change.old.as_ref().unwrap().len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
        assert!(entries.last().unwrap().change.object.ends_with("ö…"), "cut between characters");
        assert_eq!(history.newest(), 2_005);
    }

    #[test]
    fn a_kept_history_goes_on_with_the_next_id() {
        let time = SystemTime::UNIX_EPOCH;
        let entry = |id| Entry { id, time, change: change("a") };
        let history = History::going_on([entry(4), entry(7), entry(7), entry(5), entry(u64::MAX)]);
        history.note(change("b"));
        let ids: Vec<u64> = history.entries().iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [4, 7, 8]);
        assert_eq!(*history.subscribe().borrow(), 8);
    }

    #[test]
    fn a_time_is_the_same_before_and_after_it_was_kept() {
        let history = History::default();
        history.note_at(change("a"), UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789));
        let kept = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(history.entries().first().map(|entry| entry.time), Some(kept));
    }

    #[test]
    fn kinds_have_words_that_lead_back() {
        for kind in ChangeKind::ALL {
            assert_eq!(ChangeKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(ChangeKind::parse("other"), None);
    }
}
