//! Adopts what runs, then admits the rest in order of creation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::{Rejection, ResourceManagers, admit};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{Container, ContainerKind, Pod, QosClass, ResourceName, Resources};

use super::{Decision, Rule};
use crate::subsystems::pinning::facts::{self, CPUS, MEMS, Observed};
use crate::subsystems::pinning::placement_record::{self, Holding};

/// A Guaranteed pod with the cgroups of its containers.
struct Candidate<'a> {
    cgroup: &'a PodCgroup,
    pod: Arc<Pod>,
    containers: Vec<&'a ContainerCgroup>,
}

/// The work on one decision.
pub(super) struct Placing<'a> {
    observed: &'a Observed,
    pod_scope: bool,
    managers: ResourceManagers,
    /// CPUs adopted so far. The managers let containers of one pod share CPUs, for init containers; but these all run.
    taken: CpuSet,
    decision: Decision,
}

impl<'a> Placing<'a> {
    pub(super) fn new(
        spec: &ResourceManagersSpec,
        observed: &'a Observed,
        managers: ResourceManagers,
        decision: Decision,
    ) -> Self {
        let pod_scope = spec.topology_manager_scope == "pod";
        Self { observed, pod_scope, managers, taken: CpuSet::new(), decision }
    }

    pub(super) fn place(mut self) -> Decision {
        let pods = self.pods();
        self.adopt(&pods);
        self.admit(&pods);
        self.finish(&pods)
    }

