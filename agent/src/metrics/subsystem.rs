//! Instruments of the subsystems, fed from their reports.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use trimtab_domain::plan::{Cause, Finding, Severity};

use super::labels::{AGENT, CauseLabels, ResultLabels, SeverityLabels, StateLabels, SubsystemLabel};
use crate::reconcile::report::{State, SubsystemReport, Totals};

/// Upper bounds of a pass in seconds: an idle pass takes about a millisecond, a slow iptables seconds.
const PASS_BUCKETS_SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Error];

type Timestamp = Gauge<f64, std::sync::atomic::AtomicU64>;

/// What the last report of a subsystem said, to turn totals into increments.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    totals: Totals,
    last_pass: Option<SystemTime>,
}

pub(super) struct SubsystemMetrics {
    state: Family<StateLabels, Gauge>,
    pass_duration: Family<SubsystemLabel, Histogram>,
    passes: Family<ResultLabels, Counter>,
    steps: Family<ResultLabels, Counter>,
    drift_found: Family<SubsystemLabel, Counter>,
    drift_healed: Family<SubsystemLabel, Counter>,
    refusals: Family<CauseLabels, Gauge>,
    findings: Family<SeverityLabels, Gauge>,
    fights: Family<SubsystemLabel, Gauge>,
    confirmations: Family<ResultLabels, Counter>,
    on_trial: Family<SubsystemLabel, Gauge>,
    last_success: Family<SubsystemLabel, Timestamp>,
    seen: Mutex<BTreeMap<&'static str, Seen>>,
}

impl SubsystemMetrics {
    pub(super) fn register(registry: &mut Registry, subsystems: &[&'static str]) -> Self {
        let metrics = Self {
            state: Family::default(),
            pass_duration: Family::new_with_constructor(|| Histogram::new(PASS_BUCKETS_SECONDS)),
            passes: Family::default(),
            steps: Family::default(),
            drift_found: Family::default(),
            drift_healed: Family::default(),
            refusals: Family::default(),
            findings: Family::default(),
            fights: Family::default(),
            confirmations: Family::default(),
            on_trial: Family::default(),
            last_success: Family::default(),
            seen: Mutex::default(),
        };
        registry.register(
            "subsystem_state",
            "1 for the state that the subsystem is in after its last pass, 0 for the others",
            metrics.state.clone(),
        );
        registry.register_with_unit(
            "pass_duration",
            "How long a pass took: observe, plan, apply, observe again",
            Unit::Seconds,
            metrics.pass_duration.clone(),
        );
        registry.register("passes", "Passes ended", metrics.passes.clone());
        registry.register("steps", "Changes made to the node, or tried", metrics.steps.clone());
        registry.register(
            "drift_found",
            "Objects found changed by others after they had been held",
            metrics.drift_found.clone(),
        );
        registry.register("drift_healed", "Such objects that were brought back", metrics.drift_healed.clone());
        registry.register("refusals", "Wishes of the profile that are not granted now", metrics.refusals.clone());
        registry.register("findings", "Findings that a person should look at now", metrics.findings.clone());
        registry.register("fights", "Objects that another program keeps changing back now", metrics.fights.clone());
        registry.register(
            "risky_changes",
            "Changes that may cut the node off, after which it still reached what it had reached, or that were taken back",
            metrics.confirmations.clone(),
        );
        registry.register(
            "change_on_trial",
            "1 while a change that may cut the node off is not confirmed, else 0",
            metrics.on_trial.clone(),
        );
        registry.register_with_unit(
            "last_success_timestamp",
            "When the last pass without a failure ended, in seconds since 1970; 0 before the first",
            Unit::Seconds,
            metrics.last_success.clone(),
        );
        for subsystem in subsystems {
            metrics.record(&SubsystemReport::pending(subsystem));
        }
        metrics.record_agent_findings(&[]);
        metrics
    }

    pub(super) fn record(&self, report: &SubsystemReport) {
        let subsystem = report.name;
        let label = SubsystemLabel { subsystem };
        for state in State::ALL {
            let labels = StateLabels { subsystem, state: state.as_str() };
            self.state.get_or_create(&labels).set(i64::from(report.state == state));
        }
        for cause in Cause::ALL {
            let refused = report.refusals.iter().filter(|refusal| refusal.cause == cause).count();
            self.refusals.get_or_create(&CauseLabels { subsystem, cause: cause.as_str() }).set(to_gauge(refused));
        }
        self.record_findings(subsystem, &report.findings);
        self.fights.get_or_create(&label).set(to_gauge(report.fights.len()));
        self.on_trial.get_or_create(&label).set(i64::from(report.on_trial_until.is_some()));
        self.last_success.get_or_create(&label).set(report.last_success.map_or(0.0, to_unix_seconds));
        self.record_totals(report);
    }

    pub(super) fn record_agent_findings(&self, findings: &[Finding]) {
        self.record_findings(AGENT, findings);
    }

    fn record_findings(&self, subsystem: &'static str, findings: &[Finding]) {
        for severity in SEVERITIES {
            let found = findings.iter().filter(|finding| finding.severity == severity).count();
            let labels = SeverityLabels { subsystem, severity: severity.as_str() };
            self.findings.get_or_create(&labels).set(to_gauge(found));
        }
    }

    fn record_totals(&self, report: &SubsystemReport) {
        let subsystem = report.name;
        let now = Seen { totals: report.totals, last_pass: report.last_pass };
        let before = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(subsystem, now).unwrap_or_default()
        };
        let (old, new) = (before.totals, now.totals);
        let ok = |totals: Totals| totals.passes.saturating_sub(totals.failed_passes);
        let passes = |result| self.passes.get_or_create_owned(&ResultLabels { subsystem, result });
        passes("ok").inc_by(ok(new).saturating_sub(ok(old)));
        passes("failed").inc_by(new.failed_passes.saturating_sub(old.failed_passes));
        let steps = |result| self.steps.get_or_create_owned(&ResultLabels { subsystem, result });
        steps("done").inc_by(new.steps_done.saturating_sub(old.steps_done));
        steps("failed").inc_by(new.steps_failed.saturating_sub(old.steps_failed));
        let confirmations = |result| self.confirmations.get_or_create_owned(&ResultLabels { subsystem, result });
        confirmations("confirmed").inc_by(new.confirmed.saturating_sub(old.confirmed));
        confirmations("taken-back").inc_by(new.taken_back.saturating_sub(old.taken_back));
        let label = SubsystemLabel { subsystem };
        self.drift_found.get_or_create(&label).inc_by(new.drift_found.saturating_sub(old.drift_found));
        self.drift_healed.get_or_create(&label).inc_by(new.drift_healed.saturating_sub(old.drift_healed));
        let duration = self.pass_duration.get_or_create(&label);
        if now.last_pass.is_some() && now.last_pass != before.last_pass {
            duration.observe(report.last_duration.as_secs_f64());
        }
    }
}

/// A count as a gauge takes it.
pub(super) fn to_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
