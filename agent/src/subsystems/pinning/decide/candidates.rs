//! The pods that may be entitled to something, with everything that is known of their containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use trimtab_domain::cgroup::tree::ContainerCgroup;
use trimtab_domain::cpu::EXCLUSIVE_CPUS;
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::roster::pod::{KnownContainer, KnownPod};
use trimtab_domain::roster::told::Asked;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{Container, ContainerKind, Pod, QosClass, ResourceName, Resources};

use crate::subsystems::pinning::desk::Place;
use crate::subsystems::pinning::facts::Observed;
use crate::subsystems::pinning::placement_record;

/// A pod that may be entitled to something.
pub(super) struct Candidate<'a> {
    pub(super) known: &'a KnownPod,
    /// The containers in the order of `members`; after them those that only the desk remembers.
    pub(super) pod: Arc<Pod>,
    pub(super) members: Vec<Member<'a>>,
}

/// A container of such a pod.
pub(super) struct Member<'a> {
    pub(super) known: &'a KnownContainer,
    /// Its cgroup; absent: it is about to be made, or over and about to be made again.
    pub(super) cgroup: Option<&'a ContainerCgroup>,
}

impl<'a> Candidate<'a> {
    /// The containers, each as it is known and as the managers see it.
    pub(super) fn containers(&self) -> impl Iterator<Item = (&Member<'a>, &Container)> {
        self.members.iter().zip(&self.pod.containers)
    }

    /// Name of a container for people.
    pub(super) fn display_name(&self, member: &Member<'_>) -> String {
        let key = member.known.key();
        let shown = if member.known.name.is_empty() { key.get(..13).unwrap_or(key) } else { key };
        format!("{}/{shown}", self.known.display_name())
    }
}

/// All of them, in order of creation; and what a person should know about them.
pub(super) fn candidates<'a>(
    spec: &ResourceManagersSpec,
    observed: &'a Observed,
) -> (Vec<Candidate<'a>>, Vec<Finding>) {
    let mut findings = Vec::new();
    let pods = observed.tree.iter().flat_map(|tree| &tree.pods);
    let cgroups: BTreeMap<&str, &ContainerCgroup> =
        pods.flat_map(|pod| &pod.containers).map(|container| (container.cpuset.path.as_str(), container)).collect();
    let candidates = observed.joined.pods.iter().filter(|pod| is_candidate(spec, pod)).map(|known| {
        let mut candidate = candidate(known, &cgroups, observed);
        if known.qos.exact() == Some(&QosClass::Guaranteed) {
            findings.extend(candidate.members.iter().filter_map(|member| unknown_request(&candidate, member)));
        }
        if observed.desk.roster.ready_sandbox(&known.uid).is_none() {
            forget_absent(&mut candidate);
        }
        candidate
    });
    (candidates.collect(), findings)
}

fn is_candidate(spec: &ResourceManagersSpec, pod: &KnownPod) -> bool {
    let guaranteed = pod.qos.exact() == Some(&QosClass::Guaranteed);
    let annotated =
        || spec.extensions.pod_annotations && pod.annotations.keys().any(|key| key.starts_with(EXCLUSIVE_CPUS));
    pod.sandboxed.is_none() && (guaranteed || annotated())
}

fn candidate<'a>(
    known: &'a KnownPod,
    cgroups: &BTreeMap<&str, &'a ContainerCgroup>,
    observed: &Observed,
) -> Candidate<'a> {
    let mut members: Vec<Member<'_>> = Vec::new();
    let desk = &observed.desk;
    // A cgroup that a runtime does not name, which announces or names others, is nobody's yet: that of a sandbox on its
    // way, say, whose limits are still the kernel's. One that has been given something is somebody's: a runtime that was
    // restarted under load forgets containers that run.
    let all_are_named = desk.connected || !desk.roster.is_empty();
    let given = |path: &String| observed.records.contains_key(&placement_record::object(path));
    let somebodys = |container: &&KnownContainer| {
        !all_are_named || !container.name.is_empty() || container.cgroup.as_ref().is_some_and(given)
    };
    for container in known.containers.iter().filter(somebodys) {
        let cgroup = container.cgroup.as_deref().and_then(|path| cgroups.get(path).copied());
        // Of several with one name the last one counts, and one that runs counts more: the others are on their way out.
        if cgroup.is_none() && members.iter().any(|other| other.known.key() == container.key()) {
            continue;
        }
        members.retain(|other| other.known.key() != container.key());
        members.push(Member { known: container, cgroup });
    }
    let qos = known.qos.value().copied().unwrap_or(QosClass::Burstable);
    let mut containers: Vec<Container> = members.iter().map(|member| container(member.known)).collect();
    let kept = |place: &&Place| place.pod.uid == known.uid && desk.roster.keeps(&known.uid, &place.container);
    for place in desk.places.iter().filter(kept) {
        if !containers.iter().any(|container| container.name == place.container) {
            containers.extend(place.pod.containers.iter().find(|known| known.name == place.container).cloned());
        }
    }
    let pod = Pod {
        uid: known.uid.clone(),
        namespace: known.namespace.clone(),
        name: if known.name.is_empty() { known.uid.0.clone() } else { known.name.clone() },
        qos,
        containers,
        resources: None,
        annotations: known.annotations.clone(),
    };
    let pod = pod.with_resources_of_its_own(known.asked.as_ref().and_then(Asked::resources));
    Candidate { known, pod: Arc::new(pod), members }
}

fn container(known: &KnownContainer) -> Container {
    Container {
        name: known.key().to_owned(),
        kind: known.kind.value().copied().unwrap_or(ContainerKind::App),
        resources: known.asked.resources().unwrap_or_default(),
    }
}

/// Without a runtime that tells of the pod, who has no cgroup is over.
fn forget_absent(candidate: &mut Candidate<'_>) {
    candidate.members.retain(|member| member.cgroup.is_some());
    let mut pod = Pod::clone(&candidate.pod);
    pod.containers.retain(|container| candidate.members.iter().any(|member| member.known.key() == container.name));
    candidate.pod = Arc::new(pod);
}

fn unknown_request(candidate: &Candidate<'_>, member: &Member<'_>) -> Option<Finding> {
    if member.known.asked.cpu_request.exact().is_some() {
        return None;
    }
    let problem = member
        .cgroup
        .and_then(|cgroup| cgroup.problems.first().cloned())
        .unwrap_or_else(|| "its cgroup has a share of CPU time and no quota, and a share alone is ambiguous".into());
    Some(Finding {
        severity: Severity::Warning,
        code: "pinning-request-unknown",
        object: candidate.display_name(member),
        message: format!("the CPU request cannot be told exactly: {problem}; the container keeps what it has"),
        remedy: "keep cpuCFSQuota on in the kubelet's configuration, so that limits are visible".into(),
    })
}

/// True if memory is asked for, so that it can be bound.
pub(super) fn wants_memory(resources: &Resources) -> bool {
    let memory = |name: &ResourceName| *name == ResourceName::Memory || name.is_hugepages();
    resources.requests.keys().any(memory)
}
