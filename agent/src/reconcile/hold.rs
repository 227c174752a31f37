//! A subsystem that a person has told to stand still for a while.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Longest time that a subsystem may be told to stand still: a pause that is forgotten ends by itself within a day.
pub const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks of people and nodes differ by so much: a time that is written down may be further away.
const SKEW: Duration = Duration::from_secs(300);

/// Shortest time.
pub const SHORTEST_HOLD: Duration = Duration::from_secs(1);

/// What is not done meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Nothing is written: drift is observed and reported.
    Pause,
    /// Everything is given back, as if the profile asked for nothing.
    GiveBack,
}

impl Stand {
    /// The word in files and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::GiveBack => "give-back",
        }
    }

    /// The stand of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pause, Self::GiveBack].into_iter().find(|stand| stand.as_str() == word)
    }
}

/// Who gives such orders. Of each there is one in force at most, nobody ends another's, and the longest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A person, over the socket.
    Call,
    /// An annotation of the Node.
    Annotation,
    /// The profile in force.
    Profile,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Call, Self::Annotation, Self::Profile];
}

/// A time that is written down somewhere as the end of a pause, as it looks when it is seen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has come already.
    Past,
    /// It will come.
    Ahead,
    /// It is further away than [`LONGEST_HOLD`], and is none.
    TooFar,
}

impl End {
    /// What this time is now.
    #[must_use]
    pub fn of(until: SystemTime, now: SystemTime) -> Self {
        match until.duration_since(now) {
            Ok(left) if left > LONGEST_HOLD + SKEW => Self::TooFar,
            Ok(left) if !left.is_zero() => Self::Ahead,
            _ => Self::Past,
        }
    }
}

/// An order to stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose order it is.
    pub source: Source,
    /// What is not done meanwhile.
    pub stand: Stand,
    /// When it ends by itself.
    pub until: SystemTime,
    /// Who gave it, for people.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// The holds could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write down which subsystems are paused; the pause ends when the agent restarts")]
pub struct HoldError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where holds are written down, so that they outlive a restart.
pub trait HoldBook: fmt::Debug + Send + Sync {
    /// The holds of a subsystem that were written down last; one whose deadline has passed is none.
    fn read(&self, subsystem: &str) -> Vec<Hold>;

    /// Writes the one of this source down, or forgets it.
    ///
    /// # Errors
    /// [`HoldError`] if it will not outlive a restart; it is in force all the same.
    fn write(&self, subsystem: &'static str, source: Source, hold: Option<&Hold>) -> Result<(), HoldError>;
}

/// A book that forgets: holds end with the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBook;

impl HoldBook for NoBook {
    fn read(&self, _subsystem: &str) -> Vec<Hold> {
        Vec::new()
    }

    fn write(&self, _subsystem: &'static str, _source: Source, _hold: Option<&Hold>) -> Result<(), HoldError> {
        Err(HoldError("there is no directory for it".into()))
    }
}
