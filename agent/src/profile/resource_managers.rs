//! Section `resourceManagers`, with the kubelet's own field names and rules (KubeletConfiguration v1beta1, 1.36).

use std::collections::BTreeMap;
use std::time::Duration;

use trimtab_domain::cpu::IsolatedCpus;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::resource_managers::{ConfinementSpec, ManagerExtensionsSpec, ResourceManagersSpec};

use super::diagnostic::Diagnostic;
use super::reader::{Cursor, Object, Problems};
use super::{confinement, go_duration, manager_options, manager_rules, reservations};

const FIELDS: [&str; 17] = [
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "reservedSystemCPUs",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "memoryManagerPolicy",
    "reservedMemory",
    "kubeReserved",
    "systemReserved",
    "evictionHard",
    "enforceNodeAllocatable",
    "kubeReservedCgroup",
    "systemReservedCgroup",
    "featureGates",
    "extensions",
];
/// Fields of `extensions`: what the kubelet does not have.
const EXTENSIONS: [&str; 8] = [
    "wideMachines",
    "isolatedCPUs",
    "resizeInPlace",
    "podAnnotations",
    "liftCPUQuota",
    "migrateMemory",
    confinement::FIELDS[0],
    confinement::FIELDS[1],
];
/// Values of `isolatedCPUs`.
const ISOLATED_CPUS: [(&str, IsolatedCpus); 3] = [
    ("Ordinary", IsolatedCpus::Ordinary),
    ("ExclusiveOnly", IsolatedCpus::ExclusiveOnly),
    ("Untouched", IsolatedCpus::Untouched),
];
/// Values of `enforceNodeAllocatable`.
const ENFORCEMENTS: [&str; 6] =
    ["pods", "kube-reserved", "system-reserved", "kube-reserved-compressible", "system-reserved-compressible", "none"];
/// Gates that change what the managers do, with the value of those that are locked.
const GATES: [(&str, Option<bool>); 13] = [
    ("CPUManagerPolicyOptions", Some(true)),
    ("CPUManagerPolicyBetaOptions", None),
    ("CPUManagerPolicyAlphaOptions", None),
    ("TopologyManagerPolicyOptions", Some(true)),
    ("TopologyManagerPolicyBetaOptions", None),
    ("TopologyManagerPolicyAlphaOptions", None),
    ("DisableCPUQuotaWithExclusiveCPUs", None),
    ("CPUCFSQuotaPeriod", None),
    ("InPlacePodVerticalScaling", Some(true)),
    ("InPlacePodVerticalScalingExclusiveCPUs", None),
    ("InPlacePodVerticalScalingExclusiveMemory", None),
    ("PodLevelResources", None),
    ("PodLevelResourceManagers", None),
];
/// Gates of older kubelets; the managers are always there now.
const REMOVED_GATES: [&str; 3] = ["CPUManager", "MemoryManager", "TopologyManager"];

/// Fields: the kubelet's, with its defaults; an absent section means that nothing is pinned.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<ResourceManagersSpec> {
    let before = problems.errors.len();
    let section = section.object(&FIELDS, problems)?;
    let mut spec = ResourceManagersSpec::default();
    read_policies(&section, &mut spec, problems);
    if let Some(cursor) = section.field("featureGates") {
        spec.feature_gates = read_gates(&cursor, problems);
    }
    if let Some(cursor) = section.field("cpuManagerPolicyOptions") {
        let gates = &spec.feature_gates;
        let static_policy = spec.cpu_manager_policy == "static";
        spec.cpu_manager_policy_options = manager_options::read_cpu(&cursor, static_policy, gates, problems);
    }
    if let Some(cursor) = section.field("topologyManagerPolicyOptions") {
        spec.topology_manager_policy_options = manager_options::read_topology(&cursor, problems);
    }
    if let Some(cursor) = section.field("cpuManagerReconcilePeriod") {
        let allowed = "a duration such as 10s; 0s means 10s";
        let period = go_duration::read(&cursor, Duration::ZERO, allowed, problems).filter(|period| !period.is_zero());
        spec.cpu_manager_reconcile_period = period.unwrap_or(ResourceManagersSpec::DEFAULT_RECONCILE_PERIOD);
    }
    if let Some(cursor) = section.field("extensions") {
        (spec.extensions, spec.confinement) = read_extensions(&cursor, problems);
    }
    read_reservations(&section, &mut spec, problems);
    // Rules that join fields make sense only over fields that are sound by themselves.
    if problems.errors.len() == before {
        manager_rules::check(&section, &spec, problems);
    }
    Some(spec)
}

fn read_extensions(cursor: &Cursor<'_>, problems: &mut Problems) -> (ManagerExtensionsSpec, ConfinementSpec) {
    let mut extensions = ManagerExtensionsSpec::default();
    let Some(section) = cursor.object(&EXTENSIONS, problems) else {
        return (extensions, ConfinementSpec::default());
    };
    let mut read = |name: &str| section.field(name).and_then(|cursor| cursor.boolean(problems));
    extensions.wide_machines = read("wideMachines").unwrap_or(false);
    extensions.resize_in_place = read("resizeInPlace").unwrap_or(false);
    extensions.lift_cpu_quota = read("liftCPUQuota");
    extensions.pod_annotations = read("podAnnotations").unwrap_or(false);
    extensions.migrate_memory = read("migrateMemory").unwrap_or(false);
    let names = ISOLATED_CPUS.map(|(name, _)| name);
    let chosen = section.field("isolatedCPUs").and_then(|cursor| cursor.choice(&names, problems));
    let isolated = ISOLATED_CPUS.iter().find(|(name, _)| Some(*name) == chosen);
    extensions.isolated_cpus = isolated.map_or(IsolatedCpus::Ordinary, |(_, isolated)| *isolated);
    let confinement = confinement::read(&section, problems);
    (extensions, confinement)
}

