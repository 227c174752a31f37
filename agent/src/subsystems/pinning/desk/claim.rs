//! What a runtime tells of a container, in the terms in which the resource managers decide.

use std::sync::Arc;

use trimtab_domain::cgroup::{CpuControl, Quota, Weight, shares_to_milli};
use trimtab_domain::quantity::Quantity;
use trimtab_domain::roster::{Roster, Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::{Container, ContainerKind, Pod, QosClass, ResourceName, Resources};

/// `oom_score_adj` of a container in a Guaranteed pod, and of every container of a node-critical one (kubelet
/// `qos/policy.go`).
const OOM_GUARANTEED: i64 = -997;
/// The same in a `BestEffort` pod.
const OOM_BEST_EFFORT: i64 = 1000;
/// Default period of the CFS quota in microseconds.
const PERIOD_US: u64 = 100_000;
/// Beginnings of the names of runtime handlers whose containers are processes of this kernel in the cgroup that the
/// kubelet names. All others (Kata, gVisor …) hand the specification to a guest.
const PLAIN_HANDLERS: [&str; 4] = ["runc", "crun", "youki", "nvidia"];
/// Name of the part of a pod that is known only by its sum; no container can have it.
const REST: &str = "";

/// True if containers of this handler run behind a kernel of their own, where CPU numbers mean something else.
pub(in crate::subsystems::pinning) fn is_sandboxed(handler: &str) -> bool {
    !handler.is_empty() && !PLAIN_HANDLERS.iter().any(|plain| handler.starts_with(plain))
}

/// The class of a pod: by the cgroup that the kubelet gave it; where that is not told by the container's
/// `oom_score_adj`. In doubt Burstable, which is entitled to nothing.
pub(in crate::subsystems::pinning) fn qos(sandbox: &Sandbox, told: Option<&ToldResources>) -> QosClass {
    let parent = &sandbox.cgroup_parent;
    match (parent.is_empty(), told.and_then(|told| told.oom_score_adj)) {
        (false, _) if parent.contains("besteffort") => QosClass::BestEffort,
        (false, _) if parent.contains("burstable") => QosClass::Burstable,
        (false, _) | (true, Some(OOM_GUARANTEED)) => QosClass::Guaranteed,
        (true, Some(OOM_BEST_EFFORT)) => QosClass::BestEffort,
        (true, _) => QosClass::Burstable,
    }
}

/// What a container asks for; `None` where the CPU request cannot be told exactly.
pub(in crate::subsystems::pinning) fn resources(told: &ToldResources, qos: QosClass) -> Option<Resources> {
    let mut resources = Resources::default();
    let milli = cpu_request_milli(told, qos)?;
    if milli > 0 {
        let request = Quantity::from_milli(i64::try_from(milli).ok()?);
        resources.requests.insert(ResourceName::Cpu, request);
        if qos == QosClass::Guaranteed {
            resources.limits.insert(ResourceName::Cpu, request);
        }
    }
    if qos == QosClass::Guaranteed {
        let memory = told.memory_limit_bytes.filter(|bytes| *bytes > 0);
        let memory = memory.map(|bytes| (ResourceName::Memory, Quantity::from_bytes(bytes)));
        // The kubelet bounds every size by 0 that a container does not ask for.
        let pages = told.hugepage_limits.iter().filter(|(_, bytes)| **bytes > 0);
        let pages = pages.filter_map(|(name, bytes)| {
            Some((ResourceName::from(name.as_str()), Quantity::from_bytes(i64::try_from(*bytes).ok()?)))
        });
        for (name, amount) in memory.into_iter().chain(pages) {
            resources.requests.insert(name.clone(), amount);
            resources.limits.insert(name, amount);
        }
    }
    Some(resources)
}

fn cpu_request_milli(told: &ToldResources, qos: QosClass) -> Option<u64> {
    if qos != QosClass::Guaranteed {
        return told.cpu_shares.map(shares_to_milli);
    }
    let quota = told.cpu_quota_us.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
    let period_us = told.cpu_period_us.filter(|period| *period > 0).unwrap_or(PERIOD_US);
    let control = CpuControl {
        weight: told.cpu_shares.map(Weight::Shares),
        quota: quota.map(|quota| Quota { quota_us: Some(quota), period_us }),
    };
    control.guaranteed_request_milli()
}

/// A container that is about to be made, with the pod around it.
pub(super) struct Newcomer {
    /// The pod with every container known so far, this one last or in its old place.
    pub(super) pod: Arc<Pod>,
    /// The same with what else the pod is going to hold, as far as the kubelet told its sum.
    pub(super) outlook: Option<Pod>,
}

impl Newcomer {
    /// Puts the container into its pod. `known` is the pod as it was admitted before.
    pub(super) fn new(
        roster: &Roster,
        known: Option<&Arc<Pod>>,
        sandbox: &Sandbox,
        (name, told): (&str, &ToldResources),
    ) -> Option<Self> {
        let qos = qos(sandbox, Some(told));
        let mut containers = known.map(|pod| pod.containers.clone()).unwrap_or_default();
        for earlier in roster.containers_of(&sandbox.id) {
            let over = roster.ended_before_next(&earlier.id) || is_over(earlier);
            let kind = if over && earlier.name != name { ContainerKind::Init } else { ContainerKind::App };
            match containers.iter_mut().find(|container| container.name == earlier.name) {
                Some(container) => container.kind = kind,
                None => containers.push(Container {
                    name: earlier.name.clone(),
                    kind,
                    resources: earlier.resources.as_ref().and_then(|told| resources(told, qos)).unwrap_or_default(),
                }),
            }
        }
        let asked = resources(told, qos)?;
        match containers.iter_mut().find(|container| container.name == name) {
            Some(container) => (container.kind, container.resources) = (ContainerKind::App, asked),
            None => {
                containers.push(Container { name: name.to_owned(), kind: ContainerKind::App, resources: asked });
            }
        }
        let pod = Pod {
            uid: sandbox.uid.clone(),
            namespace: sandbox.namespace.clone(),
            name: sandbox.name.clone(),
            qos,
            containers,
            resources: None,
            annotations: sandbox.annotations.clone(),
        };
        let outlook = sandbox.pod_resources.as_ref().and_then(|sum| outlook(&pod, sum));
        Some(Self { pod: Arc::new(pod), outlook })
    }
}

fn is_over(container: &SandboxContainer) -> bool {
    container.state == trimtab_domain::roster::ContainerState::Exited
}

/// The pod with a stand-in for the containers that are still to come: what the kubelet's sum has beyond those known.
fn outlook(pod: &Pod, sum: &ToldResources) -> Option<Pod> {
    let total = resources(sum, pod.qos)?.cpu_request().0;
    let running = pod.containers.iter().filter(|container| container.kind != ContainerKind::Init);
    let known: u64 = running.map(|container| container.resources.cpu_request().0).sum();
    let rest = total.checked_sub(known)? / 1000;
    if rest == 0 || pod.qos != QosClass::Guaranteed {
        return None;
    }
    let mut asked = Resources::default();
    asked.requests.insert(ResourceName::Cpu, Quantity::from_milli(i64::try_from(rest * 1000).ok()?));
    let mut outlook = pod.clone();
    outlook.containers.push(Container { name: REST.to_owned(), kind: ContainerKind::App, resources: asked });
    Some(outlook)
}
