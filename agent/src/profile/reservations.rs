//! The parts of `resourceManagers` that hold amounts: reservations, memory per NUMA node, eviction thresholds.

use std::collections::{BTreeMap, BTreeSet};

use trimtab_domain::quantity::Quantity;
use trimtab_domain::spec::resource_managers::ReservedMemory;

use super::diagnostic::Diagnostic;
use super::reader::{Cursor, Problems, short};

/// What `kubeReserved` and `systemReserved` may name.
const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
/// Signals of hard eviction (KubeletConfiguration v1beta1).
const SIGNALS: [&str; 8] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];
/// How an amount looks.
const QUANTITY: &str = "a quantity such as 500m, 2 or 1Gi";

/// `kubeReserved`, `systemReserved`: resource to quantity.
pub(super) fn read_reserved(cursor: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut reserved = BTreeMap::new();
    for item in cursor.mapping("a mapping of resources to quantities", problems).unwrap_or_default() {
        if !RESERVABLE.contains(&item.key) {
            let unknown = Diagnostic::at(
                item.key_at,
                item.value.path(),
                format!("cannot reserve {:?} resource", short(item.key)),
            );
            problems.refuse(unknown.allowed(RESERVABLE.join(", ")).suggest(item.key, RESERVABLE));
        }
        if let Some((text, _)) = read_quantity(&item.value, problems) {
            reserved.insert(item.key.to_owned(), text);
        }
    }
    reserved
}

/// `reservedMemory`: list of `{numaNode, limits}`.
pub(super) fn read_reserved_memory(cursor: &Cursor<'_>, problems: &mut Problems) -> Vec<ReservedMemory> {
    let mut seen = BTreeSet::new();
    let mut nodes = Vec::new();
    for item in cursor.list("a list of {numaNode, limits}", problems).unwrap_or_default() {
        let Some(entry) = item.object(&["numaNode", "limits"], problems) else { continue };
        let node = entry.required("numaNode", "a NUMA node", problems);
        let node = node.and_then(|cursor| cursor.integer(0, MAX_NUMA_NODE, problems));
        let node = node.and_then(|node| u32::try_from(node).ok());
        let limits = entry.required("limits", "a mapping of memory types to quantities", problems);
        let limits = limits.and_then(|cursor| cursor.mapping("a mapping of memory types to quantities", problems));
        let (Some(node), Some(limits)) = (node, limits) else { continue };
        let mut reserved = ReservedMemory { numa_node: node, limits: BTreeMap::new() };
        for limit in limits {
            let name = limit.key;
            let at_key = |message: String| Diagnostic::at(limit.key_at, limit.value.path(), message);
            if name != "memory" && !is_huge_page_resource(name) {
                let kind = format!("the limit type {name:?} for NUMA node {node} is not supported");
                problems.refuse(at_key(kind).allowed("memory, hugepages-<HugePageSize>").suggest(name, ["memory"]));
                continue;
            }
            let Some((text, amount)) = read_quantity(&limit.value, problems) else { continue };
            if amount.is_zero() {
                let zero = format!("reserved memory may not be zero for NUMA node {node} and resource {name:?}");
                problems.refuse(limit.value.problem(zero).allowed("an amount above zero, or no entry"));
            }
            if !seen.insert((node, name)) {
                let twice =
                    format!("the reserved memory has a duplicate value for NUMA node {node} and resource {name:?}");
                problems.refuse(at_key(twice).allowed("each resource once per node"));
            }
            reserved.limits.insert(name.to_owned(), text);
        }
        nodes.push(reserved);
    }
    nodes
}

/// `evictionHard`: signal to quantity or percentage.
pub(super) fn read_eviction(cursor: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut thresholds = BTreeMap::new();
    for item in cursor.mapping("a mapping of signals to thresholds", problems).unwrap_or_default() {
        if !SIGNALS.contains(&item.key) {
            let unknown = Diagnostic::at(item.key_at, item.value.path(), "unknown eviction signal")
                .found(format!("{:?}", short(item.key)));
            problems.refuse(unknown.allowed(SIGNALS.join(", ")).suggest(item.key, SIGNALS));
            continue;
        }
        if let Some(text) = read_threshold(&item.value, problems) {
            thresholds.insert(item.key.to_owned(), text);
        }
    }
    thresholds
}

/// Highest NUMA node id of any kernel build.
const MAX_NUMA_NODE: u64 = 1023;

fn read_threshold(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let allowed = "a quantity such as 100Mi, or a percentage from 0% to 100%";
    let Some(percent) = cursor.raw().strip_suffix('%') else {
        return read_quantity(cursor, problems).map(|(text, _)| text);
    };
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = Some(percent).filter(|text| digits(text)).and_then(|text| text.parse::<f32>().ok());
    if value.is_none_or(|value| !(0.0..=100.0).contains(&value)) {
        problems.refuse(cursor.problem("not a threshold").allowed(allowed));
        return None;
    }
    Some(cursor.raw().to_owned())
}

/// An amount of zero or more, with its text.
fn read_quantity(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<(String, Quantity)> {
    let text = cursor.quantity_text(QUANTITY, problems)?;
    match Quantity::parse(text) {
        Ok(amount) if amount.is_negative() => {
            problems.refuse(cursor.problem("below zero").allowed(QUANTITY));
            None
        }
        Ok(amount) => Some((text.to_owned(), amount)),
        Err(_) => {
            problems.refuse(cursor.problem("not a quantity").allowed(QUANTITY).hint(quantity_hint(text)));
            None
        }
    }
}

/// The suffix that was probably meant.
fn quantity_hint(text: &str) -> String {
    let stem = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.trim().strip_prefix(stem).unwrap_or("").to_ascii_lowercase();
    let meant = match suffix.as_str() {
        "kb" | "kib" | "ki" => "Ki",
        "mb" | "mib" | "mi" => "Mi",
        "gb" | "gib" | "gi" | "g" => "Gi",
        "tb" | "tib" | "ti" => "Ti",
        _ => return String::new(),
    };
    format!("did you mean \"{stem}{meant}\"?")
}

fn is_huge_page_resource(name: &str) -> bool {
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    size.is_some_and(|size| !size.is_zero() && !size.is_negative())
}