fn read_policies(section: &Object<'_>, spec: &mut ResourceManagersSpec, problems: &mut Problems) {
    let mut read = |name: &str, words: &[&'static str], field: &mut String| {
        if let Some(word) = section.field(name).and_then(|cursor| cursor.choice(words, problems)) {
            word.clone_into(field);
        }
    };
    read("cpuManagerPolicy", &["none", "static"], &mut spec.cpu_manager_policy);
    read("memoryManagerPolicy", &["None", "Static"], &mut spec.memory_manager_policy);
    let topology = ["none", "best-effort", "restricted", "single-numa-node"];
    read("topologyManagerPolicy", &topology, &mut spec.topology_manager_policy);
    read("topologyManagerScope", &["container", "pod"], &mut spec.topology_manager_scope);
}

fn read_reservations(section: &Object<'_>, spec: &mut ResourceManagersSpec, problems: &mut Problems) {
    if let Some(cursor) = section.field("reservedSystemCPUs") {
        spec.reserved_system_cpus = read_cpus(&cursor, problems);
    }
    if let Some(cursor) = section.field("reservedMemory") {
        spec.reserved_memory = reservations::read_reserved_memory(&cursor, problems);
    }
    if let Some(cursor) = section.field("kubeReserved") {
        spec.kube_reserved = reservations::read_reserved(&cursor, problems);
    }
    if let Some(cursor) = section.field("systemReserved") {
        spec.system_reserved = reservations::read_reserved(&cursor, problems);
    }
    if let Some(cursor) = section.field("evictionHard") {
        spec.eviction_hard = reservations::read_eviction(&cursor, problems);
    }
    if let Some(cursor) = section.field("enforceNodeAllocatable") {
        spec.enforce_node_allocatable = read_enforcements(&cursor, problems);
    }
    for (name, field) in [
        ("kubeReservedCgroup", &mut spec.kube_reserved_cgroup),
        ("systemReservedCgroup", &mut spec.system_reserved_cgroup),
    ] {
        if let Some(cgroup) = section.field(name).and_then(|cursor| read_cgroup(&cursor, problems)) {
            cgroup.clone_into(field);
        }
    }
}

/// A CPU list; kept as written, the managers read it again.
fn read_cpus(cursor: &Cursor<'_>, problems: &mut Problems) -> String {
    let allowed = "a CPU list such as 0-1,8";
    let Some(text) = cursor.text(allowed, problems) else { return String::new() };
    if let Err(error) = CpuSet::parse(text) {
        let message = format!("unable to parse reservedSystemCPUs: {error}");
        problems.refuse(cursor.problem(message).allowed(allowed));
    }
    text.to_owned()
}

fn read_enforcements(cursor: &Cursor<'_>, problems: &mut Problems) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let items = cursor.list(&format!("a list of {}", ENFORCEMENTS.join(", ")), problems).unwrap_or_default();
    for item in &items {
        let Some(word) = item.choice(&ENFORCEMENTS, problems) else { continue };
        if words.iter().any(|known| known == word) {
            problems.refuse(item.problem("listed twice").allowed("each word once"));
        }
        words.push(word.to_owned());
    }
    words
}

fn read_cgroup<'a>(cursor: &Cursor<'a>, problems: &mut Problems) -> Option<&'a str> {
    let allowed = "a cgroup such as /system.slice";
    let name = cursor.text(allowed, problems)?;
    let escapes = name.split('/').any(|part| part == ".." || part == ".");
    if escapes || name.contains("//") || !name.chars().all(|c| c.is_ascii_graphic()) {
        problems.refuse(cursor.problem("not a cgroup").allowed(allowed));
        return None;
    }
    Some(name)
}

fn read_gates(cursor: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, bool> {
    let mut gates = BTreeMap::new();
    for item in cursor.mapping("a mapping of gates to true or false", problems).unwrap_or_default() {
        let Some(value) = item.value.boolean(problems) else { continue };
        let at_key = |message: String| Diagnostic::at(item.key_at, item.value.path(), message);
        match GATES.iter().find(|(gate, _)| *gate == item.key) {
            Some((gate, Some(locked))) if *locked != value => {
                let message = format!("cannot set feature gate {gate} to {value}, feature is locked to {locked}");
                problems.refuse(at_key(message).allowed(locked.to_string()));
            }
            Some((gate, _)) => {
                gates.insert((*gate).to_owned(), value);
            }
            None if REMOVED_GATES.contains(&item.key) => {
                problems.warn(at_key(format!("feature gate {} is no more: the manager is always there", item.key)));
            }
            None => {
                let names = || GATES.iter().map(|(gate, _)| *gate);
                let message = format!("unrecognized feature gate: {:?}", super::reader::short(item.key));
                let allowed = names().collect::<Vec<_>>().join(", ");
                problems.refuse(at_key(message).allowed(allowed).suggest(item.key, names()));
            }
        }
    }
    gates
}
