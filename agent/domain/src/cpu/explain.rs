//! Why a container has, or would get, these CPUs: the decision as data.

use super::select::{Offer, select};
use super::trace::{NodeShare, PickStep, Trace};
use super::{CpuClaim, CpuManager};
use crate::cpuset::CpuSet;
use crate::hint::TopologyHint;
use crate::placement::AllocationError;
use crate::workload::{Container, Pod};

/// One decision of the CPU manager, without its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuExplanation {
    /// Name of the container.
    pub container: String,
    /// What the container may claim.
    pub claim: CpuClaim,
    /// What it owns already. It is kept if it has the claimed size.
    pub owned: Option<CpuSet>,
    /// CPUs that were on offer; empty if nothing had to be chosen.
    pub offered: CpuSet,
    /// Those of them that earlier init containers of the pod own.
    pub reusable: CpuSet,
    /// The part inside the hinted nodes, which came first; absent without a hint.
    pub inside: Option<CpuSet>,
    /// What each NUMA node was to give, in an even distribution; else empty.
    pub shares: Vec<NodeShare>,
    /// What was taken, in order.
    pub steps: Vec<PickStep>,
    /// The CPUs that the container gets; those on which it runs if it owns none.
    pub cpus: CpuSet,
}

impl CpuManager {
    /// Tells what [`allocate`](Self::allocate) would do, and why; changes nothing.
    ///
    /// # Errors
    /// Those of [`allocate`](Self::allocate).
    pub fn explain(
        &self,
        pod: &Pod,
        container: &Container,
        hint: &TopologyHint,
    ) -> Result<CpuExplanation, AllocationError> {
        let mut after = self.clone();
        after.allocate(pod, container, hint)?;
        let claim = self.claim(pod, container)?;
        let owned = self.state.cpus_of(&pod.uid, &container.name).cloned();
        let cpus = match after.state.cpus_of(&pod.uid, &container.name) {
            Some(cpus) => cpus.clone(),
            None => after.runs_on(pod, container)?,
        };
        let mut explanation = CpuExplanation {
            container: container.name.clone(),
            claim,
            owned,
            offered: CpuSet::new(),
            reusable: CpuSet::new(),
            inside: None,
            shares: Vec::new(),
            steps: Vec::new(),
            cpus,
        };
        if let (Some(policy), None, 1..) = (&self.policy, &explanation.owned, claim.cpus()) {
            explanation.reusable = self.reuse.of(&pod.uid).clone();
            let mut trace = Trace::on();
            let offered = self.offered(policy, self.reuse.of(&pod.uid), claim.cpus(), hint.affinity);
            let offer = Offer { cpus: &offered, affinity: hint.affinity };
            select(&self.machine, offer, claim.cpus(), &policy.options, &mut trace)?;
            explanation.inside = offer.inside(&self.machine, &policy.options);
            (explanation.shares, explanation.steps) = (trace.shares, trace.steps);
            explanation.offered = offered;
        }
        Ok(explanation)
    }
}
