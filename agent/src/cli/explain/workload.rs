//! What a container has, and why.

use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::node::v1alpha1 as wire;

use super::{Explanation, Facts, Snapshot};
use crate::picture::Size;

/// Shortest beginning of a uid or an id that is looked for.
const SHORTEST_ID: usize = 6;

/// All containers under their whole names.
pub(super) fn containers(snapshot: &Snapshot) -> impl Iterator<Item = (String, &wire::Container)> {
    members(snapshot).map(|(pod, container)| (name(pod, container), container))
}

fn members(snapshot: &Snapshot) -> impl Iterator<Item = (&wire::Pod, &wire::Container)> {
    let pods = snapshot.placements.pods.iter();
    pods.flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
}

fn name(pod: &wire::Pod, container: &wire::Container) -> String {
    [pod.namespace.as_str(), &pod.name, &container.name].join("/")
}

/// The containers that a word means.
pub(super) fn named(what: &str, snapshot: &Snapshot) -> Vec<Explanation> {
    let found = members(snapshot).filter(|(pod, container)| means(what, pod, container));
    found.map(|(pod, container)| explained(pod, container, snapshot)).collect()
}

fn means(what: &str, pod: &wire::Pod, container: &wire::Container) -> bool {
    let names = [
        pod.name.clone(),
        container.name.clone(),
        format!("{}/{}", pod.namespace, pod.name),
        format!("{}/{}", pod.name, container.name),
        name(pod, container),
    ];
    // Runtimes write `containerd://ID`.
    let id = what.rsplit_once("://").map_or(what, |(_, id)| id);
    let begins = id.len() >= SHORTEST_ID && [&pod.uid, &container.id].iter().any(|whole| whole.starts_with(id));
    names.iter().any(|name| name == what) || begins
}

fn explained(pod: &wire::Pod, container: &wire::Container, snapshot: &Snapshot) -> Explanation {
    let mut facts = Facts::default();
    let qos = match pod.qos() {
        wire::QosClass::Guaranteed => "Guaranteed",
        wire::QosClass::Burstable => "Burstable",
        wire::QosClass::BestEffort => "BestEffort",
        wire::QosClass::Unspecified => "",
    };
    facts.add("QoS class", qos);
    why(container, &mut facts);
    facts.add("runs on CPUs", container.effective_cpus.clone());
    facts.add("memory from NUMA nodes", container.effective_mems.clone());
    for block in &container.memory {
        let nodes: CpuSet = block.numa_nodes.iter().copied().collect();
        facts.add("holds", format!("{} {} @ NUMA node {nodes}", block.memory_type, Size(block.size_bytes)));
    }
    let own: CpuSet = container.exclusive_cpus.iter().copied().collect();
    let mut answer = match (own.is_empty(), container.waiting) {
        (true, false) => format!("it runs in the shared pool, on CPUs {}", container.effective_cpus),
        (false, false) => format!("CPUs {own} are its own"),
        (true, true) => "it does not run at the moment, and has no CPUs of its own".to_owned(),
        (false, true) => format!("it does not run at the moment; CPUs {own} are kept for its next start"),
    };
    if let Some(reason) = &container.mispinned {
        answer.push_str("; it does not run as ordered");
        facts.add("mispinned", reason.clone());
    }
    facts.add_some("observed only", snapshot.placements.observe_only.clone());
    let name = name(pod, container);
    let refusals = snapshot.report.subsystems.iter().flat_map(|subsystem| &subsystem.refusals);
    for refusal in refusals.filter(|refusal| refusal.object == name) {
        facts.add("refused", format!("{} ({}): {}", refusal.wish, super::cause(refusal), refusal.detail));
    }
    facts.add("pod uid", pod.uid.clone());
    facts.add("container id", container.id.clone());
    facts.add_changes(snapshot, &name);
    Explanation { kind: "container".to_owned(), subject: name, answer, facts: facts.0 }
}

/// The facts of the decision.
pub(super) fn why(container: &wire::Container, facts: &mut Facts) {
    let Some(explanation) = &container.explanation else { return };
    facts.add("why", explanation.rule.clone());
    facts.add("asks for", explanation.request.clone());
    facts.add("policy", explanation.policy.clone());
    facts.add("NUMA alignment", explanation.hint.clone());
    facts.add("written by", explanation.writer.clone());
}
