//! What a runtime tells of a container, in the terms in which the resource managers decide.

use std::sync::Arc;

use trimtab_domain::quantity::Quantity;
use trimtab_domain::roster::qos::class_of_cgroup;
use trimtab_domain::roster::told::Asked;
use trimtab_domain::roster::{Roster, Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::{Container, ContainerKind, Pod, QosClass, ResourceName, Resources};

/// Name of the part of a pod that is known only by its sum; no container can have it.
const REST: &str = "";

/// The class of a pod by the cgroup that the kubelet gave it; in doubt Burstable, which is entitled to nothing.
pub(super) fn qos(sandbox: &Sandbox, cgroups_path: &str) -> QosClass {
    class_of_cgroup(&sandbox.cgroup_parent).or_else(|| class_of_cgroup(cgroups_path)).unwrap_or(QosClass::Burstable)
}

/// What a container asks for; `None` where the CPU request cannot be told exactly.
pub(super) fn resources(told: &ToldResources, qos: QosClass) -> Option<Resources> {
    Asked::of_runtime(told, Some(qos), None).resources()
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
        (container, told): (&SandboxContainer, &ToldResources),
    ) -> Option<Self> {
        let name = container.name.as_str();
        let qos = qos(sandbox, &container.cgroups_path);
        let mut containers = known.map(|pod| pod.containers.clone()).unwrap_or_default();
        let kinds = roster.kinds(&sandbox.id, Some(container));
        for earlier in roster.containers_of(&sandbox.id) {
            let kind = kinds.get(&earlier.id).copied().unwrap_or(ContainerKind::App);
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
            resources: None,
            containers,
            annotations: sandbox.annotations.clone(),
        };
        let whole = sandbox.pod_resources.as_ref().and_then(|sum| resources(sum, qos));
        let pod = pod.with_resources_of_its_own(whole);
        let outlook = sandbox.pod_resources.as_ref().and_then(|sum| outlook(&pod, sum));
        Some(Self { pod: Arc::new(pod), outlook })
    }
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
