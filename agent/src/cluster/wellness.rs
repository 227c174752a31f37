//! Whether a node has been unwell since it took a change.

use std::collections::BTreeSet;

use trimtab_domain::cluster::health::{NodeHealth, Standing};

/// What was refused under the change before, and is under this one.
#[derive(Debug, Default)]
pub(super) struct Wellness {
    change: String,
    /// Refused under the change before; `None`: there was none while this agent ran.
    before: Option<BTreeSet<String>>,
    now: BTreeSet<String>,
}

impl Wellness {
    /// True for a node where something fails or is fought over, or is refused that was not refused before the change.
    pub(super) fn is_unwell(&mut self, change: &str, health: &NodeHealth) -> bool {
        if change != self.change {
            let known = std::mem::take(&mut self.now);
            self.before = (!self.change.is_empty()).then_some(known);
            change.clone_into(&mut self.change);
        }
        let refused = health.parts.iter().flat_map(|part| part.refusals.iter().map(move |what| (part.name, what)));
        self.now = refused.map(|(part, what)| format!("{part} {}", what.object)).collect();
        let fails = health.parts.iter().any(|part| matches!(part.standing, Standing::Failing | Standing::Fighting));
        fails || self.before.as_ref().is_some_and(|before| !self.now.is_subset(before))
    }
}

#[cfg(test)]
mod tests {
    use trimtab_domain::cluster::health::{PartHealth, Trouble};

    use super::*;

    fn health(standing: Standing, refused: &[&str]) -> NodeHealth {
        let trouble = |object: &&str| Trouble { object: (*object).into(), code: "absent", detail: String::new() };
        let refusals = refused.iter().map(trouble).collect();
        let part = PartHealth { standing, refusals, ..PartHealth::pending("sysctl") };
        NodeHealth { parts: vec![part], ..NodeHealth::default() }
    }

    #[test]
    fn what_was_refused_before_the_change_is_no_sign_against_it() {
        let mut wellness = Wellness::default();
        let steps = [
            ("u.1", health(Standing::Converged, &["a"]), false, "nothing is known of before"),
            ("u.2", health(Standing::Converged, &["a"]), false, "as before"),
            ("u.2", health(Standing::Converged, &["a", "b"]), true, "refused newly"),
            ("u.2", health(Standing::Converged, &[]), false, "mended"),
            ("u.2", health(Standing::Failing, &[]), true, "fails"),
            ("u.3", health(Standing::Fighting, &[]), true, "is fought over"),
            ("u.3", health(Standing::Paused, &[]), false, "a person's order"),
        ];
        for (change, health, expected, why) in steps {
            assert_eq!(wellness.is_unwell(change, &health), expected, "{why}");
        }
    }
}
