//! containerd: configuration versions 1 to 4, with imports (containerd `cmd/containerd/server/config`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::{flag, read_text, toml};
use crate::ports::HostFiles;
use crate::ports::kubelet::RuntimeSettings;

const DEFAULT_PATH: &str = "/etc/containerd/config.toml";
/// Handler of pods without a RuntimeClass, unless `default_runtime_name` says otherwise.
const DEFAULT_HANDLER: &str = "runc";
/// Most files that one configuration may import.
const MAX_FILES: usize = 256;
/// Names of the CRI plugin in file versions 1, 2, and 3 and later.
const PLUGINS: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// One file, reduced to what matters: the table of the CRI plugin.
struct File {
    path: PathBuf,
    version: i64,
    plugin: Option<Map<String, Json>>,
}

/// Reads the configuration that the running daemon was given, or the default one.
pub(super) fn read(files: &dyn HostFiles, command: Option<&Vec<String>>, settings: &mut RuntimeSettings) {
    let path = flag(command, &["--config", "-c"]).unwrap_or(DEFAULT_PATH);
    let loaded = load(files, Path::new(path), settings);
    if loaded.is_empty() && command.is_none() {
        return;
    }
    let version = loaded.first().map_or(2, |file| file.version);
    for file in loaded.iter().filter(|file| file.version > version) {
        settings.problems.push(format!(
            "{} has version {} although {path}, which imports it, has version {version}; containerd does not start so",
            file.path.display(),
            file.version
        ));
    }
    let deep = handlers(&loaded, Merge::Deep);
    let whole = handlers(&loaded, Merge::WholePlugins);
    if version < 3 && deep != whole {
        settings.problems.push(format!(
            "the imports of {path} mean one thing to containerd 1.x, which replaces whole plugin tables, and another to \
             2.x, which merges them; shown is 1.x"
        ));
    }
    settings.drivers.extend(if version < 3 { whole } else { deep });
}

