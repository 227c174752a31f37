//! The next step, from the facts alone.

use super::{Direction, Facts, Journal, Limits, Outcome};

/// One step. Each may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Take one of the places of those that may be disrupted at a time.
    TakeLease,
    /// Set `spec.unschedulable`, and note that it was us.
    Cordon,
    /// Ask for the eviction of the pods that are left.
    Evict,
    /// Stop the kubelet's unit.
    StopKubelet,
    /// Stop and remove the sandboxes that the drain left; the kubelet makes them anew.
    RemoveSandboxes,
    /// Stop the runtime's unit.
    StopRuntime,
    /// Write the target into the runtime's file, after a copy of the file has been kept.
    EditRuntime,
    /// Write the target into the kubelet's file, after a copy of the file has been kept.
    EditKubelet,
    /// Put the kept copies back.
    RestoreFiles,
    /// Start the runtime's unit.
    StartRuntime,
    /// Start the kubelet's unit.
    StartKubelet,
    /// Take `spec.unschedulable` away.
    Uncordon,
    /// Let the next node go.
    GiveLeaseBack,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Make this step, then look again.
    Do(Action),
    /// Look again later; the reason is for a person.
    Wait(&'static str),
    /// Turn back, then look again.
    TurnBack(String),
    /// It is over.
    End(Outcome),
}

/// What comes next, `now` in seconds since 1970.
#[must_use]
pub fn decide(journal: &Journal, facts: &Facts, limits: Limits, now: u64) -> Decision {
    if let Some(outcome) = &journal.outcome {
        return Decision::End(outcome.clone());
    }
    match &journal.direction {
        Direction::Forward => forward(journal, facts, limits, now),
        Direction::Back { reason } => back(journal, facts, reason),
    }
}

fn forward(journal: &Journal, facts: &Facts, limits: Limits, now: u64) -> Decision {
    if journal.arrived {
        return start(facts).unwrap_or_else(|| finish(journal, facts, Outcome::Migrated));
    }
    let edited = facts.runtime_file == journal.target && facts.kubelet_file == journal.target;
    if !journal.prepared {
        return prepare(journal, facts, limits, now);
    }
    if !edited {
        if is_late(journal.prepared_at, limits, now) {
            let reason = format!("kubelet and runtime could not be stopped and changed within {} s", limits.ready);
            return Decision::TurnBack(reason);
        }
        return if facts.kubelet_runs {
            Decision::Do(Action::StopKubelet)
        } else if facts.runtime_runs && facts.sandboxes.is_none() {
            Decision::Wait("the runtime does not say which sandboxes are left")
        } else if facts.runtime_runs && facts.sandboxes != Some(0) {
            Decision::Do(Action::RemoveSandboxes)
        } else if facts.runtime_runs {
            Decision::Do(Action::StopRuntime)
        } else if facts.runtime_file == journal.target {
            Decision::Do(Action::EditKubelet)
        } else {
            Decision::Do(Action::EditRuntime)
        };
    }
    if let Some(decision) = start(facts) {
        return if is_late(journal.edited_at, limits, now) {
            Decision::TurnBack(format!(
                "kubelet and runtime did not start with {} within {} s",
                journal.target, limits.ready
            ))
        } else {
            decision
        };
    }
    let told = facts.runtime_says.filter(|says| *says != journal.target);
    if let Some(says) = told {
        return Decision::TurnBack(format!("the runtime runs with {says} although its file says {}", journal.target));
    }
    match journal.started {
        Some(started) if now.saturating_sub(started) > limits.ready => Decision::TurnBack(format!(
            "the node was not ready with {} within {} s after the kubelet's start",
            journal.target, limits.ready
        )),
        _ if facts.node_is_ready.is_none() => Decision::Wait("the API server does not say whether the node is ready"),
        _ => Decision::Wait("the node is not ready yet"),
    }
}

fn is_late(since: Option<u64>, limits: Limits, now: u64) -> bool {
    since.is_some_and(|since| now.saturating_sub(since) > limits.ready)
}

/// What must be so before anything is stopped. Until then turning back disturbs nothing.
fn prepare(journal: &Journal, facts: &Facts, limits: Limits, now: u64) -> Decision {
    if facts.cluster_is_healthy == Some(false) {
        return if journal.cordoned {
            Decision::TurnBack("too many other nodes are not ready".to_owned())
        } else {
            Decision::Wait("too many other nodes are not ready")
        };
    }
    if journal.draining_at.is_some_and(|since| now.saturating_sub(since) > limits.drain) {
        return Decision::TurnBack(format!("pods were left after {} s of draining", limits.drain));
    }
    match (facts.holds_lease, facts.cordoned) {
        (None, _) | (_, None) => Decision::Wait("the API server does not answer"),
        (Some(false), _) => Decision::Do(Action::TakeLease),
        (Some(true), Some(false)) => Decision::Do(Action::Cordon),
        (Some(true), Some(true)) => match facts.to_evict {
            Some(_) => Decision::Do(Action::Evict),
            None => Decision::Wait("the API server does not say which pods are left"),
        },
    }
}

fn back(journal: &Journal, facts: &Facts, reason: &str) -> Decision {
    if !facts.files_are_original {
        return Decision::Do(if facts.kubelet_runs {
            Action::StopKubelet
        } else if facts.runtime_runs {
            Action::StopRuntime
        } else {
            Action::RestoreFiles
        });
    }
    if let Some(decision) = start(facts) {
        return decision;
    }
    finish(journal, facts, Outcome::TurnedBack { reason: reason.to_owned() })
}

/// The runtime before the kubelet, which does not start without it.
fn start(facts: &Facts) -> Option<Decision> {
    if !facts.runtime_runs {
        Some(Decision::Do(Action::StartRuntime))
    } else if !facts.kubelet_runs {
        Some(Decision::Do(Action::StartKubelet))
    } else {
        None
    }
}

/// Pods may come again, then the next node may go.
fn finish(journal: &Journal, facts: &Facts, outcome: Outcome) -> Decision {
    match (facts.cordoned, facts.holds_lease) {
        (None, _) | (_, None) => Decision::Wait("the API server does not answer"),
        (Some(true), _) if journal.cordoned => Decision::Do(Action::Uncordon),
        (_, Some(true)) => Decision::Do(Action::GiveLeaseBack),
        _ => Decision::End(outcome),
    }
}
