//! `trimtab.node.v1alpha1.NodeState`: the report and the placements as messages.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use trimtab_domain::plan;
use trimtab_domain::workload;
use trimtab_proto::node::v1alpha1 as wire;
use trimtab_proto::node::v1alpha1::node_state_server::NodeState;

mod topology;

use super::Sources;
use crate::picture::Topology;
use crate::reconcile::node_view::{self, NodeView};
use crate::reconcile::report::{self, NodeReport, SubsystemReport};

/// The service.
#[derive(Debug)]
pub(crate) struct NodeStateAnswers {
    report: watch::Receiver<Arc<NodeReport>>,
    view: watch::Receiver<Arc<NodeView>>,
}

impl NodeStateAnswers {
    pub(crate) fn new(sources: &Sources) -> Self {
        Self { report: sources.report.clone(), view: sources.view.clone() }
    }
}

#[tonic::async_trait]
impl NodeState for NodeStateAnswers {
    async fn get_report(
        &self,
        _request: Request<wire::GetReportRequest>,
    ) -> Result<Response<wire::GetReportResponse>, Status> {
        let report = Arc::clone(&self.report.borrow());
        Ok(Response::new(wire::GetReportResponse { report: Some(to_report(&report)) }))
    }

    async fn list_placements(
        &self,
        _request: Request<wire::ListPlacementsRequest>,
    ) -> Result<Response<wire::ListPlacementsResponse>, Status> {
        let view = Arc::clone(&self.view.borrow());
        Ok(Response::new(to_placements(&view)))
    }

    async fn get_topology(
        &self,
        _request: Request<wire::GetTopologyRequest>,
    ) -> Result<Response<wire::GetTopologyResponse>, Status> {
        let (view, node) = (Arc::clone(&self.view.borrow()), self.report.borrow().node.clone());
        let topology = topology::to_wire(&Topology::new(&node, &view));
        Ok(Response::new(wire::GetTopologyResponse { topology: Some(topology) }))
    }
}

fn to_report(report: &NodeReport) -> wire::NodeReport {
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
        subsystems: report.subsystems.iter().map(|subsystem| to_subsystem(subsystem)).collect(),
        findings: report.findings.iter().map(to_finding).collect(),
    }
}

fn to_subsystem(subsystem: &SubsystemReport) -> wire::Subsystem {
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
        steps: subsystem
            .steps
            .iter()
            .map(|step| wire::Step { step: step.step.clone(), error: step.error.clone() })
            .collect(),
        refusals: subsystem.refusals.iter().map(to_refusal).collect(),
        findings: subsystem.findings.iter().map(to_finding).collect(),
        fights: subsystem.fights.iter().map(to_fight).collect(),
        objects: subsystem.objects.iter().map(to_object).collect(),
        last_error: subsystem.last_error.clone(),
        totals: Some(wire::Totals {
            passes: subsystem.totals.passes,
            failed_passes: subsystem.totals.failed_passes,
            steps_done: subsystem.totals.steps_done,
            steps_failed: subsystem.totals.steps_failed,
            drift_found: subsystem.totals.drift_found,
        }),
    }
}

const fn to_state(state: report::State) -> wire::State {
    match state {
        report::State::Pending => wire::State::Pending,
        report::State::Converged => wire::State::Converged,
        report::State::Failing => wire::State::Failing,
        report::State::Fighting => wire::State::Fighting,
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

fn to_refusal(refusal: &plan::Refusal) -> wire::Refusal {
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

fn to_finding(finding: &plan::Finding) -> wire::Finding {
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

fn to_object(object: &report::ObjectReport) -> wire::Object {
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

fn to_placements(view: &NodeView) -> wire::ListPlacementsResponse {
    wire::ListPlacementsResponse {
        pods: view.pods.iter().map(to_pod).collect(),
        allocatable_cpus: view.allocatable_cpus.clone(),
        allocatable_memory: view.allocatable_memory.iter().map(to_block).collect(),
        shared_cpus: view.shared_cpus.clone(),
        reserved_cpus: view.reserved_cpus.clone(),
        observe_only: view.observe_only.clone(),
        late_at_start: Some(to_lateness(&view.late_pins.at_start)),
        late_later: Some(to_lateness(&view.late_pins.later)),
    }
}

fn to_lateness(lateness: &node_view::Lateness) -> wire::Lateness {
    // The agent has not run for so long that a duration would not fit.
    let to_wire = |duration: std::time::Duration| duration.try_into().ok();
    wire::Lateness {
        count: lateness.count,
        last: lateness.last.and_then(to_wire),
        longest: lateness.longest.and_then(to_wire),
    }
}

fn to_pod(pod: &node_view::PodView) -> wire::Pod {
    let qos = match pod.qos {
        workload::QosClass::Guaranteed => wire::QosClass::Guaranteed,
        workload::QosClass::Burstable => wire::QosClass::Burstable,
        workload::QosClass::BestEffort => wire::QosClass::BestEffort,
    };
    wire::Pod {
        uid: pod.uid.to_string(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        qos: qos.into(),
        containers: pod.containers.iter().map(to_container).collect(),
    }
}

fn to_container(container: &node_view::ContainerView) -> wire::Container {
    wire::Container {
        name: container.name.clone(),
        id: container.id.to_string(),
        exclusive_cpus: container.exclusive_cpus.clone(),
        memory: container.memory.iter().map(to_block).collect(),
        effective_cpus: container.effective_cpus.clone(),
        effective_mems: container.effective_mems.clone(),
        mispinned: container.mispinned.clone(),
    }
}

fn to_block(block: &node_view::MemoryBlock) -> wire::MemoryBlock {
    wire::MemoryBlock {
        memory_type: block.memory_type.clone(),
        size_bytes: block.size_bytes,
        numa_nodes: block.numa_nodes.clone(),
    }
}
