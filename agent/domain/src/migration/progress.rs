//! What a migration is doing, for whoever tells of it.

use crate::cluster::condition::{Condition, ConditionType, Truth};
use crate::spec::cgroup::CgroupDriver;

/// What it is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Phase {
    /// There is nothing to do.
    #[default]
    Idle,
    /// Something is in the way, and nothing has been touched.
    Refused,
    /// Other nodes have their turn.
    Waiting,
    /// The node is on its way, or on its way back.
    Moving,
    /// A fact or a step fails; it is tried again.
    Stuck,
    /// The node is as before, and is not moved again until the profile changes.
    TurnedBack,
}

impl Phase {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Idle, Self::Refused, Self::Waiting, Self::Moving, Self::Stuck, Self::TurnedBack];

    /// The word in metrics and objects.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::Stuck => "stuck",
            Self::TurnedBack => "turned-back",
        }
    }

    /// The reason in the condition.
    const fn reason(self) -> &'static str {
        match self {
            Self::Idle => "InSync",
            Self::Refused => "MigrationRefused",
            Self::Waiting => "MigrationWaits",
            Self::Moving => "Migrating",
            Self::Stuck => "MigrationStuck",
            Self::TurnedBack => "MigrationTurnedBack",
        }
    }
}

/// What it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// In one word.
    pub phase: Phase,
    /// In words, for a person.
    pub message: String,
    /// The driver of the last migration; absent: there was none.
    pub target: Option<CgroupDriver>,
}

impl Progress {
    /// Puts it in place of what the condition `CgroupDriverMatched` would say: a node that is to be moved does not match, and
    /// what is being done about it is known.
    pub fn adorn(&self, conditions: &mut [Condition]) {
        let own = conditions.iter_mut().find(|condition| condition.kind == ConditionType::CgroupDriverMatched);
        if let Some(condition) = own.filter(|_| self.phase != Phase::Idle) {
            condition.status = Truth::False;
            condition.reason = self.phase.reason();
            condition.message.clone_from(&self.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::condition::conditions;
    use crate::cluster::health::NodeHealth;

    #[test]
    fn only_the_condition_of_the_driver_tells_of_a_migration_and_only_of_one_that_is_there() {
        let plain = conditions(&NodeHealth::default());
        for phase in Phase::ALL {
            let mut told = plain.clone();
            Progress { phase, message: "m".into(), target: None }.adorn(&mut told);
            for (was, is) in plain.iter().zip(&told) {
                let about = is.kind == ConditionType::CgroupDriverMatched && phase != Phase::Idle;
                assert_eq!(was != is, about, "{phase:?} {is:?}");
                assert!(!about || (is.status, is.message.as_str()) == (Truth::False, "m"), "{is:?}");
            }
        }
    }
}
