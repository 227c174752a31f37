//! Pinning on a node in memory, through the real adapters.

mod cases;
mod churn;
mod desk;
mod explained;
mod laws;
mod live;
mod memory;
mod newcomer;
mod observe_only;
mod over_cri;
mod quota;
mod readback;
mod settings;
mod waiting;
mod writers;

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};

use crate::laws::{Pass, pass, texts};
use crate::support::fake_cgroups::FakeCgroups;

/// The agent, started anew on the node.
pub(crate) fn agent(node: &FakeCgroups) -> Pinning {
    Pinning::new(node.ports()).0
}

/// Static CPU policy with these reserved CPUs.
pub(crate) fn static_cpus(reserved: &str) -> NodeSpec {
    let managers = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: reserved.into(),
        ..ResourceManagersSpec::default()
    };
    NodeSpec { resource_managers: Some(managers), ..NodeSpec::default() }
}

/// One pass that must converge.
pub(crate) async fn converge(agent: &Pinning, spec: &NodeSpec) -> Pass<<Pinning as Subsystem>::Step> {
    let done = pass(agent, spec).await;
    let failures: Vec<&String> = done.failures.iter().map(|(_, cause)| cause).collect();
    assert!(failures.is_empty(), "steps failed: {failures:?} of {:?}", texts(&done.plan));
    assert!(done.left.is_empty(), "one pass left {:?} of {:?}", texts(&done.left), texts(&done.plan));
    done
}
