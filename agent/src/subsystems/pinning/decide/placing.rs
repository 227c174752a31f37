//! Adopts what runs, then admits the rest in order of creation.

use std::collections::BTreeMap;
use std::sync::Arc;

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::{Rejection, ResourceManagers};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{Container, ContainerKind, Pod, PodUid, QosClass, ResourceName, Resources};

use super::{Decision, Rule};
use crate::subsystems::pinning::desk::{Place, claim};
use crate::subsystems::pinning::facts::{self, CPUS, MEMS, Observed};
use crate::subsystems::pinning::placement_record::{self, Holding};

/// A Guaranteed pod with the cgroups of its containers.
struct Candidate<'a> {
    cgroup: &'a PodCgroup,
    /// The containers that have a cgroup, in the order of `containers`; after them those that the desk knows besides:
    /// about to be made, or over and about to be made again.
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

    /// Guaranteed pods in order of creation. A container of which no name is known bears its id.
    fn pods(&mut self) -> Vec<Candidate<'a>> {
        let observed = self.observed;
        let guaranteed = observed.pods_by_age().into_iter().filter(|pod| pod.qos == QosClass::Guaranteed);
        guaranteed
            .map(|cgroup| {
                let containers = youngest_of_each_name(observed, cgroup);
                let mut known: Vec<Container> =
                    containers.iter().map(|container| self.container(cgroup, container)).collect();
                for place in self.absent_places(&cgroup.uid, &known) {
                    known.extend(place.pod.containers.iter().find(|known| known.name == place.container).cloned());
                }
                let name = observed.names.pods.get(&cgroup.uid);
                let pod = Pod {
                    uid: cgroup.uid.clone(),
                    namespace: name.map(|name| name.namespace.clone()).unwrap_or_default(),
                    name: name.map_or_else(|| cgroup.uid.0.clone(), |name| name.name.clone()),
                    qos: cgroup.qos,
                    containers: known,
                    resources: None,
                    annotations: observed
                        .desk
                        .roster
                        .ready_sandbox(&cgroup.uid)
                        .map(|sandbox| sandbox.annotations.clone())
                        .unwrap_or_default(),
                };
                Candidate { cgroup, pod: Arc::new(pod), containers }
            })
            .collect()
    }

    fn container(&mut self, pod: &PodCgroup, container: &ContainerCgroup) -> Container {
        let resources = self.resources(pod, container).unwrap_or_else(|| {
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
        Container { name: self.observed.manager_name(container).to_owned(), kind: ContainerKind::App, resources }
    }

    /// What a container asks for: as the runtime was told, or else as its cgroup shows.
    fn resources(&self, pod: &PodCgroup, container: &ContainerCgroup) -> Option<Resources> {
        let known = self.observed.desk.roster.container(&container.id);
        let told = known.and_then(|known| known.resources.as_ref()).and_then(|told| claim::resources(told, pod.qos));
        told.or_else(|| container.guaranteed_resources())
    }

    /// Places of a pod that the desk keeps for containers without a cgroup, `present` being those that have one.
    fn absent_places(&self, uid: &PodUid, present: &[Container]) -> Vec<&'a Place> {
        let desk = &self.observed.desk;
        let places = desk.places.iter().filter(|place| place.pod.uid == *uid);
        let absent = places.filter(|place| !present.iter().any(|known| known.name == place.container));
        absent.filter(|place| desk.roster.keeps(uid, &place.container)).collect()
    }

    /// Records what the desk has given to containers that are not in the tree: those that are about to be made, and those
    /// that are over and about to be made again.
    fn adopt_absent(&mut self, pods: &[Candidate<'_>]) {
        let desk = &self.observed.desk;
        for place in &desk.places {
            let uid = &place.pod.uid;
            let candidate = pods.iter().find(|candidate| candidate.pod.uid == *uid);
            let present = candidate.map_or(0, |candidate| candidate.containers.len());
            let mut known = candidate.iter().flat_map(|candidate| candidate.pod.containers.iter().take(present));
            if known.any(|known| known.name == place.container) || !desk.roster.keeps(uid, &place.container) {
                continue;
            }
            let pod = candidate.map_or(&place.pod, |candidate| &candidate.pod);
            let cpus = place.cpus.clone().unwrap_or_default();
            // What the machine has no more (CPUs that went offline) is decided anew when the container comes.
            if self.managers.adopt(pod, &place.container, &cpus, place.nodes).is_ok() {
                self.taken.insert_all(&cpus);
            }
        }
    }

    /// Records what runs already: first what the desk has given, then what the ledger knows, then what merely looks like a
    /// placement.
    fn adopt(&mut self, pods: &[Candidate<'_>]) {
        let given: BTreeMap<(&PodUid, &str), Holding> = self
            .observed
            .desk
            .places
            .iter()
            .map(|place| {
                let holding = Holding { cpus: place.cpus.clone(), nodes: place.nodes };
                ((&place.pod.uid, place.container.as_str()), holding)
            })
            .collect();
        let known: BTreeMap<&str, Holding> = self.observed.records.values().filter_map(Holding::from_record).collect();
        let usable = self.observed.usable_cpus();
        let mems = self.observed.usable_mems();
        let (mut by_ledger, mut by_shape) = (Vec::new(), Vec::new());
        for candidate in pods {
            for (cgroup, container) in candidate.containers.iter().zip(&candidate.pod.containers) {
                match given.get(&(&candidate.pod.uid, container.name.as_str())) {
                    Some(holding) => self.adopt_one(candidate, cgroup, container, holding),
                    None => by_ledger.push((candidate, *cgroup, container)),
                }
            }
        }
        self.adopt_absent(pods);
        for (candidate, cgroup, container) in by_ledger {
            {
                let path = cgroup.cpuset.path.as_str();
                match known.get(path) {
                    Some(holding) => self.adopt_one(candidate, cgroup, container, holding),
                    // What the agent itself has narrowed is the shared pool, however many CPUs that has.
                    None if self.observed.records.contains_key(&facts::file_object(path, CPUS)) => {}
                    None => by_shape.push((candidate, cgroup, container)),
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
            let names: Vec<&str> = lacking.iter().filter_map(|at| name_of(candidate, *at)).collect();
            match self.managers.admit_containers(&candidate.pod, &names, None) {
                Ok(()) => {}
                Err(rejection) if self.pod_scope || lacking.len() == 1 => {
                    self.refuse(candidate, &lacking, &rejection);
                }
                // The kubelet refuses a pod as a whole; this one runs, so each container that fits is helped.
                Err(_) => self.admit_one_by_one(candidate, &lacking),
            }
        }
    }

    fn admit_one_by_one(&mut self, candidate: &Candidate<'_>, lacking: &[usize]) {
        for index in lacking {
            let Some(name) = name_of(candidate, *index) else { continue };
            if let Err(rejection) = self.managers.admit_containers(&candidate.pod, &[name], None) {
                self.refuse(candidate, &[*index], &rejection);
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
        let containers = candidate.pod.containers.iter().take(candidate.containers.len()).enumerate();
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
        let Self { managers, mut decision, observed, .. } = self;
        for candidate in pods {
            for cgroup in &candidate.containers {
                let name = observed.manager_name(cgroup);
                let holding = Holding {
                    cpus: managers.cpus_of(&candidate.pod.uid, name).cloned(),
                    nodes: managers.memory_nodes_of(&candidate.pod.uid, name),
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

/// Containers of a pod; of several with one name the one that was made last: the others are on their way out.
fn youngest_of_each_name<'a>(observed: &'a Observed, pod: &'a PodCgroup) -> Vec<&'a ContainerCgroup> {
    let mut youngest: Vec<&ContainerCgroup> = Vec::new();
    for container in observed.containers(pod) {
        let name = observed.manager_name(container);
        youngest.retain(|older| observed.manager_name(older) != name);
        youngest.push(container);
    }
    youngest
}

fn name_of<'c>(candidate: &'c Candidate<'_>, index: usize) -> Option<&'c str> {
    candidate.pod.containers.get(index).map(|container| container.name.as_str())
}

fn wants_memory(container: &Container) -> bool {
    let memory = |name: &ResourceName| *name == ResourceName::Memory || name.is_hugepages();
    container.resources.requests.keys().any(memory)
}
