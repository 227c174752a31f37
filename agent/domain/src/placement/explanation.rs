//! Why a pod was put where it is, or refused: the opinions, what they came to, and the reason, as data.

use super::{Assignment, Rejection};
use crate::cpu::CpuExplanation;
use crate::hint::{
    self, Demand, HintList, MergedHint, NumaMask, Opinion, ProviderHints, ResourceHints, TopologyHint, TopologyPolicy,
    TopologyScope,
};
use crate::workload::{Container, Pod, ResourceName};

/// The whole story of one admission, without its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Policy that decided.
    pub policy: TopologyPolicy,
    /// What was looked at together.
    pub scope: TopologyScope,
    /// One merge per container, or one for the pod, in order; none under policy `none`. A refusal ends the list.
    pub merges: Vec<MergeExplanation>,
    /// Why each container would have its CPUs, in order; not for pods with resources of their own, which are served as a
    /// whole. A refusal ends the list.
    pub cpus: Vec<CpuExplanation>,
    /// What the containers of the pod would have: those that own or are bound to something.
    pub assignments: Vec<Assignment>,
    /// Why the pod would be refused; absent if it would be admitted.
    pub rejection: Option<Rejection>,
}

/// One merge of hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeExplanation {
    /// Name of the container; absent for a whole pod.
    pub container: Option<String>,
    /// What each provider said, in the order in which they were asked. A provider without an opinion says nothing.
    pub opinions: Vec<ProviderOpinion>,
    /// What it came to.
    pub merged: MergedHint,
    /// Why it is preferred, or why not.
    pub why: MergeReason,
}

/// What one provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderOpinion {
    /// Who.
    pub provider: Provider,
    /// One for each resource.
    pub resources: Vec<ResourceOpinion>,
}

/// What a provider said of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceOpinion {
    /// The node sets that would do, one by one.
    Hints(ResourceHints),
    /// The same as a condition, on machines with too many nodes for a list.
    Demand(Demand),
    /// It cannot be had.
    Impossible(ResourceName),
}

/// Who gives hints, and allocates; in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// Device plugins.
    Devices,
    /// The CPU manager.
    Cpu,
    /// The memory manager.
    Memory,
}

impl Provider {
    /// The providers in the order in which they are asked.
    pub const ORDER: [Self; 3] = [Self::Devices, Self::Cpu, Self::Memory];
}

/// Why a merged hint is preferred or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeReason {
    /// No provider has an opinion: anywhere will do.
    NoOpinion,
    /// Every resource that has an opinion prefers the same nodes.
    Agreed,
    /// These resources cannot be had at all, for instance because a container would change what it already has.
    Impossible(Vec<ResourceName>),
    /// These resources could be had, but not on as few nodes as an empty machine would need: others are in the way.
    Crowded(Vec<ResourceName>),
    /// Each resource has nodes that it prefers, but no node set is preferred by all of these.
    Disagreed(Vec<ResourceName>),
    /// The nodes agree, but they are more than the policy allows (`single-numa-node`).
    TooWide,
}

/// What a merge was made for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Explained<'a> {
    /// A container of a pod.
    Container(&'a Pod, &'a Container),
    /// The whole pod.
    Pod(&'a Pod),
}

/// What the providers said, in the order in which they were asked.
pub(super) enum Said {
    /// As lists.
    Hints([ProviderHints; 3]),
    /// As conditions.
    Demands([Vec<Opinion>; 3]),
}

impl Explanation {
    pub(super) fn new(policy: TopologyPolicy, scope: TopologyScope) -> Self {
        Self { policy, scope, merges: Vec::new(), cpus: Vec::new(), assignments: Vec::new(), rejection: None }
    }

