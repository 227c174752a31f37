//! The report of the node, in the few facts that others are told.

use std::sync::Arc;

use tokio::sync::watch;
use trimtab_domain::cluster::health::{NodeHealth, PartHealth, Standing, Trouble};
use trimtab_domain::plan::{Finding, Severity};

use crate::adapters::profile_object::Waiting;
use crate::reconcile::report::{NodeReport, State, SubsystemReport};

/// Findings that a person must look at although they are only warnings.
const ALARMING: [&str; 2] = ["mispinned", "cgroup-driver-mismatch"];

/// The facts of a report.
#[must_use]
pub fn health(report: &NodeReport) -> NodeHealth {
    NodeHealth {
        profile: report.profile.name.clone(),
        generation: report.profile.generation,
        source: report.profile.source.clone(),
        profile_errors: report.profile.errors.clone(),
        waiting: waiting(report).map(|finding| finding.message.clone()),
        ready: report.ready,
        parts: report.subsystems.iter().map(|part| part_health(part)).collect(),
    }
}

/// What is said of a profile that has not come to this node yet.
fn waiting(report: &NodeReport) -> Option<&Finding> {
    let codes = [Waiting::code(false), Waiting::code(true)];
    report.findings.iter().find(|finding| codes.contains(&finding.code))
}

fn part_health(report: &SubsystemReport) -> PartHealth {
    let refusals = report.refusals.iter().map(|refusal| Trouble {
        object: refusal.object.clone(),
        code: refusal.cause.as_str(),
        detail: refusal.detail.clone(),
    });
    let matters = |severity, code: &str| severity == Severity::Error || ALARMING.contains(&code);
    let findings = report.findings.iter().filter(|finding| matters(finding.severity, finding.code));
    let findings = findings.map(|finding| Trouble {
        object: finding.object.clone(),
        code: finding.code,
        detail: finding.message.clone(),
    });
    let fights = report.fights.iter().map(|fight| {
        let writer = fight.likely_writer.as_ref().map(|writer| format!(", likely {writer}")).unwrap_or_default();
        let detail = format!("another program keeps changing it back{writer}");
        Trouble { object: fight.object.clone(), code: "fight", detail }
    });
    PartHealth {
        name: report.name,
        standing: match report.state {
            State::Pending => Standing::Pending,
            State::Converged => Standing::Converged,
            State::Failing => Standing::Failing,
            State::Fighting => Standing::Fighting,
            State::Paused => Standing::Paused,
        },
        unready: report.unready.clone(),
        error: report.last_error.clone(),
        refusals: refusals.collect(),
        findings: findings.collect(),
        fights: fights.collect(),
        asked: report.objects.iter().filter(|object| object.desired.is_some()).count(),
        drifts: report.totals.drift_found,
    }
}

/// Makes the facts of each new report, and tells of those that differ, until the reports end.
pub(super) async fn follow(mut reports: watch::Receiver<Arc<NodeReport>>, out: watch::Sender<NodeHealth>) {
    loop {
        let now = health(&reports.borrow_and_update());
        out.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
        if reports.changed().await.is_err() {
            return;
        }
    }
}