    /// Guaranteed pods in order of creation. Containers are known by their id: names may be learnt later.
    fn pods(&mut self) -> Vec<Candidate<'a>> {
        let observed = self.observed;
        let guaranteed = observed.pods_by_age().into_iter().filter(|pod| pod.qos == QosClass::Guaranteed);
        guaranteed
            .map(|cgroup| {
                let containers: Vec<_> = observed.containers(cgroup).collect();
                let known = containers.iter().map(|container| self.container(cgroup, container)).collect();
                let name = observed.names.pods.get(&cgroup.uid);
                let pod = Pod {
                    uid: cgroup.uid.clone(),
                    namespace: name.map(|name| name.namespace.clone()).unwrap_or_default(),
                    name: name.map_or_else(|| cgroup.uid.0.clone(), |name| name.name.clone()),
                    qos: cgroup.qos,
                    containers: known,
                    resources: None,
                    annotations: BTreeMap::new(),
                };
                Candidate { cgroup, pod: Arc::new(pod), containers }
            })
            .collect()
    }

    fn container(&mut self, pod: &PodCgroup, container: &ContainerCgroup) -> Container {
        let resources = container.guaranteed_resources().unwrap_or_else(|| {
            let problem = container.problems.first().cloned().unwrap_or_else(|| {
                "its cgroup has a share of CPU time and no quota, and a share alone is ambiguous".into()
            });
            self.decision.findings.push(Finding {
                severity: Severity::Warning,
                code: "pinning-request-unknown",
                object: self.observed.display_name(pod, container),
                message: format!("the CPU request cannot be told exactly: {problem}; the container keeps what it has"),
                remedy: "keep cpuCFSQuota on in the kubelet's configuration, so that limits are visible".into(),
            });
            Resources::default()
        });
        Container { name: container.id.0.clone(), kind: ContainerKind::App, resources }
    }

    /// Records what runs already: first what the ledger knows, then what merely looks like a placement.
    fn adopt(&mut self, pods: &[Candidate<'_>]) {
        let known: BTreeMap<&str, Holding> = self.observed.records.values().filter_map(Holding::from_record).collect();
        let usable = self.observed.usable_cpus();
        let mems = self.observed.usable_mems();
        let mut by_shape = Vec::new();
        for candidate in pods {
            for (cgroup, container) in candidate.containers.iter().zip(&candidate.pod.containers) {
                let path = cgroup.cpuset.path.as_str();
                match known.get(path) {
                    Some(holding) => self.adopt_one(candidate, cgroup, container, holding),
                    // What the agent itself has narrowed is the shared pool, however many CPUs that has.
                    None if self.observed.records.contains_key(&facts::file_object(path, CPUS)) => {}
                    None => by_shape.push((candidate, *cgroup, container)),
                }
            }
        }
        for (candidate, cgroup, container) in by_shape {
            let narrow = |file, all: &CpuSet| {
                facts::configured_set(&cgroup.cpuset, file).filter(|set| !set.is_empty() && set != all)
            };
            let holding =
                Holding { cpus: narrow(CPUS, &usable), nodes: narrow(MEMS, &mems).map(|nodes| nodes.iter().collect()) };
            self.adopt_one(candidate, cgroup, container, &holding);
        }
    }

    /// Adopts a holding as far as it is what the container would get now: as many CPUs as it asks for. One whose request
    /// cannot be told at the moment keeps what the ledger knows.
    fn adopt_one(
        &mut self,
        candidate: &Candidate<'_>,
        cgroup: &ContainerCgroup,
        container: &Container,
        holding: &Holding,
    ) {
        let wanted = container.resources.cpu_request().whole().filter(|count| *count > 0);
        let unknown = cgroup.guaranteed_resources().is_none() && self.is_recorded(cgroup);
        let cpus = holding.cpus.clone().filter(|cpus| unknown || Some(cpus.len()) == wanted).unwrap_or_default();
        let known = self.managers.machine().node_mask();
        let nodes = holding.nodes.filter(|nodes| known.is_superset(*nodes));
        let nodes = nodes.filter(|_| self.decision.mems == Rule::Enforce && wants_memory(container));
        if self.decision.cpus != Rule::Enforce && nodes.is_none() || cpus.is_empty() && nodes.is_none() {
            return;
        }
        let adopted = if cpus.is_disjoint(&self.taken) {
            self.managers.adopt(&candidate.pod, &container.name, &cpus, nodes).map_err(|conflict| conflict.to_string())
        } else {
            Err(format!("CPUs {} belong to another container", cpus.intersection(&self.taken)))
        };
        match adopted {
            Ok(()) => self.taken.insert_all(&cpus),
            Err(conflict) => self.decision.findings.push(Finding {
                severity: Severity::Warning,
                code: "pinning-not-adopted",
                object: self.observed.display_name(candidate.cgroup, cgroup),
                message: format!("it cannot keep what it runs on: {conflict}"),
                remedy: "nothing need be done: it is placed anew".into(),
            }),
        }
    }

    fn is_recorded(&self, cgroup: &ContainerCgroup) -> bool {
        self.observed.records.contains_key(&placement_record::object(&cgroup.cpuset.path))
    }

    /// Admits every pod that lacks something, in order of creation.
    fn admit(&mut self, pods: &[Candidate<'_>]) {
        for candidate in pods {
            let lacking: Vec<usize> = self.lacking(candidate);
            if lacking.is_empty() {
                continue;
            }
            match admit(&self.managers, &candidate.pod) {
                Ok(managers) => self.managers = managers,
                Err(rejection) if self.pod_scope || lacking.len() == 1 => {
                    self.refuse(candidate, &lacking, &rejection);
                }
                // The kubelet refuses a pod as a whole; this one runs, so each container that fits is helped.
                Err(_) => self.admit_one_by_one(candidate, &lacking),
            }
        }
    }

    fn admit_one_by_one(&mut self, candidate: &Candidate<'_>, lacking: &[usize]) {
        let mut left_out: BTreeSet<usize> = lacking.iter().copied().collect();
        for index in lacking {
            left_out.remove(index);
            let keep = |(at, container): (usize, &Container)| (!left_out.contains(&at)).then(|| container.clone());
            let containers = candidate.pod.containers.iter().enumerate().filter_map(keep).collect();
            let pod = Arc::new(Pod { containers, ..(*candidate.pod).clone() });
            match admit(&self.managers, &pod) {
                Ok(managers) => self.managers = managers,
                Err(rejection) => {
                    left_out.insert(*index);
                    self.refuse(candidate, &[*index], &rejection);
                }
            }
        }
    }

    /// Containers that ask for exclusive CPUs or bound memory and have none.
    fn lacking(&self, candidate: &Candidate<'_>) -> Vec<usize> {
        let uid = &candidate.pod.uid;
        let lacks = |container: &Container| {
            let cpus =
                self.decision.cpus == Rule::Enforce && container.resources.cpu_request().whole().is_some_and(|n| n > 0);
            let mems = self.decision.mems == Rule::Enforce && wants_memory(container);
            cpus && self.managers.cpus_of(uid, &container.name).is_none()
                || mems && self.managers.memory_nodes_of(uid, &container.name).is_none()
        };
        let containers = candidate.pod.containers.iter().enumerate();
        containers.filter(|(_, container)| lacks(container)).map(|(index, _)| index).collect()
    }

    fn refuse(&mut self, candidate: &Candidate<'_>, containers: &[usize], rejection: &Rejection) {
        for (cgroup, container) in containers
            .iter()
            .filter_map(|index| Some((candidate.containers.get(*index)?, candidate.pod.containers.get(*index)?)))
        {
            let cause = match rejection {
                Rejection::Affinity
                | Rejection::PodLevelAffinityInContainerScope
                | Rejection::PodLevelAffinityInPodScope => Cause::Topology,
                Rejection::Allocation(_) | Rejection::Unexpected(_) => Cause::Insufficient,
            };
            let milli = container.resources.cpu_request();
            self.decision.refusals.push(Refusal {
                object: self.observed.display_name(candidate.cgroup, cgroup),
                wish: match milli.whole() {
                    Some(count) if count > 0 => format!("{count} exclusive CPUs"),
                    _ => "memory of its own NUMA nodes".into(),
                },
                cause,
                detail: format!(
                    "{}: {rejection}; it stays on the shared CPUs until it fits (free CPUs, ask for less, or relax the \
                     topology policy)",
                    rejection.reason()
                ),
            });
        }
    }

    fn finish(self, pods: &[Candidate<'_>]) -> Decision {
        let Self { managers, mut decision, .. } = self;
        for candidate in pods {
            for cgroup in &candidate.containers {
                let holding = Holding {
                    cpus: managers.cpus_of(&candidate.pod.uid, &cgroup.id.0).cloned(),
                    nodes: managers.memory_nodes_of(&candidate.pod.uid, &cgroup.id.0),
                };
                if !holding.is_nothing() {
                    decision.holdings.insert(cgroup.cpuset.path.clone(), holding);
                }
            }
        }
        decision.shared = managers.shared_cpus().clone();
        decision.managers = Some(managers);
        decision
    }
}

fn wants_memory(container: &Container) -> bool {
    let memory = |name: &ResourceName| *name == ResourceName::Memory || name.is_hugepages();
    container.resources.requests.keys().any(memory)
}
