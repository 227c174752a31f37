//! The layers of a KubeletConfiguration, merged as RFC 7396 says, with the source of each field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ports::HostFiles;

/// Deepest directory below `--config-dir` that is followed.
const MAX_DEPTH: usize = 8;

/// The merged configuration.
#[derive(Debug, Default)]
pub(super) struct Layers {
    merged: Map<String, Value>,
    /// Every value that a top-level field had, with its source, in the order of the layers.
    history: BTreeMap<String, Vec<(Value, String)>>,
    sources: Vec<String>,
}

impl Layers {
    /// Adds a file that must be there.
    pub(super) fn add_file(&mut self, files: &dyn HostFiles, path: &str, problems: &mut Vec<String>) {
        match files.read(Path::new(path)) {
            Ok(Some(text)) => self.add_text(&text, path, problems),
            Ok(None) => problems.push(format!("{path} does not exist although the kubelet is told to read it")),
            Err(error) => problems.push(format!("{error}: {}", error.source)),
        }
    }

    /// Adds every `*.conf` below the directory, in the order of the paths.
    pub(super) fn add_directory(&mut self, files: &dyn HostFiles, directory: &str, problems: &mut Vec<String>) {
        let mut paths = Vec::new();
        collect(files, Path::new(directory), 0, &mut paths, problems);
        paths.sort();
        for path in paths {
            self.add_file(files, &path.display().to_string(), problems);
        }
    }

    /// Adds fields of the command line.
    pub(super) fn add_fields(&mut self, fields: Map<String, Value>, source: &str) {
        if fields.is_empty() {
            return;
        }
        self.sources.push(source.to_owned());
        for (name, value) in fields {
            self.note(&name, value, source);
        }
    }

    fn add_text(&mut self, text: &str, path: &str, problems: &mut Vec<String>) {
        let layer = match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(layer)) => layer,
            Ok(Value::Null) => Map::new(),
            Ok(_) => return problems.push(format!("{path} holds no KubeletConfiguration")),
            Err(error) => {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                return problems.push(format!("{path} is no YAML: {first}"));
            }
        };
        match layer.get("kind").and_then(Value::as_str) {
            Some("KubeletConfiguration") => {}
            kind => {
                let kind = kind.unwrap_or("none");
                return problems
                    .push(format!("{path} has kind {kind}, not KubeletConfiguration; the kubelet refuses it"));
            }
        }
        self.sources.push(path.to_owned());
        for (name, value) in layer {
            self.merge(&name, value, path);
        }
    }

    fn merge(&mut self, name: &str, value: Value, source: &str) {
        let merged = self.merged.get(name).cloned().unwrap_or(Value::Null);
        self.note(name, merge_patch(merged, value), source);
    }

    fn note(&mut self, name: &str, value: Value, source: &str) {
        if value.is_null() {
            // The built-in default is back.
            self.merged.remove(name);
            self.history.remove(name);
            return;
        }
        self.merged.insert(name.to_owned(), value.clone());
        self.history.entry(name.to_owned()).or_default().push((value, source.to_owned()));
    }

    /// The value in force; empty texts count as absent, as the kubelet's defaulting has it.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.merged.get(name).filter(|value| value.as_str() != Some(""))
    }

    /// The value in force as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).and_then(Value::as_str).map(str::to_owned)
    }

    /// Where the value in force is set.
    pub(super) fn source(&self, name: &str) -> Option<&str> {
        self.value(name)?;
        self.history.get(name)?.last().map(|(_, source)| source.as_str())
    }

    /// All values that the field had, as text, from the weakest to the strongest layer.
    pub(super) fn history(&self, name: &str) -> Vec<(String, String)> {
        let values = self.history.get(name).into_iter().flatten();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        values.map(|(value, source)| (text(value), source.clone())).filter(|(text, _)| !text.is_empty()).collect()
    }

    /// Files and command lines that were merged, in order.
    pub(super) fn sources(&self) -> &[String] {
        &self.sources
    }
}

/// RFC 7396: objects by key, `null` deletes, everything else replaces.
fn merge_patch(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            let old = target.remove(&name).unwrap_or(Value::Null);
            target.insert(name, merge_patch(old, value));
        }
    }
    Value::Object(target)
}

fn collect(
    files: &dyn HostFiles,
    directory: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    problems: &mut Vec<String>,
) {
    let entries = match files.list(directory) {
        Ok(entries) => entries.unwrap_or_default(),
        Err(error) => return problems.push(format!("{error}: {}", error.source)),
    };
    for entry in entries {
        let path = directory.join(&entry.name);
        if entry.is_directory && depth < MAX_DEPTH {
            collect(files, &path, depth + 1, paths, problems);
        } else if !entry.is_directory && entry.name.ends_with(".conf") {
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_follow_rfc_7396() {
        let rows = [
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            (json!({}), json!({"a": null}), json!({})),
        ];
        for (target, patch, expected) in rows {
            assert_eq!(merge_patch(target, patch.clone()), expected, "{patch}");
        }
    }
}
