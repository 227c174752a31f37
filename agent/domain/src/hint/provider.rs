//! What one hint provider (devices, CPU, memory) says about a container or a pod.

use std::sync::Arc;

use super::TopologyHint;
use crate::workload::ResourceName;

/// The opinion of one provider, per resource; empty means that the provider has none at all.
///
/// Resources keep the order in which they were added; the merge does not depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderHints {
    resources: Vec<ResourceHints>,
}

/// The opinion of one provider on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceHints {
    /// For instance `cpu` or `hugepages-2Mi`.
    pub resource: ResourceName,
    /// Where it could come from.
    pub hints: HintList,
}

/// Where one resource could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintList {
    /// No preference: any nodes will do.
    Any,
    /// These node sets; an empty list means that the resource cannot be had at all.
    ///
    /// Shared, because all memory types of a container have the same list.
    Masks(Arc<[TopologyHint]>),
}

impl ProviderHints {
    /// No opinion on anything.
    pub const NO_OPINION: Self = Self { resources: Vec::new() };

    /// An opinion on a single resource.
    #[must_use]
    pub fn single(resource: ResourceName, hints: HintList) -> Self {
        Self { resources: vec![ResourceHints { resource, hints }] }
    }

    /// The resource can be had nowhere: an empty list, which is not the same as no opinion.
    #[must_use]
    pub fn impossible(resource: ResourceName) -> Self {
        Self::single(resource, HintList::impossible())
    }

    /// Adds the opinion on one more resource.
    pub fn push(&mut self, resource: ResourceName, hints: HintList) {
        self.resources.push(ResourceHints { resource, hints });
    }

    /// The opinions, resource by resource.
    #[must_use]
    pub fn resources(&self) -> &[ResourceHints] {
        &self.resources
    }

    /// True if the provider has no opinion on anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

impl HintList {
    /// The empty list: cannot be satisfied.
    #[must_use]
    pub fn impossible() -> Self {
        Self::Masks(Arc::from([]))
    }

    /// The hints as the merge sees them: one hint stands for "no preference", and one for "impossible".
    #[must_use]
    pub fn as_slice(&self) -> &[TopologyHint] {
        match self {
            Self::Any => &[TopologyHint::ANY],
            Self::Masks(list) if list.is_empty() => &[TopologyHint::NONE],
            Self::Masks(list) => list,
        }
    }
}

impl From<Vec<TopologyHint>> for HintList {
    fn from(hints: Vec<TopologyHint>) -> Self {
        Self::Masks(hints.into())
    }
}
