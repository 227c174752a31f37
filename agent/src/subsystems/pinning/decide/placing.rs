//! Adopts what runs, then admits the rest in order of creation.

use std::time::Duration;

use tokio::time::Instant;
use trimtab_domain::cpu::CpuClaim;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::{Rejection, ResourceManagers};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::Container;

use super::candidates::{Candidate, Member, candidates, wants_memory};
use super::held::{HeldNow, Source};
use super::{Decision, Rule, explained, settings};
use crate::subsystems::pinning::desk::tally::Decided;
use crate::subsystems::pinning::facts::Observed;
use crate::subsystems::pinning::placement_record::Holding;

/// The work on one decision.
pub(super) struct Placing<'a> {
    spec: &'a ResourceManagersSpec,
    held: HeldNow<'a>,
    pub(super) managers: ResourceManagers,
    /// CPUs of containers that run, as far as they are adopted. The managers let containers of one pod share CPUs, for
    /// init containers that are over; but these all run.
    taken: CpuSet,
    pub(super) decision: Decision,
    pods: Vec<Candidate<'a>>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(
        spec: &'a ResourceManagersSpec,
        observed: &'a Observed,
        managers: ResourceManagers,
        mut decision: Decision,
    ) -> Self {
        let (pods, findings) = candidates(spec, observed);
        decision.findings.extend(findings);
        decision.findings.extend(observed.joined.findings.iter().cloned());
        Self { spec, held: HeldNow::new(observed), managers, taken: CpuSet::new(), decision, pods }
    }

    pub(super) fn place(mut self) -> Decision {
        let pods = std::mem::take(&mut self.pods);
        if settings::differ(self.decision.settings.as_ref(), self.held.records()) {
            self.change_settings(&pods);
        } else {
            self.adopt(&pods);
        }
        self.admit(&pods);
        self.finish(&pods)
    }

    /// Records what is held already, the better known first.
    fn adopt(&mut self, pods: &[Candidate<'_>]) {
        let mut holdings = Vec::new();
        for candidate in pods {
            for (member, container) in candidate.containers() {
                if let Some((source, holding)) = self.held.of(candidate, member) {
                    holdings.push((source, candidate, Some(member), container, holding));
                }
            }
            for container in candidate.pod.containers.iter().skip(candidate.members.len()) {
                if let Some(holding) = self.held.of_name(&candidate.pod.uid, &container.name) {
                    holdings.push((Source::Kept, candidate, None, container, holding));
                }
            }
        }
        holdings.sort_by_key(|(source, ..)| *source);
        for (_, candidate, member, container, holding) in holdings {
            match member {
                Some(member) if member.cgroup.is_some() => self.adopt_running(candidate, (member, container), &holding),
                _ => self.adopt_absent(candidate, container, &holding),
            }
        }
    }

    /// Keeps a place for a container that does not run. What the machine has no more (CPUs that went offline) is decided
    /// anew when it comes.
    fn adopt_absent(&mut self, candidate: &Candidate<'_>, container: &Container, holding: &Holding) {
        let cpus = holding.cpus.clone().unwrap_or_default();
        let nodes = holding.nodes.filter(|_| self.decision.mems == Rule::Enforce);
        let _ = self.managers.adopt(&candidate.pod, &container.name, &cpus, nodes);
    }

    /// Adopts what a container runs on as far as it is what the container would get now: as many CPUs as it asks for. One
    /// whose request cannot be told at the moment keeps what is known of it, and one that may be resized in place is
    /// resized from what it has.
    fn adopt_running(
        &mut self,
        candidate: &Candidate<'_>,
        (member, container): (&Member<'_>, &Container),
        holding: &Holding,
    ) {
        let Holding { cpus, nodes, .. } = self.usable(candidate, (member, container), holding);
        let cpus = cpus.unwrap_or_default();
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
                object: candidate.display_name(member),
                message: format!("it cannot keep what it runs on: {conflict}"),
                remedy: "nothing need be done: it is placed anew".into(),
            }),
        }
    }

    /// What a container holds, as far as it can be kept.
    pub(super) fn usable_holding(
        &self,
        candidate: &Candidate<'_>,
        member: &Member<'_>,
        container: &Container,
    ) -> Option<Holding> {
        let (_, holding) = self.held.of(candidate, member)?;
        Some(self.usable(candidate, (member, container), &holding))
    }

    fn usable(
        &self,
        candidate: &Candidate<'_>,
        (member, container): (&Member<'_>, &Container),
        holding: &Holding,
    ) -> Holding {
        let wanted = self.claimed(candidate, container);
        let recorded = self.held.is_recorded(candidate, member);
        let unknown = member.known.asked.cpu_request.exact().is_none() && recorded;
        let resizable = self.spec.extensions.resize_in_place && wanted > 0 && recorded;
        let fits = |cpus: &CpuSet| unknown || resizable || cpus.len() == wanted;
        let known = self.managers.machine().node_mask();
        let nodes = holding.nodes.filter(|nodes| known.is_superset(*nodes));
        Holding {
            cpus: holding.cpus.clone().filter(fits).filter(|cpus| !cpus.is_empty()),
            nodes: nodes.filter(|_| self.decision.mems == Rule::Enforce && wants_memory(&container.resources)),
            ..Holding::default()
        }
    }

    /// CPUs that a container may own; 0 also where its annotations are wrong, which the admission tells.
    fn claimed(&self, candidate: &Candidate<'_>, container: &Container) -> usize {
        self.managers.cpu().claim(&candidate.pod, container).map_or(0, CpuClaim::cpus)
    }

    /// Admits every pod that lacks something, in order of creation.
    fn admit(&mut self, pods: &[Candidate<'_>]) {
        let pod_scope = self.spec.topology_manager_scope == "pod";
        for candidate in pods {
            let lacking: Vec<(&Member<'_>, &Container)> =
                candidate.containers().filter(|(member, container)| self.lacks(candidate, member, container)).collect();
            if lacking.is_empty() {
                continue;
            }
            let names: Vec<&str> = lacking.iter().map(|(_, container)| container.name.as_str()).collect();
            let began = Instant::now();
            let placed = self.managers.admit_containers(&candidate.pod, &names, None);
            if placed.is_err() && !pod_scope && lacking.len() > 1 {
                // The kubelet refuses a pod as a whole; this one runs, so each container that fits is helped.
                self.admit_one_by_one(candidate, &lacking);
                continue;
            }
            self.note_decision(candidate, &names, placed.as_ref().copied(), began.elapsed());
            if let Err(rejection) = placed {
                self.refuse(candidate, &lacking, &rejection);
            }
        }
    }

    /// For the counts. A pod that is refused as a whole is refused once.
    fn note_decision(
        &mut self,
        candidate: &Candidate<'_>,
        names: &[&str],
        placed: Result<(), &Rejection>,
        time: Duration,
    ) {
        let told = if placed.is_ok() { names } else { names.get(..1).unwrap_or_default() };
        let decided = told.iter().map(|name| Decided::new(&self.managers, (&candidate.pod, name), placed, time));
        self.decision.decided.extend(decided);
    }

    fn admit_one_by_one(&mut self, candidate: &Candidate<'_>, lacking: &[(&Member<'_>, &Container)]) {
        for one in lacking {
            let began = Instant::now();
            let placed = self.managers.admit_containers(&candidate.pod, &[&one.1.name], None);
            self.note_decision(candidate, &[&one.1.name], placed.as_ref().copied(), began.elapsed());
            if let Err(rejection) = placed {
                self.refuse(candidate, &[*one], &rejection);
            }
        }
    }

    /// True for a container that runs, asks for exclusive CPUs or bound memory, and has not what it asks for.
    fn lacks(&self, candidate: &Candidate<'_>, member: &Member<'_>, container: &Container) -> bool {
        let uid = &candidate.pod.uid;
        let owned = self.managers.cpus_of(uid, &container.name).map(CpuSet::len);
        let cpus = self.decision.cpus == Rule::Enforce
            && match self.managers.cpu().claim(&candidate.pod, container).map(CpuClaim::cpus) {
                Ok(0) => false,
                Ok(count) => owned.is_none_or(|owned| self.spec.extensions.resize_in_place && owned != count),
                Err(_) => true,
            };
        let mems = self.decision.mems == Rule::Enforce
            && wants_memory(&container.resources)
            && self.managers.memory_nodes_of(uid, &container.name).is_none();
        member.cgroup.is_some() && (cpus || mems)
    }

    fn refuse(&mut self, candidate: &Candidate<'_>, containers: &[(&Member<'_>, &Container)], rejection: &Rejection) {
        for (member, container) in containers {
            let milli = container.resources.cpu_request();
            self.decision.refusals.push(Refusal {
                object: candidate.display_name(member),
                wish: match milli.whole() {
                    Some(count) if count > 0 => format!("{count} exclusive CPUs"),
                    _ => "memory of its own NUMA nodes".into(),
                },
                cause: cause_of(rejection),
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
            for (member, container) in candidate.containers() {
                let Some(cgroup) = member.cgroup else { continue };
                let holding = Holding {
                    cpus: managers.cpus_of(&candidate.pod.uid, &container.name).cloned(),
                    nodes: managers.memory_nodes_of(&candidate.pod.uid, &container.name),
                    and_shared: matches!(
                        managers.cpu().claim(&candidate.pod, container),
                        Ok(CpuClaim::Exclusive { and_shared: true, .. })
                    ),
                };
                let told = explained::entitled(&managers, (&candidate.pod, container), &holding);
                decision.explanations.insert(cgroup.cpuset.path.clone(), told);
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

/// The cause of a refusal, as the report has it.
pub(super) const fn cause_of(rejection: &Rejection) -> Cause {
    match rejection {
        Rejection::Affinity | Rejection::PodLevelAffinityInContainerScope | Rejection::PodLevelAffinityInPodScope => {
            Cause::Topology
        }
        Rejection::Allocation(_) | Rejection::Unexpected(_) => Cause::Insufficient,
    }
}
