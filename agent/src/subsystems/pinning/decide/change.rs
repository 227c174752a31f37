//! A change of settings under containers that run: who stays, who moves, and where to.

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::{Assignment, Move, MoveReason, Running, replan_running};
use trimtab_domain::plan::{Finding, Refusal, Severity};

use super::candidates::Candidate;
use super::placing::{Placing, cause_of};

impl Placing<'_> {
    /// Gives everybody a place under the new settings, so that as few as possible move.
    pub(super) fn change_settings(&mut self, pods: &[Candidate<'_>]) {
        let mut running = Running::default();
        for candidate in pods {
            running.put_pod(&candidate.pod);
            for (member, container) in candidate.containers() {
                if let Some(holding) = self.usable_holding(candidate, member, container)
                    && !holding.is_nothing()
                {
                    running.put_place(&candidate.pod.uid, &container.name, holding.cpus, holding.nodes);
                }
            }
        }
        let plan = replan_running(&running, self.managers.clone());
        self.managers = plan.managers;
        for candidate in pods {
            let moves = plan.moves.iter().filter(|step| step.pod == candidate.pod.uid);
            self.decision.findings.extend(moves.filter_map(|step| moves_finding(candidate, step)));
        }
        for stuck in &plan.stuck {
            let Some(candidate) = pods.iter().find(|candidate| candidate.pod.uid == stuck.pod) else { continue };
            if !stuck.recorded {
                // Some of its CPUs may not be owned any more. A part of them would be worse than the shared ones; which of
                // its containers fit all the same, and which do not, the admission that follows tells.
                self.managers.remove(&stuck.pod);
                continue;
            }
            self.decision.refusals.push(Refusal {
                object: candidate.known.display_name(),
                wish: "a place under the new settings".into(),
                cause: cause_of(&stuck.rejection),
                detail: format!(
                    "{}: {}; it runs on where it is; start it again where it fits, or change the settings back",
                    stuck.rejection.reason(),
                    stuck.rejection
                ),
            });
        }
    }
}

fn moves_finding(candidate: &Candidate<'_>, step: &Move) -> Option<Finding> {
    let (member, _) = candidate.containers().find(|(_, container)| container.name == step.container)?;
    let because = match step.reason {
        MoveReason::Settings => "the settings have changed",
        MoveReason::Room => "it makes room for another one that has to move",
    };
    Some(Finding {
        severity: Severity::Info,
        code: "pinning-move",
        object: candidate.display_name(member),
        message: format!("moves from {} to {}: {because}", place(step.from.as_ref()), place(step.to.as_ref())),
        remedy: String::new(),
    })
}

/// A place in words.
fn place(assignment: Option<&Assignment>) -> String {
    let cpus = assignment.and_then(|held| held.cpus.as_ref());
    let cpus = cpus.map_or_else(|| "the shared CPUs".to_owned(), |cpus| format!("CPUs {cpus}"));
    match assignment.and_then(|held| held.memory_nodes) {
        Some(nodes) => format!("{cpus} with memory of nodes {}", nodes.iter().collect::<CpuSet>()),
        None => cpus,
    }
}
