//! Policy options of the CPU and topology managers, by the kubelet's rules and words.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::reader::{Cursor, Item, Problems};

/// Gate that must be on for an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ga,
    /// `CPUManagerPolicyBetaOptions`, on by default.
    Beta,
    /// `CPUManagerPolicyAlphaOptions`, off by default.
    Alpha,
}

/// Options of the static CPU policy in 1.36.
const CPU_OPTIONS: [(&str, Stage); 6] = [
    ("full-pcpus-only", Stage::Ga),
    ("strict-cpu-reservation", Stage::Ga),
    ("prefer-align-cpus-by-uncorecache", Stage::Ga),
    ("distribute-cpus-across-numa", Stage::Beta),
    ("align-by-socket", Stage::Alpha),
    ("distribute-cpus-across-cores", Stage::Alpha),
];
/// Pairs that cannot both be true.
const CPU_CONFLICTS: [(&str, &str); 4] = [
    ("full-pcpus-only", "distribute-cpus-across-cores"),
    ("distribute-cpus-across-numa", "distribute-cpus-across-cores"),
    ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-cores"),
    ("prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa"),
];
/// Options of the topology manager.
const TOPOLOGY_OPTIONS: [&str; 2] = ["prefer-closest-numa-nodes", "max-allowable-numa-nodes"];
/// What Go's `ParseBool` takes.
const BOOLEANS: [&str; 12] = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
/// Smallest value of `max-allowable-numa-nodes`, and its default.
const DEFAULT_NUMA_NODES: u32 = 8;

/// `cpuManagerPolicyOptions`.
pub(super) fn read_cpu(
    cursor: &Cursor<'_>,
    static_policy: bool,
    gates: &BTreeMap<String, bool>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let items = cursor.mapping("a mapping of options to \"true\" or \"false\"", problems).unwrap_or_default();
    let names = CPU_OPTIONS.map(|(name, _)| name);
    let gate = |name: &str, default: bool| gates.get(name).copied().unwrap_or(default);
    let mut options = BTreeMap::new();
    for item in &items {
        let Some((_, stage)) = CPU_OPTIONS.iter().find(|(name, _)| *name == item.key) else {
            refuse_unknown("CPU Manager Policy", item, &names, problems);
            continue;
        };
        let closed = match stage {
            Stage::Alpha if !gate("CPUManagerPolicyAlphaOptions", false) => Some("Alpha"),
            Stage::Beta if !gate("CPUManagerPolicyBetaOptions", true) => Some("Beta"),
            _ => None,
        };
        if let Some(level) = closed {
            let message =
                format!("CPU Manager Policy {level}-level Options not enabled, but option {:?} provided", item.key);
            let allowed = format!("only with featureGates: {{CPUManagerPolicy{level}Options: true}}");
            problems.refuse(Diagnostic::at(item.key_at, item.value.path(), message).allowed(allowed));
        }
        if let Some(text) = read_boolean(item, problems) {
            options.insert(item.key.to_owned(), text.to_owned());
        }
    }
    let on = |name: &str| options.get(name).is_some_and(|text| text.starts_with(['1', 't', 'T']));
    for (first, second) in CPU_CONFLICTS.into_iter().filter(|(first, second)| on(first) && on(second)) {
        let message = format!("static policy options {first} and {second} can not be used at the same time");
        problems.refuse(cursor.problem(message).allowed("one of the two"));
    }
    if !static_policy && !items.is_empty() {
        let message = "None policy: received unsupported options";
        problems.refuse(cursor.problem(message).allowed("options with cpuManagerPolicy: static alone"));
    }
    options
}

/// `topologyManagerPolicyOptions`.
pub(super) fn read_topology(cursor: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for item in cursor.mapping("a mapping of options to texts", problems).unwrap_or_default() {
        let text = match item.key {
            "prefer-closest-numa-nodes" => read_boolean(&item, problems),
            "max-allowable-numa-nodes" => read_node_limit(&item, problems),
            _ => {
                refuse_unknown("Topology Manager Policy", &item, &TOPOLOGY_OPTIONS, problems);
                None
            }
        };
        if let Some(text) = text {
            options.insert(item.key.to_owned(), text.to_owned());
        }
    }
    options
}

fn read_boolean<'a>(item: &Item<'a>, problems: &mut Problems) -> Option<&'a str> {
    let text = item.value.text("\"true\" or \"false\"", problems)?;
    if !BOOLEANS.contains(&text) {
        let message = format!("bad value for option {:?}", item.key);
        problems.refuse(item.value.problem(message).allowed("\"true\" or \"false\""));
        return None;
    }
    Some(text)
}

fn read_node_limit<'a>(item: &Item<'a>, problems: &mut Problems) -> Option<&'a str> {
    let allowed = "a number in quotes, at least 8";
    let text = item.value.text(allowed, problems)?;
    match text.parse::<u32>() {
        Err(_) => {
            let message = format!("unable to convert policy option to integer {:?}", item.key);
            problems.refuse(item.value.problem(message).allowed(allowed));
            None
        }
        Ok(limit) if limit < DEFAULT_NUMA_NODES => {
            let message = format!("the minimum value of {:?} should not be less than 8", item.key);
            problems.refuse(item.value.problem(message).allowed(allowed));
            None
        }
        Ok(limit) => {
            if limit > DEFAULT_NUMA_NODES {
                let message = "more than 8 NUMA nodes: the search for an alignment takes time that grows exponentially";
                problems.warn(item.value.problem(message));
            }
            Some(text)
        }
    }
}

fn refuse_unknown(manager: &str, item: &Item<'_>, names: &[&'static str], problems: &mut Problems) {
    let message = format!("unknown {manager} option: {:?}", super::reader::short(item.key));
    let unknown = Diagnostic::at(item.key_at, item.value.path(), message);
    problems.refuse(unknown.allowed(names.join(", ")).suggest(item.key, names.iter().copied()));
}
