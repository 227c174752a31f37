//! Why a pod was put where it is, or refused: the opinions, what they came to, and the reason, as data.

use super::{Assignment, Rejection};
use crate::hint::{HintList, MergedHint, ProviderHints, TopologyPolicy, TopologyScope};
use crate::workload::ResourceName;

/// The whole story of one admission, without its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Policy that decided.
    pub policy: TopologyPolicy,
    /// What was looked at together.
    pub scope: TopologyScope,
    /// One merge per container, or one for the pod, in order; none under policy `none`. A refusal ends the list.
    pub merges: Vec<MergeExplanation>,
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
    /// Per resource.
    pub hints: ProviderHints,
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
    /// A container, by name.
    Container(&'a str),
    /// The whole pod.
    Pod,
}

impl Explanation {
    pub(super) fn new(policy: TopologyPolicy, scope: TopologyScope) -> Self {
        Self { policy, scope, merges: Vec::new(), assignments: Vec::new(), rejection: None }
    }

    pub(super) fn note_merge(&mut self, subject: Explained<'_>, opinions: &[ProviderHints], merged: MergedHint) {
        let container = match subject {
            Explained::Container(name) => Some(name.to_owned()),
            Explained::Pod => None,
        };
        let why = reason(opinions, merged);
        let opinions = Provider::ORDER.into_iter().zip(opinions);
        let opinions = opinions.filter(|(_, hints)| !hints.is_empty());
        let opinions = opinions.map(|(provider, hints)| ProviderOpinion { provider, hints: hints.clone() }).collect();
        self.merges.push(MergeExplanation { container, opinions, merged, why });
    }
}

/// Why the merge of these opinions came to this.
fn reason(opinions: &[ProviderHints], merged: MergedHint) -> MergeReason {
    let resources = || opinions.iter().flat_map(ProviderHints::resources);
    let opinionated = || {
        resources().filter_map(|resource| match &resource.hints {
            HintList::Any => None,
            HintList::Masks(list) => Some((&resource.resource, list)),
        })
    };
    let named = |keep: &dyn Fn(&[crate::hint::TopologyHint]) -> bool| -> Vec<ResourceName> {
        opinionated().filter(|(_, list)| keep(list)).map(|(name, _)| name.clone()).collect()
    };
    if opinionated().next().is_none() {
        return MergeReason::NoOpinion;
    }
    if merged.hint.preferred {
        return MergeReason::Agreed;
    }
    let impossible = named(&|list| list.is_empty());
    if !impossible.is_empty() {
        return MergeReason::Impossible(impossible);
    }
    let crowded = named(&|list| list.iter().all(|hint| !hint.preferred));
    if !crowded.is_empty() {
        return MergeReason::Crowded(crowded);
    }
    let agree = opinionated().next().is_some_and(|(_, first)| {
        let preferred = |list: &[crate::hint::TopologyHint], hint| list.contains(hint);
        first.iter().filter(|hint| hint.preferred).any(|hint| opinionated().all(|(_, list)| preferred(list, hint)))
    });
    if agree { MergeReason::TooWide } else { MergeReason::Disagreed(named(&|_| true)) }
}
