//! CRI-O: `crio.conf`, then every file below `crio.conf.d` by name, whatever its ending, then flags (crio(8);
//! `pkg/config/config.go`, `UpdateFromPath`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::{flag, read_text, toml};
use crate::ports::HostFiles;
use crate::ports::kubelet::RuntimeSettings;

const DEFAULT_CONFIG: &str = "/etc/crio/crio.conf";
const DEFAULT_DIRECTORY: &str = "/etc/crio/crio.conf.d";
/// Directories within directories that are looked into; nobody has that many.
const DEPTH: usize = 8;

/// Reads the configuration; nothing if there is none and no CRI-O runs.
pub(super) fn read(files: &dyn HostFiles, command: Option<&Vec<String>>, settings: &mut RuntimeSettings) {
    let config = flag(command, &["--config", "-c"]).unwrap_or(DEFAULT_CONFIG);
    let directory = flag(command, &["--config-dir", "-d"]).unwrap_or(DEFAULT_DIRECTORY);
    let mut paths = vec![PathBuf::from(config)];
    add_files(files, Path::new(directory), DEPTH, &mut paths);
    let mut merged = Map::new();
    let mut manager: Option<(String, String)> = None;
    let mut any = false;
    for path in paths {
        let Some(text) = read_text(files, &path, settings) else { continue };
        match toml::parse(&text) {
            Ok(root) => {
                any = true;
                if let Some(text) = toml::at(&root, &["crio", "runtime", "cgroup_manager"]).and_then(Json::as_str) {
                    manager = Some((text.to_owned(), path.display().to_string()));
                }
                toml::merge(&mut merged, root);
            }
            Err(error) => settings.problems.push(format!("{}: {error}", path.display())),
        }
    }
    if !any && command.is_none() {
        return;
    }
    handler_types(&merged, settings);
    if let Some(text) = flag(command, &["--cgroup-manager"]) {
        manager = Some((text.to_owned(), "command line of the running CRI-O".into()));
    }
    let (text, source) = manager.unwrap_or_else(|| ("systemd".into(), "default of CRI-O".into()));
    let driver = match text.as_str() {
        "systemd" => CgroupDriver::Systemd,
        "cgroupfs" => CgroupDriver::Cgroupfs,
        other => {
            return settings
                .problems
                .push(format!("{source}: cgroup_manager {other:?} is neither cgroupfs nor systemd"));
        }
    };
    let conmon = toml::at(&merged, &["crio", "runtime", "conmon_cgroup"]).and_then(Json::as_str).unwrap_or_default();
    if driver == CgroupDriver::Cgroupfs && conmon != "pod" {
        settings.problems.push(format!(
            "{source}: cgroup_manager cgroupfs needs conmon_cgroup = \"pod\" (it is {conmon:?}); CRI-O does not start so"
        ));
    }
    settings.drivers.push(Configured { component: Component::CriO, driver, source });
}

fn add_files(files: &dyn HostFiles, directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    for entry in files.list(directory).ok().flatten().unwrap_or_default() {
        let path = directory.join(&entry.name);
        match depth.checked_sub(1) {
            Some(depth) if entry.is_directory => add_files(files, &path, depth, paths),
            _ if entry.is_directory => {}
            _ => paths.push(path),
        }
    }
}

/// Types of the handlers: `oci` unless something else is said.
fn handler_types(merged: &Map<String, Json>, settings: &mut RuntimeSettings) {
    let kind = |runtime: &Json| {
        let kind = runtime.get("runtime_type").and_then(Json::as_str).unwrap_or_default();
        if kind.is_empty() { "oci".to_owned() } else { kind.to_owned() }
    };
    let runtimes = toml::at(merged, &["crio", "runtime", "runtimes"]).and_then(Json::as_object);
    let types = runtimes.into_iter().flatten().map(|(name, runtime)| (name.clone(), kind(runtime)));
    settings.handlers.0.extend(types);
    let default = toml::at(merged, &["crio", "runtime", "default_runtime"]).and_then(Json::as_str);
    if let Some(kind) = default.and_then(|name| settings.handlers.0.get(name).cloned()) {
        settings.handlers.0.insert(String::new(), kind);
    }
}
