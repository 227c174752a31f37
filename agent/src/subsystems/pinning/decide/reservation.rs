//! Reserved CPUs that are offline.
//!
//! A kubelet does not start with one and does not notice one while it runs. Here what is pinned stays pinned and goes on
//! being held with what is left of the reservation; a number that the machine does not have at all is refused as ever.

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::ResourceManagersSpec;

use super::{Decision, MANAGERS, Rule};
use crate::subsystems::pinning::facts::Observed;
use crate::subsystems::pinning::placement_record::Holding;

/// Leaves the CPUs that are offline out of `reservedSystemCPUs`. If none is left, one that nobody owns stands in for them,
/// because containers without CPUs of their own need a place that nobody can ever own.
pub(super) fn replace_offline(spec: &mut ResourceManagersSpec, observed: &Observed, decision: &mut Decision) {
    let Ok(listed) = CpuSet::parse(&spec.reserved_system_cpus) else { return };
    let offline = listed.intersection(&observed.hardware.offline);
    if offline.is_empty() || decision.cpus != Rule::Enforce {
        return;
    }
    let mut left = listed.difference(&offline);
    let mut instead = String::new();
    if left.is_empty() {
        let free = observed.usable_cpus().difference(&owned(observed));
        // Without one the refusal of the managers tells.
        let Some(stand_in) = free.iter().next() else { return };
        left = CpuSet::from_iter([stand_in]);
        instead = format!(", and CPU {stand_in}, which nobody owns, stands in for them");
    }
    spec.reserved_system_cpus = left.to_string();
    decision.findings.push(Finding {
        severity: Severity::Warning,
        code: "reserved-cpus-offline",
        object: MANAGERS.into(),
        message: format!("reserved CPUs {offline} are offline{instead}; what is pinned stays so"),
        remedy: "bring them back online, or reserve others in the profile".into(),
    });
}

/// CPUs that containers own as far as the desk or the ledger knows.
fn owned(observed: &Observed) -> CpuSet {
    let mut owned = CpuSet::new();
    observed.desk.places.iter().filter_map(|place| place.cpus.as_ref()).for_each(|cpus| owned.insert_all(cpus));
    for (_, holding) in observed.records.values().filter_map(Holding::from_record) {
        holding.cpus.iter().for_each(|cpus| owned.insert_all(cpus));
    }
    owned
}
