//! Who gets which CPUs and which memory: the settings in force, the managers, the placements.

mod candidates;
mod change;
pub(super) mod explained;
mod held;
mod pinner;
mod placing;
mod reservation;
pub(super) mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trimtab_domain::cpu::CpuExtensions;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::{
    Extensions, ManagersConfig, RejectionReason, ResourceManagers, Restored, StartError, StartStage,
};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_domain::record::Record;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::topology::Machine;

use self::pinner::Pinner;
pub(super) use self::pinner::{kubelet_pins_cpus, kubelet_pins_memory};
use self::placing::Placing;
use super::desk::HeldContainer;
use super::desk::standing::{Rules, Standing};
use super::desk::tally::Decided;
use super::facts::{CPUS, Observed};
use super::placement_record::Holding;
use super::{desk, facts};
use crate::reconcile::node_view::Explained;
use crate::reconcile::node_view::PinnerKind;

/// What the pods should have.
#[derive(Debug, Clone, Default)]
pub(super) struct Decision {
    /// Whether cgroup files are held, given back or left alone.
    pub(super) cpus: Rule,
    /// The same for memory.
    pub(super) mems: Rule,
    /// What containers hold, by path of their cgroup.
    pub(super) holdings: BTreeMap<String, Holding>,
    /// CPUs of all other containers.
    pub(super) shared: CpuSet,
    /// The managers, for allocatable and reserved CPUs.
    pub(super) managers: Option<ResourceManagers>,
    /// Why nothing is written although a policy is set.
    pub(super) observe_only: Option<String>,
    /// Who else pins, by kind.
    pub(super) foreign_pinners: BTreeSet<PinnerKind>,
    /// Why containers that may be entitled to something have what they have, by path of their cgroup.
    pub(super) explanations: BTreeMap<String, Explained>,
    /// The policies in force; empty: nobody decides.
    pub(super) policies: String,
    /// Wishes not granted.
    pub(super) refusals: Vec<Refusal>,
    /// What a person should know.
    pub(super) findings: Vec<Finding>,
    /// The settings that this was decided by, to be remembered with the holdings; absent: nothing is held.
    pub(super) settings: Option<Record>,
    /// Version of the desk that this was decided on.
    pub(super) version: u64,
    /// What was decided about containers that had no place, granted or not.
    pub(super) decided: Vec<Decided>,
}

impl Decision {
    /// CPUs that a container with this holding runs on; `None`: the shared ones.
    pub(super) fn cpus_of(&self, holding: &Holding) -> Option<CpuSet> {
        let own = holding.cpus.as_ref()?;
        Some(if holding.and_shared { own.union(&self.shared) } else { own.clone() })
    }

    /// What the desk answers by from now on.
    pub(super) fn for_desk(&self, spec: Option<&ResourceManagersSpec>, observed: &Observed) -> desk::Findings {
        let enforced = (self.cpus == Rule::Enforce, self.mems == Rule::Enforce);
        let standing = match (&self.managers, enforced) {
            (Some(managers), (true, _) | (_, true)) => Standing::Holding(Box::new(Rules {
                cpus: enforced.0,
                mems: enforced.1,
                lift_quota: spec.is_some_and(ResourceManagersSpec::lifts_cpu_quota),
                managers: managers.clone(),
            })),
            _ => Standing::Silent,
        };
        let pods = observed.tree.iter().flat_map(|tree| &tree.pods);
        let containers = pods.flat_map(|pod| &pod.containers);
        let running_on = containers.filter_map(|container| {
            let set = facts::configured_set(&container.cpuset, CPUS).filter(|set| !set.is_empty());
            Some((container.id.clone(), set.or_else(|| facts::effective(&container.cpuset, CPUS))?))
        });
        desk::Findings { standing, running_on: running_on.collect(), decided: self.decided.clone() }
    }
}

/// What is done with the files of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rule {
    /// Originals are given back.
    #[default]
    GiveBack,
    /// Placements are written.
    Enforce,
    /// Nothing is written: the kubelet owns them, or the managers do not start.
    LeaveAlone,
}

/// Object of what is said about the settings as a whole.
const MANAGERS: &str = "resource managers";

/// Decides for all pods.
pub(super) fn decide(spec: Option<&ResourceManagersSpec>, observed: &Observed) -> Decision {
    let mut decision = Decision { version: observed.desk.version, ..Decision::default() };
    let profile = spec;
    let Some(mut spec) = effective_spec(profile, observed, &mut decision) else { return decision };
    reservation::replace_offline(&mut spec, observed, &mut decision);
    let managers = match start(&spec, observed) {
        Ok(managers) => managers,
        Err(error) => {
            decision.refusals.push(refuse_start(&error));
            (decision.cpus, decision.mems) = (Rule::LeaveAlone, Rule::LeaveAlone);
            return decision;
        }
    };
    decision.refusals.extend(observed.desk.held.iter().map(refuse_held));
    // Those of the profile: whether somebody else pins a half of it is no change of settings.
    decision.settings = profile.map(settings::record);
    decision.policies = explained::policies(&spec);
    Placing::new(&spec, observed, managers, decision).place()
}

