//! The report as messages.

use std::time::SystemTime;

use trimtab_domain::plan;
use trimtab_proto::node::v1alpha1 as wire;

use crate::reconcile::hold::Hold;
use crate::reconcile::report::{self, NodeReport, SubsystemReport};

/// How much of a subsystem is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything but objects and steps.
    Basic,
    /// Everything.
    Full,
}

/// The report without its subsystems.
pub(super) fn to_node(report: &NodeReport) -> wire::NodeReport {
    wire::NodeReport {
        node: report.node.clone(),
        version: report.version.to_owned(),
        started: Some(report.started.into()),
        ready: report.ready,
        profile: Some(wire::Profile {
            name: report.profile.name.clone(),
            generation: report.profile.generation,
            source: report.profile.source.clone(),
            valid: report.profile.valid,
            errors: report.profile.errors.clone(),
        }),
        subsystems: Vec::new(),
        findings: report.findings.iter().map(to_finding).collect(),
    }
}

/// A subsystem; its age is that at `now`, and left out without.
pub(super) fn to_subsystem(subsystem: &SubsystemReport, detail: Detail, now: Option<SystemTime>) -> wire::Subsystem {
    let full = detail == Detail::Full;
    let timestamp = |time: Option<SystemTime>| time.map(Into::into);
    wire::Subsystem {
        name: subsystem.name.to_owned(),
        state: to_state(subsystem.state).into(),
        generation: subsystem.generation,
        trigger: subsystem.trigger.map_or(wire::Trigger::Unspecified, to_trigger).into(),
        last_pass: timestamp(subsystem.last_pass),
        last_success: timestamp(subsystem.last_success),
        // A pass of more than 292 billion years would be left out.
        last_duration: subsystem.last_duration.try_into().ok(),
        last_change: timestamp(subsystem.last_change),
        steps: subsystem.steps.iter().filter(|_| full).map(to_step).collect(),
        refusals: subsystem.refusals.iter().map(to_refusal).collect(),
        findings: subsystem.findings.iter().map(to_finding).collect(),
        fights: subsystem.fights.iter().map(to_fight).collect(),
        objects: subsystem.objects.iter().filter(|_| full).map(to_object).collect(),
        last_error: subsystem.last_error.clone(),
        totals: Some(to_totals(subsystem.totals)),
        age: age(subsystem.last_pass, now),
        pause: subsystem.hold.as_ref().map(to_hold),
        withheld: subsystem.withheld.clone(),
    }
}

fn to_totals(totals: report::Totals) -> wire::Totals {
    wire::Totals {
        passes: totals.passes,
        failed_passes: totals.failed_passes,
        steps_done: totals.steps_done,
        steps_failed: totals.steps_failed,
        drift_found: totals.drift_found,
        drift_healed: totals.drift_healed,
    }
}

fn age(last_pass: Option<SystemTime>, now: Option<SystemTime>) -> Option<trimtab_proto::Duration> {
    // A clock that was set back makes nothing younger than now.
    now?.duration_since(last_pass?).unwrap_or_default().try_into().ok()
}

pub(super) fn to_hold(hold: &Hold) -> wire::Hold {
    wire::Hold { until: Some(hold.until.into()), by: hold.by.clone(), reason: hold.reason.clone() }
}

pub(super) fn to_step(step: &report::StepReport) -> wire::Step {
    wire::Step { step: step.step.clone(), error: step.error.clone() }
}

const fn to_state(state: report::State) -> wire::State {
    match state {
        report::State::Pending => wire::State::Pending,
        report::State::Converged => wire::State::Converged,
        report::State::Failing => wire::State::Failing,
        report::State::Fighting => wire::State::Fighting,
        report::State::Paused => wire::State::Paused,
    }
}

const fn to_trigger(trigger: report::Trigger) -> wire::Trigger {
    match trigger {
        report::Trigger::Start => wire::Trigger::Start,
        report::Trigger::Profile => wire::Trigger::Profile,
        report::Trigger::Drift => wire::Trigger::Drift,
        report::Trigger::Resync => wire::Trigger::Resync,
        report::Trigger::Retry => wire::Trigger::Retry,
        report::Trigger::Request => wire::Trigger::Request,
        report::Trigger::Workload => wire::Trigger::Workload,
    }
}

pub(super) fn to_refusal(refusal: &plan::Refusal) -> wire::Refusal {
    let cause = match refusal.cause {
        plan::Cause::Absent => wire::Cause::Absent,
        plan::Cause::ReadOnly => wire::Cause::ReadOnly,
        plan::Cause::NotPermitted => wire::Cause::NotPermitted,
        plan::Cause::InvalidValue => wire::Cause::InvalidValue,
        plan::Cause::Policy => wire::Cause::Policy,
        plan::Cause::OwnedByOther => wire::Cause::OwnedByOther,
        plan::Cause::ChangedByOther => wire::Cause::ChangedByOther,
        plan::Cause::Insufficient => wire::Cause::Insufficient,
        plan::Cause::Topology => wire::Cause::Topology,
        plan::Cause::Unsupported => wire::Cause::Unsupported,
    };
    wire::Refusal {
        object: refusal.object.clone(),
        wish: refusal.wish.clone(),
        cause: cause.into(),
        detail: refusal.detail.clone(),
    }
}

pub(super) fn to_finding(finding: &plan::Finding) -> wire::Finding {
    let severity = match finding.severity {
        plan::Severity::Info => wire::Severity::Info,
        plan::Severity::Warning => wire::Severity::Warning,
        plan::Severity::Error => wire::Severity::Error,
    };
    wire::Finding {
        severity: severity.into(),
        code: finding.code.to_owned(),
        object: finding.object.clone(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn to_fight(fight: &report::Fight) -> wire::Fight {
    wire::Fight {
        object: fight.object.clone(),
        rewrites: fight.rewrites,
        likely_writer: fight.likely_writer.clone(),
        held_until: Some(fight.held_until.into()),
    }
}

pub(super) fn to_object(object: &report::ObjectReport) -> wire::Object {
    wire::Object {
        object: object.object.clone(),
        desired: object.desired.clone(),
        observed: object.observed.clone(),
        attributes: object
            .attributes
            .iter()
            .map(|(name, value)| wire::Attribute { name: (*name).to_owned(), value: value.clone() })
            .collect(),
    }
}
