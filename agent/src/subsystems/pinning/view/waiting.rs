//! Containers that do not run and keep what they hold: those that crashed and wait for their restart, and those that are
//! about to be made. The kubelet lists the containers of a pod for as long as the pod is active (its PodResources service,
//! `ActivePods`), and what they hold is taken: whoever leaves them out makes their CPUs look free.

use trimtab_domain::roster::ContainerState;
use trimtab_domain::roster::pod::{KnownContainer, KnownPod};
use trimtab_domain::workload::{ContainerKind, QosClass};

use super::{Holdings, blocks_of, recorded_blocks};
use crate::reconcile::node_view::{ContainerView, MemoryBlock, PodView};

/// Adds them to the pods that run something, and pods in which nothing runs at the moment.
pub(super) fn add(pods: &mut Vec<PodView>, holdings: &Holdings<'_>) {
    let roster = &holdings.observed.desk.roster;
    for known in holdings.observed.joined.pods.iter().filter(|pod| roster.ready_sandbox(&pod.uid).is_some()) {
        match pods.iter_mut().find(|pod| pod.uid == known.uid) {
            Some(pod) => add_to(&mut pod.containers, known, holdings),
            None => {
                let mut containers = Vec::new();
                add_to(&mut containers, known, holdings);
                pods.push(pod_view(known, containers));
            }
        }
    }
}

fn pod_view(known: &KnownPod, containers: Vec<ContainerView>) -> PodView {
    PodView {
        uid: known.uid.clone(),
        name: if known.name.is_empty() { known.uid.0.clone() } else { known.name.clone() },
        namespace: known.namespace.clone(),
        qos: known.qos.value().copied().unwrap_or(QosClass::Burstable),
        containers,
    }
}

fn add_to(containers: &mut Vec<ContainerView>, pod: &KnownPod, holdings: &Holdings<'_>) {
    for container in pod.containers.iter().filter(|container| !is_over(container)) {
        let shown = |other: &ContainerView| other.id == container.id || other.name == container.key();
        if !containers.iter().any(shown) {
            containers.push(container_view(pod, container, holdings));
        }
    }
}

/// True for an init container that has ended: another one has come after it, and it is not started again.
fn is_over(container: &KnownContainer) -> bool {
    container.state == Some(ContainerState::Exited) && container.kind.value() == Some(&ContainerKind::Init)
}

fn container_view(pod: &KnownPod, container: &KnownContainer, holdings: &Holdings<'_>) -> ContainerView {
    let guaranteed = pod.qos.value() == Some(&QosClass::Guaranteed);
    ContainerView {
        name: container.key().to_owned(),
        id: container.id.clone(),
        exclusive_cpus: cpus(pod, container, holdings),
        memory: if guaranteed { memory(pod, container, holdings) } else { Vec::new() },
        effective_cpus: String::new(),
        effective_mems: String::new(),
        mispinned: None,
        waiting: true,
    }
}

fn cpus(pod: &KnownPod, container: &KnownContainer, holdings: &Holdings<'_>) -> Vec<u32> {
    let (recorded, managers) = (&holdings.observed.kubelet_state.cpus, holdings.decision.managers.as_ref());
    let set = if holdings.kubelet_cpus {
        recorded.get(&(pod.uid.clone(), container.key().to_owned()))
    } else {
        managers.and_then(|managers| managers.cpus_of(&pod.uid, container.key()))
    };
    set.map(|set| set.iter().collect()).unwrap_or_default()
}

fn memory(pod: &KnownPod, container: &KnownContainer, holdings: &Holdings<'_>) -> Vec<MemoryBlock> {
    let (recorded, managers) = (&holdings.observed.kubelet_state.memory, holdings.decision.managers.as_ref());
    if holdings.kubelet_mems {
        let blocks = recorded.get(&(pod.uid.clone(), container.key().to_owned()));
        return blocks.map(|blocks| recorded_blocks(blocks)).unwrap_or_default();
    }
    managers.map(|managers| blocks_of(managers, &pod.uid, container.key())).unwrap_or_default()
}