/// All files in the order in which containerd merges them: breadth first, each once.
fn load(files: &dyn HostFiles, main: &Path, settings: &mut RuntimeSettings) -> Vec<File> {
    let (mut loaded, mut seen) = (Vec::new(), BTreeSet::new());
    let mut pending = VecDeque::from([main.to_owned()]);
    while let Some(path) = pending.pop_front() {
        if loaded.len() >= MAX_FILES || !seen.insert(path.clone()) {
            continue;
        }
        let Some(text) = read_text(files, &path, settings) else {
            if path != main {
                settings.problems.push(format!("{} is imported and does not exist", path.display()));
            }
            continue;
        };
        let root = match toml::parse(&text) {
            Ok(root) => root,
            Err(error) => {
                settings.problems.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let imports = toml::at(&root, &["imports"]).and_then(Json::as_array);
        for pattern in imports.into_iter().flatten().filter_map(Json::as_str) {
            pending.extend(resolve(files, &path, pattern));
        }
        loaded.push(reduce(path, &root, settings));
    }
    loaded
}

/// Name of the CRI plugin in a file of this version.
pub(super) fn plugin_of(version: i64) -> &'static str {
    match version {
        1 => PLUGINS[0],
        2 => PLUGINS[1],
        _ => PLUGINS[2],
    }
}

/// Keeps the table of the CRI plugin that this version reads, and tells of those that it ignores.
fn reduce(path: PathBuf, root: &Map<String, Json>, settings: &mut RuntimeSettings) -> File {
    let version = root.get("version").and_then(Json::as_i64).unwrap_or(1);
    let name = plugin_of(version);
    if !(1..=4).contains(&version) {
        settings.problems.push(format!("{} has version {version}; 1 to 4 are known", path.display()));
    }
    for ignored in PLUGINS.iter().filter(|plugin| **plugin != name) {
        if toml::at(root, &["plugins", ignored, "containerd", "runtimes"]).is_some() {
            settings.problems.push(format!(
                "{}: plugins.{ignored:?} is ignored in a file of version {version}, which reads plugins.{name:?}",
                path.display()
            ));
        }
    }
    let plugin = toml::at(root, &["plugins", name]).and_then(Json::as_object).cloned();
    if plugin.as_ref().is_some_and(|plugin| plugin.get("systemd_cgroup") == Some(&Json::Bool(true))) {
        settings.problems.push(format!(
            "{}: systemd_cgroup of the plugin is for a runtime that is gone; set SystemdCgroup in the handler's options",
            path.display()
        ));
    }
    File { path, version, plugin }
}

/// How an imported file changes the plugin's table.
#[derive(Clone, Copy, PartialEq)]
enum Merge {
    /// containerd 1.x: replaces it.
    WholePlugins,
    /// containerd 2.0 and later: key by key.
    Deep,
}

fn handlers(loaded: &[File], how: Merge) -> Vec<Configured> {
    let mut merged = Map::new();
    // The last file that speaks of a handler's switch is its source.
    let mut sources = BTreeMap::<String, String>::new();
    for file in loaded {
        let Some(plugin) = &file.plugin else { continue };
        if how == Merge::WholePlugins {
            merged.clear();
            sources.clear();
        }
        let runtimes = toml::at(plugin, &["containerd", "runtimes"]).and_then(Json::as_object);
        for (name, runtime) in runtimes.into_iter().flatten() {
            if runtime.get("options").and_then(|options| options.get("SystemdCgroup")).is_some() {
                sources.insert(name.clone(), file.path.display().to_string());
            }
        }
        toml::merge(&mut merged, plugin.clone());
    }
    let default = toml::at(&merged, &["containerd", "default_runtime_name"]).and_then(Json::as_str);
    let default = default.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_HANDLER);
    let mut runtimes = match toml::at(&merged, &["containerd", "runtimes"]) {
        Some(Json::Object(runtimes)) => runtimes.clone(),
        _ => Map::new(),
    };
    if runtimes.is_empty() {
        runtimes.insert(DEFAULT_HANDLER.into(), Json::Object(Map::new()));
    }
    let mut found: Vec<_> =
        runtimes.iter().filter_map(|(name, runtime)| handler(name, runtime, default, &sources)).collect();
    found.sort_by(|a, b| a.component.cmp(&b.component));
    found
}

/// The switch of one handler; `None` if its runtime is no runc and has no such switch.
fn handler(name: &str, runtime: &Json, default: &str, sources: &BTreeMap<String, String>) -> Option<Configured> {
    let kind = runtime.get("runtime_type").and_then(Json::as_str).unwrap_or_default();
    let switch = runtime.get("options").and_then(|options| options.get("SystemdCgroup")).and_then(Json::as_bool);
    if switch.is_none() && !kind.is_empty() && !kind.starts_with("io.containerd.runc.") {
        return None;
    }
    let driver = if switch == Some(true) { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    let source = sources.get(name).cloned().unwrap_or_else(|| "default of containerd".into());
    Some(Configured {
        component: Component::Containerd { handler: name.to_owned(), default: name == default },
        driver,
        source,
    })
}

/// The files that an import names: absolute, relative to the importing file, or a glob in the last component.
fn resolve(files: &dyn HostFiles, from: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = match from.parent() {
        Some(parent) if !pattern.starts_with('/') => parent.join(pattern),
        _ => PathBuf::from(pattern),
    };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![path];
    }
    let entries = files.list(directory).ok().flatten().unwrap_or_default();
    let matching = entries.into_iter().filter(|entry| !entry.is_directory && matches(name, &entry.name));
    matching.map(|entry| directory.join(entry.name)).collect()
}

/// `*` and `?` as in a shell.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = pattern.get(1..).unwrap_or_default();
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| matches(rest, name.get(at..).unwrap_or_default()))
        }
        (Some('?'), Some(c)) => {
            matches(pattern.get(1..).unwrap_or_default(), name.get(c.len_utf8()..).unwrap_or_default())
        }
        (Some(p), Some(c)) if p == c => {
            matches(pattern.get(p.len_utf8()..).unwrap_or_default(), name.get(c.len_utf8()..).unwrap_or_default())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("*", "x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxayyb", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
