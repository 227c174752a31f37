//! Which profile of a subsystem has been confirmed, which is on trial, and which is to be held meanwhile.
//!
//! A profile goes on trial with its first risky change. While it is, and after it was refused, it is known what was
//! confirmed before it: that comes back. What is kept here is written to the disk before the change is made.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

/// Where the newest profile stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It is held: confirmed, or nothing risky has been changed for it.
    Settled,
    /// Something risky has been changed, and not confirmed yet.
    Pending(Pending),
    /// It was not confirmed, and what was confirmed before it is held until there is another one.
    Refused {
        /// For a person: what could not be reached.
        reason: String,
    },
}

/// A change that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// When the change was made, in seconds since 1970.
    pub since: u64,
    /// Seconds that it has.
    pub deadline: u64,
    /// What must be reached, and whether it was before the change.
    pub reached_before: BTreeMap<String, bool>,
}

impl Pending {
    /// Seconds that have gone by; none by a clock that was set back.
    #[must_use]
    pub fn elapsed(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    /// True if it can only be taken back.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.elapsed(now) >= self.deadline
    }
}

/// The newest profile of a subsystem; `W` is the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest<W> {
    /// What it asks for.
    pub wish: W,
    /// Where it stands.
    pub stage: Stage,
    /// The risky objects that were changed for it: changed again, they bring back what was confirmed.
    pub objects: BTreeSet<String>,
}

/// What is known of a subsystem's profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trials<W> {
    /// The one that was in force last; `None`: there never was one.
    pub newest: Option<Newest<W>>,
    /// The one that was held before it; `None`: nothing was held, so all is given back.
    pub before: Option<W>,
}

impl<W> Default for Trials<W> {
    fn default() -> Self {
        Self { newest: None, before: None }
    }
}

impl<W: Clone + PartialEq> Trials<W> {
    /// A profile is in force. Returns true if it is another than the last one.
    ///
    /// A change that is still on trial goes on being so under the new profile, with the whole time again: nobody has
    /// shown yet that the node can be reached with it.
    pub fn take(&mut self, wish: &W, now: u64) -> bool {
        let Some(last) = &mut self.newest else {
            self.newest = Some(Newest { wish: wish.clone(), stage: Stage::Settled, objects: BTreeSet::new() });
            return true;
        };
        if last.wish == *wish {
            return false;
        }
        let known = std::mem::replace(&mut last.wish, wish.clone());
        match &mut last.stage {
            Stage::Settled => {
                self.before = Some(known);
                last.objects.clear();
            }
            Stage::Pending(pending) => pending.since = now,
            Stage::Refused { .. } => {
                last.stage = Stage::Settled;
                last.objects.clear();
            }
        }
        true
    }

    /// Why the newest profile is not held; `None`: it is.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        match &self.newest.as_ref()?.stage {
            Stage::Refused { reason } => Some(reason),
            Stage::Settled | Stage::Pending(_) => None,
        }
    }

    /// The change that waits; `None`: none does.
    #[must_use]
    pub fn pending(&self) -> Option<&Pending> {
        match &self.newest.as_ref()?.stage {
            Stage::Pending(pending) => Some(pending),
            Stage::Settled | Stage::Refused { .. } => None,
        }
    }

    /// True if a change of these objects has to be confirmed: one of them was not changed for this profile before.
    #[must_use]
    pub fn is_news(&self, objects: &[String]) -> bool {
        let known = self.newest.as_ref().filter(|newest| !matches!(newest.stage, Stage::Refused { .. }));
        known.is_some_and(|newest| objects.iter().any(|object| !newest.objects.contains(object)))
    }

    /// These objects are about to be changed. What was found out before an earlier change that is still on trial is kept:
    /// since then nothing proves anything.
    pub fn begin(&mut self, objects: &[String], mut change: Pending) {
        let Some(newest) = &mut self.newest else { return };
        newest.objects.extend(objects.iter().cloned());
        if let Stage::Pending(earlier) = &newest.stage {
            for (target, reached) in &mut change.reached_before {
                *reached = earlier.reached_before.get(target).copied().unwrap_or(*reached);
            }
        }
        let is_provable = change.reached_before.values().any(|reached| *reached);
        newest.stage = if is_provable { Stage::Pending(change) } else { Stage::Settled };
    }

    /// The change on trial stays.
    pub fn confirm(&mut self) {
        if let Some(newest) = &mut self.newest
            && matches!(newest.stage, Stage::Pending(_))
        {
            newest.stage = Stage::Settled;
        }
    }

    /// The change on trial is taken back.
    pub fn take_back(&mut self, reason: String) {
        if let Some(newest) = &mut self.newest {
            newest.stage = Stage::Refused { reason };
        }
    }
}
