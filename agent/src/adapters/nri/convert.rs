//! Messages of the protocol to what the domain knows, and answers back.

use trimtab_domain::cgroup::tree::hugepage_resource;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::workload::{ContainerId, PodUid};
use trimtab_proto::nri::v1alpha1 as nri;

use crate::ports::admission::{CpusetUpdate, Created};

/// CFS quota without a bound.
const NO_QUOTA: i64 = -1;

/// What cannot be said over NRI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsayable {
    /// Empty means "leave alone" to every runtime, so the container would keep what it has.
    #[error("container {0} is to get no CPUs or no memory nodes at all, which NRI cannot say")]
    EmptySet(String),
    /// The runtime refuses the whole answer.
    #[error("container {0} is to be changed by the answer that creates it")]
    UpdateOfTheCreated(String),
}

/// A sandbox; `ready` is not in the protocol.
pub(super) fn sandbox(pod: nri::PodSandbox, ready: bool) -> Sandbox {
    let linux = pod.linux.unwrap_or_default();
    Sandbox {
        id: SandboxId(pod.id),
        uid: PodUid(pod.uid),
        namespace: pod.namespace,
        name: pod.name,
        labels: pod.labels.into_iter().collect(),
        annotations: pod.annotations.into_iter().collect(),
        runtime_handler: pod.runtime_handler,
        cgroup_parent: linux.cgroup_parent,
        ready,
        created_at_ns: 0,
        pod_resources: linux.pod_resources.map(resources),
    }
}

/// A container.
pub(super) fn container(container: nri::Container) -> SandboxContainer {
    let state = match container.state() {
        nri::ContainerState::Created => ContainerState::Created,
        nri::ContainerState::Paused | nri::ContainerState::Running => ContainerState::Running,
        nri::ContainerState::Stopped => ContainerState::Exited,
        nri::ContainerState::Unknown => ContainerState::Unknown,
    };
    let mut cgroups_path = String::new();
    let mut told = None;
    if let Some(linux) = container.linux {
        cgroups_path = linux.cgroups_path;
        let mut all = linux.resources.map(resources).unwrap_or_default();
        all.oom_score_adj = linux.oom_score_adj.map(|score| score.value);
        told = Some(all);
    }
    SandboxContainer {
        id: ContainerId(container.id),
        sandbox: SandboxId(container.pod_sandbox_id),
        name: container.name,
        state,
        created_at_ns: container.created_at,
        pid: (container.pid != 0).then_some(container.pid),
        cgroups_path,
        labels: container.labels.into_iter().collect(),
        annotations: container.annotations.into_iter().collect(),
        resources: told,
    }
}

/// Resources; sizes of huge pages that have no resource name are left out.
pub(super) fn resources(told: nri::LinuxResources) -> ToldResources {
    let cpu = told.cpu.unwrap_or_default();
    ToldResources {
        cpu_shares: cpu.shares.map(|shares| shares.value),
        cpu_quota_us: cpu.quota.map(|quota| quota.value),
        made_with_quota_us: None,
        cpu_period_us: cpu.period.map(|period| period.value),
        memory_limit_bytes: told.memory.and_then(|memory| memory.limit).map(|limit| limit.value),
        hugepage_limits: told
            .hugepage_limits
            .into_iter()
            .filter_map(|limit| Some((hugepage_resource(&limit.page_size)?, limit.limit)))
            .collect(),
        cpus: cpu.cpus,
        mems: cpu.mems,
        oom_score_adj: None,
    }
}

/// The answer to the creation of a container.
///
/// # Errors
/// [`Unsayable`]: nothing may be sent then.
pub(super) fn created(id: &ContainerId, created: Created) -> Result<nri::CreateContainerResponse, Unsayable> {
    if created.updates.iter().any(|update| update.id == *id) {
        return Err(Unsayable::UpdateOfTheCreated(id.0.clone()));
    }
    let own = linux_resources(id, created.cpus.as_ref(), created.mems.as_ref(), created.lift_quota)?;
    let adjust =
        own.map(|own| nri::ContainerAdjustment { linux: Some(nri::LinuxContainerAdjustment { resources: Some(own) }) });
    Ok(nri::CreateContainerResponse { adjust, update: updates(created.updates, Failures::EndTheRequest)? })
}

/// What a runtime does if a container cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    /// The request that brought the change fails: exclusive CPUs may not be given out while others keep them.
    EndTheRequest,
    /// Nothing: the next look at the node finds it.
    AreIgnored,
}

/// Changes of containers, the last one for each container; those that change nothing are left out.
///
/// # Errors
/// [`Unsayable`]: nothing may be sent then.
pub(super) fn updates(updates: Vec<CpusetUpdate>, failures: Failures) -> Result<Vec<nri::ContainerUpdate>, Unsayable> {
    let mut sent: Vec<nri::ContainerUpdate> = Vec::with_capacity(updates.len());
    let mut places = std::collections::BTreeMap::new();
    for update in updates {
        let Some(own) = linux_resources(&update.id, update.cpus.as_ref(), update.mems.as_ref(), update.lift_quota)?
        else {
            continue;
        };
        let message = nri::ContainerUpdate {
            container_id: update.id.0.clone(),
            linux: Some(nri::LinuxContainerUpdate { resources: Some(own) }),
            ignore_failure: failures == Failures::AreIgnored,
        };
        // A container that is named twice is a conflict to the runtime.
        match places.get(&update.id).and_then(|place: &usize| sent.get_mut(*place)) {
            Some(earlier) => *earlier = message,
            None => {
                places.insert(update.id, sent.len());
                sent.push(message);
            }
        }
    }
    Ok(sent)
}

/// `None` if there is nothing to say.
fn linux_resources(
    id: &ContainerId,
    cpus: Option<&CpuSet>,
    mems: Option<&CpuSet>,
    lift_quota: bool,
) -> Result<Option<nri::LinuxResources>, Unsayable> {
    let list = |set: Option<&CpuSet>| match set {
        Some(set) if set.is_empty() => Err(Unsayable::EmptySet(id.0.clone())),
        set => Ok(set.map(ToString::to_string).unwrap_or_default()),
    };
    let cpu = nri::LinuxCpu {
        cpus: list(cpus)?,
        mems: list(mems)?,
        quota: lift_quota.then_some(nri::OptionalInt64 { value: NO_QUOTA }),
        ..nri::LinuxCpu::default()
    };
    let says_nothing = cpu == nri::LinuxCpu::default();
    Ok((!says_nothing).then(|| nri::LinuxResources { cpu: Some(cpu), ..nri::LinuxResources::default() }))
}

#[cfg(test)]
mod tests;