/// The settings without the half that the kubelet itself enforces; `None` if nothing is left.
fn effective_spec(
    spec: Option<&ResourceManagersSpec>,
    observed: &Observed,
    decision: &mut Decision,
) -> Option<ResourceManagersSpec> {
    let mut spec = spec?.clone();
    let problems = observed.kubelet_state.problems.iter().chain(&observed.kubelet.problems);
    decision.findings.extend(problems.map(|problem| Finding {
        severity: Severity::Warning,
        code: "kubelet-unclear",
        object: "kubelet".into(),
        message: format!("{problem}; whether the kubelet pins by itself is judged without it"),
        remedy: "correct the file, or let the agent read it".into(),
    }));
    let wants_cpus = !matches!(spec.cpu_manager_policy.as_str(), "" | "none");
    let wants_mems = !matches!(spec.memory_manager_policy.as_str(), "" | "None");
    let mut reasons = Vec::new();
    let kubelet = kubelet_pins_cpus(observed).map(|evidence| Pinner::Kubelet("cpuManagerPolicy: none", evidence));
    let other = observed.desk.foreign.cpus.clone().map(Pinner::Other);
    if let Some(pinner) = kubelet.or(other).filter(|_| wants_cpus) {
        decision.cpus = Rule::LeaveAlone;
        spec.cpu_manager_policy = String::new();
        spec.cpu_manager_policy_options.clear();
        decision.foreign_pinners.insert(pinner.kind());
        decision.findings.push(pinner.finding("CPUs"));
        reasons.push(pinner.reason("CPUs"));
    } else if wants_cpus {
        decision.cpus = Rule::Enforce;
    }
    let kubelet = kubelet_pins_memory(observed).map(|evidence| Pinner::Kubelet("memoryManagerPolicy: None", evidence));
    let other = observed.desk.foreign.mems.clone().map(Pinner::Other);
    if let Some(pinner) = kubelet.or(other).filter(|_| wants_mems) {
        decision.mems = Rule::LeaveAlone;
        spec.memory_manager_policy = String::new();
        spec.reserved_memory.clear();
        decision.foreign_pinners.insert(pinner.kind());
        decision.findings.push(pinner.finding("memory"));
        reasons.push(pinner.reason("memory"));
    } else if wants_mems {
        decision.mems = Rule::Enforce;
    }
    if !reasons.is_empty() {
        decision.observe_only = Some(reasons.join("; "));
    }
    [decision.cpus, decision.mems].contains(&Rule::Enforce).then_some(spec)
}

/// Makes the managers for the CPUs that pods can use.
pub(super) fn start(spec: &ResourceManagersSpec, observed: &Observed) -> Result<ResourceManagers, StartError> {
    let config_error = |message: String| StartError { stage: StartStage::Config, message };
    let usable = observed.usable_cpus();
    let hardware = &observed.hardware;
    let cpus: Vec<_> = hardware.cpus.iter().filter(|info| usable.contains(info.cpu)).copied().collect();
    let machine = Machine::new(&cpus, hardware.nodes.clone(), hardware.sockets)
        .map_err(|error| config_error(format!("unable to discover CPU topology info: {error}")))?
        .with_isolated(&hardware.isolated);
    let beyond = spec.extensions;
    let cpu = CpuExtensions {
        annotations: beyond.pod_annotations,
        isolated: beyond.isolated_cpus,
        resize: beyond.resize_in_place,
    };
    let extensions = Extensions { wide_machines: beyond.wide_machines, cpu, strict_reservations: true };
    let config = ManagersConfig { kubelet: spec.clone(), extensions };
    ResourceManagers::start(&Arc::new(machine), Arc::new(config), Restored::default(), BTreeMap::new())
}

/// A container that is not created, because the runtime is answered so.
fn refuse_held(held: &HeldContainer) -> Refusal {
    let topology = RejectionReason::TopologyAffinity.as_str();
    Refusal {
        object: format!("{}/{}/{}", held.namespace, held.pod, held.container),
        wish: "to be created".into(),
        cause: if held.refused.reason == topology { Cause::Topology } else { Cause::Insufficient },
        detail: format!(
            "{}; the container runtime has been told so since {}, and the pod waits; free CPUs, ask for less, or relax the \
             topology policy",
            held.refused,
            humantime::format_rfc3339_seconds(held.since)
        ),
    }
}

fn refuse_start(error: &StartError) -> Refusal {
    let remedy = match error.stage {
        StartStage::Config => {
            "correct resourceManagers in the profile, or the CPUs that the node's cgroup grants to pods"
        }
        StartStage::TopologyManager => "correct topologyManagerPolicy, its scope and its options in the profile",
        StartStage::CpuManager | StartStage::CpuManagerStart => {
            "reserve CPUs that the machine has (reservedSystemCPUs, or cpu in kubeReserved or systemReserved) and check \
             cpuManagerPolicy and its options in the profile"
        }
        StartStage::MemoryManager | StartStage::MemoryManagerStart => {
            "let reservedMemory of all NUMA nodes add up to kubeReserved + systemReserved + evictionHard memory in the \
             profile"
        }
    };
    Refusal {
        object: MANAGERS.into(),
        wish: "static policies".into(),
        cause: Cause::InvalidValue,
        detail: format!("{error}; nothing is pinned or changed until you {remedy}"),
    }
}
