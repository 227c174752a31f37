//! What others have changed since it was held, and which of it was brought back.

use std::collections::BTreeSet;

use super::pass::{MadeStep, Outcome};

/// The books on one subsystem.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Objects that were brought to the wish in force by a pass; what is written again is drift even while others fail.
    written: BTreeSet<String>,
    /// Objects that have been found changed and are not brought back yet: the write fails, a person has paused the
    /// subsystem, or a fight is on.
    open: BTreeSet<String>,
}

/// What a pass has seen of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drifted {
    /// Objects that were found changed, each once until it is brought back.
    pub(super) found: u64,
    /// Objects that were brought back.
    pub(super) healed: BTreeSet<String>,
}

impl Drift {
    /// Another wish is in force: what is written for it is no drift.
    pub(super) fn forget(&mut self) {
        self.written.clear();
        self.open.clear();
    }

    /// Everything is held: from here on each repair is drift without being on the list.
    pub(super) fn all_held(&mut self) {
        self.written.clear();
    }

    /// Takes note of a pass. `all_held` says that everything was held before it, `fights` which objects are left alone
    /// because of a fight.
    pub(super) fn see(&mut self, outcome: &Outcome, all_held: bool, fights: impl Fn(&str) -> bool) -> Drifted {
        let was_held = |object: &&String| all_held || self.written.contains(*object) || self.open.contains(*object);
        let healed: BTreeSet<String> = outcome.repaired.iter().filter(was_held).cloned().collect();
        let failed = outcome.made.iter().filter(|step| step.error.is_some());
        let undone = failed.chain(&outcome.withheld).filter(|step: &&MadeStep| step.repair);
        let undone = undone.filter_map(|step| step.object.as_ref());
        let fought = outcome.held.iter().filter(|object| fights(object));
        let changed = undone.chain(fought).filter(was_held);
        let mut open: BTreeSet<String> = changed.filter(|object| !healed.contains(*object)).cloned().collect();
        let found = healed.iter().chain(&open).filter(|object| !self.open.contains(*object)).count();
        if !outcome.failures.is_empty() {
            // A pass that failed may not have come as far as these.
            open.extend(self.open.difference(&healed).cloned());
        }
        self.written.extend(outcome.repaired.iter().cloned());
        self.open = open;
        Drifted { found: u64::try_from(found).unwrap_or(u64::MAX), healed }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reconcile::Class;
    use crate::reconcile::pass::Failure;

    fn step(object: &str, error: Option<&str>) -> MadeStep {
        let object = Some(object.to_owned());
        MadeStep { text: String::new(), object, repair: true, error: error.map(str::to_owned) }
    }

    fn repaired(objects: &[&str]) -> Outcome {
        Outcome { repaired: objects.iter().map(|object| (*object).to_owned()).collect(), ..Outcome::default() }
    }

    fn failing(object: &str) -> Outcome {
        let failures = vec![Failure { class: Class::Transient, text: "no".into() }];
        Outcome { made: vec![step(object, Some("no"))], failures, ..Outcome::default() }
    }

    fn withheld(object: &str) -> Outcome {
        Outcome { withheld: vec![step(object, None)], ..Outcome::default() }
    }

    /// Found and healed of each pass.
    fn seen(passes: &[(&Outcome, bool)]) -> Vec<(u64, usize)> {
        let mut drift = Drift::default();
        let see = |(outcome, all_held): &(&Outcome, bool)| drift.see(outcome, *all_held, |object| object == "fought");
        passes.iter().map(see).map(|drifted| (drifted.found, drifted.healed.len())).collect()
    }

    #[test]
    fn each_change_is_found_once_and_healed_once() {
        let (nothing, one, two) = (Outcome::default(), repaired(&["a"]), repaired(&["a", "b"]));
        let (no, paused) = (failing("a"), withheld("a"));
        let held = Outcome { held: vec!["fought".into(), "behind it".into()], ..Outcome::default() };
        let back = repaired(&["fought"]);
        type Row<'a> = (&'static str, &'a [(&'a Outcome, bool)], &'a [(u64, usize)]);
        let rows: [Row<'_>; 7] = [
            ("the first writes are no drift", &[(&two, false)], &[(0, 0)]),
            ("a second write is drift while others fail", &[(&one, false), (&one, false)], &[(0, 0), (1, 1)]),
            ("healed at once", &[(&two, true), (&nothing, true), (&one, true)], &[(2, 2), (0, 0), (1, 1)]),
            ("healed at the third try", &[(&no, true), (&no, false), (&one, false)], &[(1, 0), (0, 0), (0, 1)]),
            ("left while paused", &[(&paused, true), (&paused, true), (&one, true)], &[(1, 0), (0, 0), (0, 1)]),
            ("undone by whoever did it", &[(&paused, true), (&nothing, true), (&one, true)], &[(1, 0), (0, 0), (1, 1)]),
            ("left alone in a fight", &[(&held, true), (&held, true), (&back, true)], &[(1, 0), (0, 0), (0, 1)]),
        ];
        for (name, passes, expected) in rows {
            assert_eq!(seen(passes), expected, "{name}");
        }
    }

    #[test]
    fn a_new_wish_begins_anew() {
        let mut drift = Drift::default();
        drift.see(&failing("a"), true, |_| false);
        drift.forget();
        assert_eq!(drift.see(&repaired(&["a"]), false, |_| false), Drifted::default());
    }
}
