//! Server-side apply: who owns which field, and what becomes of a field that its owner no longer names (KEP-555).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::status::Refused;

/// A step from a value to one below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    /// The element of a list whose key field has this value.
    Element(&'static str, String),
}

type Path = Vec<Step>;

/// The fields of each manager.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Owners(BTreeMap<String, BTreeSet<Path>>);

impl Owners {
    /// What `managedFields` would begin with.
    pub(super) fn managers(&self) -> Vec<Value> {
        let name = |manager: &String| manager.trim_end_matches(" (status)").to_owned();
        self.0.iter().map(|(manager, paths)| json!({"manager": name(manager), "fieldsV1": fields(paths)})).collect()
    }
}

/// Owned fields that are in no list.
fn fields(paths: &BTreeSet<Path>) -> Value {
    let mut all = json!({});
    for path in paths.iter().filter(|path| path.iter().all(|step| matches!(step, Step::Field(_)))) {
        let mut below = &mut all;
        for step in path {
            let Step::Field(name) = step else { continue };
            below = &mut below[format!("f:{name}")];
        }
        *below = json!({});
    }
    all
}

/// The field that tells the elements of a list apart; `None` for a list that is one value.
pub(super) fn list_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" | "addresses" => Some("type"),
        "taints" => Some("key"),
        "ownerReferences" => Some("uid"),
        "containers" | "zones" | "resources" | "costs" => Some("name"),
        _ => None,
    }
}

/// Never owned by anybody.
fn is_identity(path: &[Step]) -> bool {
    match path {
        [Step::Field(field)] => ["apiVersion", "kind"].contains(&field.as_str()),
        [Step::Field(metadata), Step::Field(field), ..] if metadata == "metadata" => {
            !["labels", "annotations", "ownerReferences", "finalizers"].contains(&field.as_str())
        }
        _ => false,
    }
}

fn leaves(value: &Value) -> BTreeMap<Path, Value> {
    fn walk(value: &Value, field: &str, path: &mut Path, out: &mut BTreeMap<Path, Value>) {
        match (value, list_key(field)) {
            (Value::Object(map), _) if !map.is_empty() => {
                for (name, value) in map {
                    path.push(Step::Field(name.clone()));
                    walk(value, name, path, out);
                    path.pop();
                }
            }
            (Value::Array(items), Some(key)) if items.iter().all(|item| item[key].is_string()) => {
                for item in items {
                    path.push(Step::Element(key, item[key].as_str().unwrap().to_owned()));
                    walk(item, "", path, out);
                    path.pop();
                }
            }
            _ if !is_identity(path) => {
                out.insert(path.clone(), value.clone());
            }
            _ => {}
        }
    }
    let mut out = BTreeMap::new();
    if !value.is_null() {
        walk(value, "", &mut Vec::new(), &mut out);
    }
    out
}

/// Gives what differs between the two to the manager.
pub(super) fn own_changes(owners: &mut Owners, manager: &str, before: &Value, after: &Value) {
    let (before, after) = (leaves(before), leaves(after));
    for (path, value) in &after {
        if before.get(path) != Some(value) {
            owners.0.values_mut().for_each(|paths| {
                paths.remove(path);
            });
            owners.0.entry(manager.to_owned()).or_default().insert(path.clone());
        }
    }
    for paths in owners.0.values_mut() {
        paths.retain(|path| after.contains_key(path));
    }
    owners.0.retain(|_, paths| !paths.is_empty());
}

/// The object after a manager has applied its fields.
pub(super) fn apply(
    live: &Value,
    owners: &mut Owners,
    manager: &str,
    config: &Value,
    force: bool,
) -> Result<Value, Refused> {
    let (wanted, have) = (leaves(config), leaves(live));
    let mut conflicts = Vec::new();
    for (other, paths) in owners.0.iter_mut().filter(|(other, _)| *other != manager) {
        for (path, value) in &wanted {
            if paths.contains(path) && have.get(path) != Some(value) {
                conflicts.push(format!("conflict with {other:?}: {}", show(path)));
                if force {
                    paths.remove(path);
                }
            }
        }
    }
    if !conflicts.is_empty() && !force {
        let message = format!("Apply failed with {} conflicts: {}", conflicts.len(), conflicts.join("; "));
        return Err(Refused::new(409, "Conflict", message));
    }
    let mut merged = live.clone();
    merge(&mut merged, config, "");
    let before = owners.0.remove(manager).unwrap_or_default();
    let owned_by_other = |path: &Path| owners.0.values().any(|paths| paths.contains(path));
    for path in before.iter().filter(|path| !wanted.contains_key(*path) && !owned_by_other(path)) {
        remove(&mut merged, path);
    }
    // What its applier does not name at all any more goes with all in it that nobody owns, as in
    // `sigs.k8s.io/structured-merge-diff` (`Updater.prune`); of a kubelet's Node that is what it registered with.
    for path in &before {
        let [Step::Field(_), Step::Field(_), _, ..] = path.as_slice() else { continue };
        let within = |other: &Path| other.starts_with(&path[..2]);
        if !wanted.keys().any(within) && !owners.0.values().flatten().any(within) {
            remove(&mut merged, &path[..2]);
        }
    }
    owners.0.insert(manager.to_owned(), wanted.into_keys().collect());
    owners.0.retain(|_, paths| !paths.is_empty());
    Ok(merged)
}

/// Merges maps by key and lists by their key fields; everything else is replaced.
pub(super) fn merge(into: &mut Value, from: &Value, field: &str) {
    match (from, list_key(field)) {
        (Value::Object(from), _) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            for (name, value) in from {
                merge(&mut into[name.as_str()], value, name);
            }
        }
        (Value::Array(items), Some(key)) if into.is_array() => {
            let list = into.as_array_mut().unwrap();
            for item in items {
                match list.iter_mut().find(|known| known[key] == item[key]) {
                    Some(known) => merge(known, item, ""),
                    None => list.push(item.clone()),
                }
            }
        }
        _ => into.clone_from(from),
    }
}

fn remove(value: &mut Value, path: &[Step]) {
    match path {
        [Step::Field(last)] => drop(value.as_object_mut().map(|map| map.shift_remove(last))),
        [Step::Field(field), rest @ ..] => {
            let Some(below) = value.get_mut(field) else { return };
            remove(below, rest);
            if below.as_object().is_some_and(Map::is_empty) || below.as_array().is_some_and(Vec::is_empty) {
                drop(value.as_object_mut().map(|map| map.shift_remove(field)));
            }
        }
        [Step::Element(key, wanted), rest @ ..] => {
            let Some(list) = value.as_array_mut() else { return };
            // Without its key an element is none, so what is left of it goes with the key.
            let whole = matches!(rest, [Step::Field(field)] if field == key);
            if whole {
                list.retain(|item| item[*key] != wanted.as_str());
            } else if let Some(item) = list.iter_mut().find(|item| item[*key] == wanted.as_str()) {
                remove(item, rest);
            }
        }
        [] => {}
    }
}

fn show(path: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Element(key, value) => format!("[{key}={value:?}]"),
    };
    path.iter().map(step).collect()
}
