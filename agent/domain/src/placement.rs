//! The admission of pods: which CPUs, which memory, on which NUMA nodes, or why not.
//!
//! [`ResourceManagers`] holds everything that has been given out. [`admit`] is the pure form of an admission.

mod adopt;
mod assignment;
mod config;
mod explanation;
mod hints;
mod managers;
mod pipeline;
mod provider;
mod rejection;
mod replan;
mod stepwise;
#[cfg(test)]
mod tests;
mod view;

pub use assignment::{Assignment, Conflict};
pub use config::{Extensions, ManagersConfig};
pub use explanation::{Explanation, MergeExplanation, MergeReason, Provider, ProviderOpinion, ResourceOpinion};
pub use managers::{Refused, ResourceManagers, Restored};
pub use rejection::{AllocationError, Rejection, RejectionReason, StartError, StartStage};
pub use replan::{Move, MoveReason, Replan, Running, Stuck, replan, replan_running};

use std::sync::Arc;

use crate::workload::Pod;

/// Admits a pod: the managers with the pod in its place, or why it is refused; `placements` stays as it is.
///
/// The machine and the policy are those the managers were started with.
///
/// # Errors
/// [`Rejection`], in the words of the kubelet.
pub fn admit(placements: &ResourceManagers, pod: &Arc<Pod>) -> Result<ResourceManagers, Rejection> {
    let mut next = placements.clone();
    match next.admit(pod) {
        Ok(()) => Ok(next),
        Err(refused) => Err(refused.rejection),
    }
}
