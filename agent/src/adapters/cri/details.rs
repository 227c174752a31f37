//! What a plain list leaves out: asked once per sandbox and container and kept for as long as they are listed.
//!
//! A verbose answer holds a whole OCI specification, so it costs the runtime some tenths of a millisecond.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::time::Instant;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::roster::{ContainerState, SandboxId, ToldResources};
use trimtab_domain::workload::ContainerId;
use trimtab_proto::runtime::v1::{
    ContainerStatusRequest, ContainerStatusResponse, PodSandboxStatusRequest, PodSandboxStatusResponse,
};

use super::convert::{self, Listed, ListedSandbox};
use super::info::ObjectInfo;
use super::line::{CallError, Line};
use super::lock;
use crate::ports::runtime::ResourceChange;

/// Key of the JSON text in verbose answers.
const INFO: &str = "info";

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Details {
    sandboxes: BTreeMap<SandboxId, SandboxDetail>,
    containers: BTreeMap<ContainerId, ContainerDetail>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct SandboxDetail {
    cgroup_parent: String,
    runtime_type: Option<String>,
    resources: Option<ToldResources>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ContainerDetail {
    /// True if it ran when it was asked for: before, it has no process.
    started: bool,
    pid: Option<u32>,
    cgroups_path: String,
    runtime_type: Option<String>,
    resources: Option<ToldResources>,
}

/// Whom to ask for.
#[derive(Debug, Default)]
pub(super) struct Missing {
    sandboxes: Vec<SandboxId>,
    /// With the knowledge that it runs.
    containers: Vec<(ContainerId, bool)>,
}

impl Details {
    /// What has to be asked for this list. What is not on it is dropped, so that no more is kept than lives.
    pub(super) fn missing(&mut self, sandboxes: &[ListedSandbox], containers: &[Listed]) -> Missing {
        let listed: BTreeSet<&SandboxId> = sandboxes.iter().map(|sandbox| &sandbox.id).collect();
        self.sandboxes.retain(|id, _| listed.contains(id));
        let listed: BTreeSet<&ContainerId> = containers.iter().map(|container| &container.id).collect();
        self.containers.retain(|id, _| listed.contains(id));
        let known = |listed: &Listed| {
            let running = listed.state == ContainerState::Running;
            self.containers.get(&listed.id).is_some_and(|detail| detail.started || !running)
        };
        let unknown = containers.iter().filter(|listed| !known(listed));
        Missing {
            sandboxes: sandboxes
                .iter()
                .filter(|listed| !self.sandboxes.contains_key(&listed.id))
                .map(|listed| listed.id.clone())
                .collect(),
            containers: unknown.map(|listed| (listed.id.clone(), listed.state == ContainerState::Running)).collect(),
        }
    }

    /// Adds what is known to a list, and what the containers tell of the handlers.
    pub(super) fn complete(
        &self,
        mut sandboxes: Vec<ListedSandbox>,
        mut containers: Vec<Listed>,
        handlers: &mut HandlerTypes,
    ) -> (Vec<ListedSandbox>, Vec<Listed>) {
        let handler_of: BTreeMap<SandboxId, String> =
            sandboxes.iter().map(|sandbox| (sandbox.id.clone(), sandbox.runtime_handler.clone())).collect();
        for container in &mut containers {
            let Some(detail) = self.containers.get(&container.id) else { continue };
            container.pid = detail.pid;
            container.cgroups_path.clone_from(&detail.cgroups_path);
            container.resources.clone_from(&detail.resources);
            if let (Some(handler), Some(kind)) = (handler_of.get(&container.sandbox), &detail.runtime_type) {
                handlers.0.entry(handler.clone()).or_insert_with(|| kind.clone());
            }
        }
        for sandbox in &mut sandboxes {
            let Some(detail) = self.sandboxes.get(&sandbox.id) else { continue };
            sandbox.cgroup_parent.clone_from(&detail.cgroup_parent);
            sandbox.pod_resources.clone_from(&detail.resources);
            if let Some(kind) = &detail.runtime_type {
                handlers.0.entry(sandbox.runtime_handler.clone()).or_insert_with(|| kind.clone());
            }
        }
        (sandboxes, containers)
    }

    /// These are asked for anew.
    pub(super) fn forget(&mut self, ids: &[ContainerId]) {
        for id in ids {
            self.containers.remove(id);
        }
    }

    /// The runtime took a change.
    pub(super) fn changed(&mut self, id: &ContainerId, change: &ResourceChange) {
        let resources = self.containers.get_mut(id).and_then(|detail| detail.resources.as_mut());
        if let Some(resources) = resources {
            resources.update(&ToldResources {
                cpus: change.cpus.as_ref().map(ToString::to_string).unwrap_or_default(),
                mems: change.mems.as_ref().map(ToString::to_string).unwrap_or_default(),
                cpu_quota_us: change.cpu_quota_us,
                cpu_period_us: change.cpu_period_us,
                ..ToldResources::default()
            });
        }
    }
}

/// Asks for what is missing, as far as the time goes: containers first, because what they ask for decides. An object that the runtime will not tell of is gone or broken:
/// that is left to the next list.
pub(super) async fn ask(line: &Line, details: &Mutex<Details>, missing: Missing) -> Result<(), CallError> {
    let end = Instant::now() + line.patience.details;
    for (id, running) in missing.containers {
        if Instant::now() >= end {
            return Ok(());
        }
        let request = ContainerStatusRequest { container_id: id.0.clone(), verbose: true };
        let answer =
            line.ask("ContainerStatus", |mut client| async move { client.container_status(request).await }).await;
        if let Some(answer) = unless_refused(answer)? {
            lock(details).containers.insert(id, container_detail(&answer, running));
        }
    }
    for id in missing.sandboxes {
        if Instant::now() >= end {
            return Ok(());
        }
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.0.clone(), verbose: true };
        let answer =
            line.ask("PodSandboxStatus", |mut client| async move { client.pod_sandbox_status(request).await }).await;
        if let Some(answer) = unless_refused(answer)? {
            lock(details).sandboxes.insert(id, sandbox_detail(&answer));
        }
    }
    Ok(())
}

/// When containers that are over have ended, in nanoseconds since the epoch, as far as the time goes.
pub(super) async fn ask_ends(line: &Line, over: Vec<ContainerId>) -> Result<Vec<(ContainerId, i64)>, CallError> {
    let limit = Instant::now() + line.patience.details;
    let mut ends = Vec::new();
    for id in over {
        if Instant::now() >= limit {
            break;
        }
        let request = ContainerStatusRequest { container_id: id.0.clone(), verbose: false };
        let answer =
            line.ask("ContainerStatus", |mut client| async move { client.container_status(request).await }).await;
        let status = unless_refused(answer)?.and_then(|answer| answer.status);
        ends.extend(status.map(|status| (id, status.finished_at)));
    }
    Ok(ends)
}

fn unless_refused<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CallError::Status { .. }) => Ok(None),
        Err(away) => Err(away),
    }
}

fn sandbox_detail(answer: &PodSandboxStatusResponse) -> SandboxDetail {
    let info = answer.info.get(INFO).map(|text| ObjectInfo::parse(text)).unwrap_or_default();
    SandboxDetail {
        cgroup_parent: info.cgroup_parent(),
        resources: info.pod_resources(),
        runtime_type: info.runtime_type.filter(|kind| !kind.is_empty()),
    }
}

/// Resources by the specification; a runtime that shows none (cri-dockerd) tells them in the status alone.
fn container_detail(answer: &ContainerStatusResponse, running: bool) -> ContainerDetail {
    let info = answer.info.get(INFO).map(|text| ObjectInfo::parse(text)).unwrap_or_default();
    let told = answer.status.as_ref().and_then(|status| status.resources.as_ref()?.linux.as_ref());
    ContainerDetail {
        started: running,
        pid: info.process(),
        cgroups_path: info.cgroups_path().to_owned(),
        resources: info.resources().or_else(|| told.map(convert::resources)),
        runtime_type: info.runtime_type.filter(|kind| !kind.is_empty()),
    }
}
