//! What the report says of containers that ran before they were pinned: the start race without NRI, and the hand-over
//! between two agents.

use std::time::Duration;

use trimtab_domain::plan::{Finding, Severity};

use super::decide::{Decision, Rule};
use super::facts::Observed;
use crate::reconcile::node_view::Lateness;

/// Object of what is said about all containers together.
const ALL: &str = "containers";

/// What there is to say; nothing before the first container that was pinned late, nor where nothing is pinned.
pub(super) fn findings(decision: &Decision, observed: &Observed) -> Vec<Finding> {
    if decision.cpus != Rule::Enforce && decision.mems != Rule::Enforce {
        return Vec::new();
    }
    let at_start = told(&observed.late.at_start).map(|lateness| Finding {
        severity: Severity::Info,
        code: "pinning-hand-over",
        object: ALL.into(),
        message: format!("pinned when this agent started, because they came while none ran: {lateness}"),
        remedy: "nothing; the shorter the time between two agents, the fewer containers come in it".into(),
    });
    let remedy = if observed.desk.connected {
        "nothing; they came while the runtime did not ask the agent"
    } else {
        "let the runtime ask the agent before it starts a container (NRI: containerd 1.7 or CRI-O 1.26 and later)"
    };
    let later = told(&observed.late.later).map(|lateness| Finding {
        severity: Severity::Info,
        code: "pinning-start-race",
        object: ALL.into(),
        message: format!("pinned only after they had started: {lateness}"),
        remedy: remedy.into(),
    });
    at_start.into_iter().chain(later).collect()
}

/// How many, and how long they ran unpinned as far as it is known.
fn told(lateness: &Lateness) -> Option<String> {
    let Lateness { count, last, longest } = lateness;
    let count = (*count > 0).then_some(count)?;
    let milliseconds = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let ran = longest.as_ref().zip(last.as_ref()).map(|(longest, last)| {
        format!("; they ran unpinned for at most {}, the last one for {}", milliseconds(longest), milliseconds(last))
    });
    Some(format!("{count} so far{}", ran.unwrap_or_default()))
}
