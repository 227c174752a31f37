//! Messages of the protocol as the domain has them, and back.

use std::collections::BTreeMap;

use trimtab_domain::cgroup::tree::hugepage_resource;
use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::workload::{ContainerId, PodUid};
use trimtab_proto::runtime::v1 as cri;

use crate::ports::runtime::ResourceChange;

/// A sandbox as a plain list tells of it.
pub(super) type ListedSandbox = Sandbox;
/// A container as a plain list tells of it.
pub(super) type Listed = SandboxContainer;

/// Labels that the kubelet sets on sandboxes and containers.
const POD_UID: &str = "io.kubernetes.pod.uid";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// A listed sandbox. Where the metadata is missing, the kubelet's labels say the same.
pub(super) fn sandbox(told: cri::PodSandbox) -> ListedSandbox {
    let ready = told.state() == cri::PodSandboxState::SandboxReady;
    let metadata = told.metadata.unwrap_or_default();
    let or_label = |text: String, label: &str| or_label(text, &told.labels, label);
    Sandbox {
        id: SandboxId(told.id),
        uid: PodUid(or_label(metadata.uid, POD_UID)),
        namespace: or_label(metadata.namespace, POD_NAMESPACE),
        name: or_label(metadata.name, POD_NAME),
        labels: told.labels.into_iter().collect(),
        annotations: told.annotations.into_iter().collect(),
        runtime_handler: told.runtime_handler,
        cgroup_parent: String::new(),
        ready,
        created_at_ns: told.created_at,
        pod_resources: None,
    }
}

/// A listed container.
pub(super) fn container(told: cri::Container) -> Listed {
    let state = match told.state() {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running,
        cri::ContainerState::ContainerExited => ContainerState::Exited,
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let name = told.metadata.unwrap_or_default().name;
    SandboxContainer {
        id: ContainerId(told.id),
        sandbox: SandboxId(told.pod_sandbox_id),
        name: or_label(name, &told.labels, CONTAINER_NAME),
        state,
        created_at_ns: told.created_at,
        pid: None,
        cgroups_path: String::new(),
        labels: told.labels.into_iter().collect(),
        annotations: told.annotations.into_iter().collect(),
        resources: None,
    }
}

fn or_label(text: String, labels: &std::collections::HashMap<String, String>, label: &str) -> String {
    if text.is_empty() { labels.get(label).cloned().unwrap_or_default() } else { text }
}

/// Resources as a container's status tells them: zero and empty mean that nothing is said.
pub(super) fn resources(told: &cri::LinuxContainerResources) -> ToldResources {
    let unsigned = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let pages = told.hugepage_limits.iter();
    ToldResources {
        cpu_shares: unsigned(told.cpu_shares),
        cpu_quota_us: Some(told.cpu_quota),
        made_with_quota_us: None,
        cpu_period_us: unsigned(told.cpu_period),
        memory_limit_bytes: Some(told.memory_limit_in_bytes),
        hugepage_limits: pages
            .filter_map(|pages| Some((hugepage_resource(&pages.page_size)?, pages.limit)))
            .collect::<BTreeMap<_, _>>(),
        cpus: told.cpuset_cpus.clone(),
        mems: told.cpuset_mems.clone(),
        oom_score_adj: (told.oom_score_adj != 0).then_some(told.oom_score_adj),
    }
}

/// A change, with nothing in it that is not to change.
pub(super) fn change(change: &ResourceChange) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpuset_cpus: change.cpus.as_ref().map(ToString::to_string).unwrap_or_default(),
        cpuset_mems: change.mems.as_ref().map(ToString::to_string).unwrap_or_default(),
        cpu_quota: change.cpu_quota_us.unwrap_or_default(),
        cpu_period: change.cpu_period_us.and_then(|period| i64::try_from(period).ok()).unwrap_or_default(),
        ..cri::LinuxContainerResources::default()
    }
}