    pub(super) fn note_merge(&mut self, subject: Explained<'_>, said: Said, merged: MergedHint) {
        let container = match subject {
            Explained::Container(_, container) => Some(container.name.clone()),
            Explained::Pod(_) => None,
        };
        let resources: [Vec<ResourceOpinion>; 3] = match said {
            Said::Hints(hints) => {
                hints.map(|hints| hints.resources().iter().cloned().map(ResourceOpinion::Hints).collect())
            }
            Said::Demands(demands) => demands.map(|demands| demands.into_iter().map(ResourceOpinion::from).collect()),
        };
        let why = reason(&resources.concat(), merged);
        let opinions = Provider::ORDER.into_iter().zip(resources);
        let opinions = opinions.filter(|(_, resources)| !resources.is_empty());
        let opinions = opinions.map(|(provider, resources)| ProviderOpinion { provider, resources }).collect();
        self.merges.push(MergeExplanation { container, opinions, merged, why });
    }
}

impl From<Opinion> for ResourceOpinion {
    fn from(opinion: Opinion) -> Self {
        match opinion {
            Opinion::Impossible(resource) => Self::Impossible(resource),
            Opinion::Sets(demand) => Self::Demand(demand),
        }
    }
}

impl ResourceOpinion {
    /// The resource.
    #[must_use]
    pub const fn resource(&self) -> &ResourceName {
        match self {
            Self::Hints(hints) => &hints.resource,
            Self::Demand(demand) => &demand.resource,
            Self::Impossible(resource) => resource,
        }
    }

    /// True if any nodes will do.
    fn is_any(&self) -> bool {
        matches!(self, Self::Hints(hints) if hints.hints == HintList::Any)
    }

    fn is_impossible(&self) -> bool {
        match self {
            Self::Hints(hints) => matches!(&hints.hints, HintList::Masks(list) if list.is_empty()),
            Self::Demand(_) => false,
            Self::Impossible(_) => true,
        }
    }

    /// True if some node set is preferred.
    fn has_preferred(&self) -> bool {
        match self {
            Self::Hints(hints) => hints.hints.as_slice().iter().any(|hint| hint.preferred),
            Self::Demand(demand) => demand.best_containing(NumaMask::EMPTY).is_some_and(|(_, preferred)| preferred),
            Self::Impossible(_) => false,
        }
    }

    /// True if exactly these nodes are preferred.
    fn prefers(&self, hint: &TopologyHint) -> bool {
        match self {
            Self::Hints(hints) => hints.hints == HintList::Any || hints.hints.as_slice().contains(hint),
            Self::Demand(demand) => hint.affinity.is_some_and(|mask| demand.allows(mask) && demand.prefers(mask)),
            Self::Impossible(_) => false,
        }
    }
}

/// Why the merge of these opinions came to this.
fn reason(resources: &[ResourceOpinion], merged: MergedHint) -> MergeReason {
    let opinionated: Vec<&ResourceOpinion> = resources.iter().filter(|resource| !resource.is_any()).collect();
    let named = |keep: &dyn Fn(&ResourceOpinion) -> bool| -> Vec<ResourceName> {
        opinionated.iter().filter(|resource| keep(resource)).map(|resource| resource.resource().clone()).collect()
    };
    if opinionated.is_empty() {
        return MergeReason::NoOpinion;
    }
    if merged.hint.preferred {
        return MergeReason::Agreed;
    }
    let impossible = named(&ResourceOpinion::is_impossible);
    if !impossible.is_empty() {
        return MergeReason::Impossible(impossible);
    }
    let crowded = named(&|resource| !resource.has_preferred());
    if !crowded.is_empty() {
        return MergeReason::Crowded(crowded);
    }
    // Only `single-numa-node` refuses nodes on which all agree.
    let demands = opinionated.iter().filter_map(|resource| match resource {
        ResourceOpinion::Demand(demand) => Some(Opinion::Sets(demand.clone())),
        _ => None,
    });
    let demands: Vec<Opinion> = demands.collect();
    let in_hints = |resource: &ResourceOpinion| match resource {
        ResourceOpinion::Hints(hints) => {
            let mut preferred = hints.hints.as_slice().iter().filter(|hint| hint.preferred);
            preferred.any(|hint| opinionated.iter().all(|resource| resource.prefers(hint)))
        }
        _ => false,
    };
    let agreed = if demands.is_empty() { resources.iter().any(in_hints) } else { hint::agree(&demands) };
    if agreed { MergeReason::TooWide } else { MergeReason::Disagreed(named(&|_| true)) }
}
