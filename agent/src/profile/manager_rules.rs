//! Rules of the kubelet that join several fields of `resourceManagers`. Those that need the machine (is a reserved CPU
//! online, does a NUMA node exist) are the managers' own.

use std::collections::BTreeMap;

use trimtab_domain::allocatable::interrupt::InterruptCpus;
use trimtab_domain::quantity::Quantity;
use trimtab_domain::spec::resource_managers::ResourceManagersSpec;

use super::diagnostic::Diagnostic;
use super::reader::{Object, Problems};

/// Checks a section whose fields are all sound by themselves.
pub(super) fn check(section: &Object<'_>, spec: &ResourceManagersSpec, problems: &mut Problems) {
    let mut refuse = |field: &str, message: String, allowed: &str| {
        let problem = Diagnostic::at(section.position_of(field), section.path_of(field), message);
        problems.refuse(problem.allowed(allowed));
    };
    let kube_cgroup = !spec.kube_reserved_cgroup.is_empty();
    let system_cgroup = !spec.system_reserved_cgroup.is_empty();
    if !spec.reserved_system_cpus.is_empty() && (kube_cgroup || system_cgroup) {
        let message = "can't use reservedSystemCPUs with systemReservedCgroup or kubeReservedCgroup".to_owned();
        refuse("reservedSystemCPUs", message, "one of the two");
    }
    if spec.cpu_manager_policy == "static" && !reserves_cpu(spec) {
        let message = "the static policy requires systemReserved.cpu + kubeReserved.cpu to be greater than zero";
        refuse("cpuManagerPolicy", message.to_owned(), "static with reservedSystemCPUs or a reservation of cpu");
    }
    let enforced = |word: &str| spec.enforce_node_allocatable.iter().any(|found| found == word);
    let enforcement = "enforceNodeAllocatable";
    if enforced("none") && spec.enforce_node_allocatable.len() > 1 {
        refuse(enforcement, "none stands beside other words".to_owned(), "none alone");
    }
    for (word, cgroup, present) in [
        ("kube-reserved", "kubeReservedCgroup", kube_cgroup),
        ("system-reserved", "systemReservedCgroup", system_cgroup),
    ] {
        let compressible = format!("{word}-compressible");
        if enforced(word) && enforced(&compressible) {
            refuse(enforcement, format!("{word} and {compressible} exclude each other"), "one of the two");
        }
        if (enforced(word) || enforced(&compressible)) && !present {
            refuse(enforcement, format!("{word} without {cgroup}"), &format!("{word} together with {cgroup}"));
        }
    }
    let confined = !spec.confinement.cgroups.is_empty() || spec.confinement.interrupts == InterruptCpus::Reserved;
    if confined && spec.reserved_system_cpus.is_empty() {
        let message = "confineSystem and interruptCPUs: Reserved need CPUs that are reserved by name";
        refuse("extensions", message.to_owned(), "together with reservedSystemCPUs");
    }
    if spec.memory_manager_policy == "Static" {
        check_memory(spec, &mut refuse);
    }
}

fn reserves_cpu(spec: &ResourceManagersSpec) -> bool {
    let amount = |reserved: &BTreeMap<String, String>| quantity(reserved, "cpu").is_some_and(|cpu| !cpu.is_zero());
    !spec.reserved_system_cpus.is_empty() || amount(&spec.kube_reserved) || amount(&spec.system_reserved)
}

/// The sum over all NUMA nodes must be what the node keeps back (`validateReservedMemory` of the memory manager).
fn check_memory(spec: &ResourceManagersSpec, refuse: &mut impl FnMut(&str, String, &str)) {
    let field = "reservedMemory";
    let mut totals: BTreeMap<&str, Quantity> = BTreeMap::new();
    for (name, text) in spec.reserved_memory.iter().flat_map(|node| &node.limits) {
        let Ok(amount) = Quantity::parse(text) else { continue };
        let total = totals.entry(name).or_insert(Quantity::ZERO);
        *total = total.checked_add(&amount).unwrap_or(*total);
    }
    let reserved = totals.get("memory").copied().unwrap_or(Quantity::ZERO);
    if reserved.is_zero() {
        let allowed = "memory of at least one NUMA node with memoryManagerPolicy: Static";
        refuse(field, "you should specify the system reserved memory".to_owned(), allowed);
        return;
    }
    for (name, total) in totals.iter().filter(|(name, _)| **name != "memory") {
        let message = format!(
            "the total amount \"{total}\" of type \"{name}\" is not equal to the value \"0\" determined by Node \
             Allocatable feature"
        );
        refuse(field, message, "memory alone: kubeReserved and systemReserved cannot name huge pages");
    }
    let eviction = spec.eviction_hard.get("memory.available").map_or("0", String::as_str);
    // A percentage needs the machine's memory, which is the manager's to know.
    let Ok(threshold) = Quantity::parse(eviction) else { return };
    let parts = [quantity(&spec.kube_reserved, "memory"), quantity(&spec.system_reserved, "memory"), Some(threshold)];
    let kept = parts.into_iter().flatten().try_fold(Quantity::ZERO, |sum, part| sum.checked_add(&part));
    if let Some(kept) = kept.filter(|kept| *kept != reserved) {
        let message = format!(
            "the total amount \"{reserved}\" of type \"memory\" is not equal to the value \"{kept}\" determined by Node \
             Allocatable feature"
        );
        refuse(field, message, "kubeReserved + systemReserved + evictionHard memory.available");
    }
}

fn quantity(reserved: &BTreeMap<String, String>, name: &str) -> Option<Quantity> {
    reserved.get(name).and_then(|text| Quantity::parse(text).ok())
}
